"""The models that are exchanged: this file is imported under our interpreter and under mlflow's.

Their classes are local to functions, so pickles hold them by value, as they do a notebook's.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TABLE = pd.DataFrame(
    {
        "age": [21.0, 35.5, 48.0, 62.0, 29.0, 51.0],
        "visits": [1, 4, 2, 8, 3, 5],
        "city": ["Bern", "Oslo", "Bern", "Rome", "Oslo", "Rome"],
    }
)
NUMBERS = TABLE[["age", "visits"]]
TARGET = np.array([1.5, 2.0, 3.5, 5.0, 2.5, 4.5])
LABELS = np.array(["low", "low", "high", "high", "low", "high"])
TEXTS = ["What a lovely day!", "This is terrible.", "It is a table."]


def estimators():
    """Scikit-learn models by name, each with the data to predict and further options of saving."""
    columns = ColumnTransformer([("numbers", StandardScaler(), ["age", "visits"]), ("city", OneHotEncoder(), ["city"])])
    scaled = make_pipeline(StandardScaler(), LogisticRegression())
    forest = RandomForestRegressor(5, random_state=0)
    return {
        "linear": (LinearRegression().fit(NUMBERS, TARGET), NUMBERS, {"serialization_format": "cloudpickle"}),
        "pickle": (LinearRegression().fit(NUMBERS, TARGET), NUMBERS, {"serialization_format": "pickle"}),
        "columns": (
            make_pipeline(columns, Ridge()).fit(TABLE, TARGET),
            TABLE,
            {"serialization_format": "cloudpickle"},
        ),
        "classifier": (scaled.fit(NUMBERS, LABELS), NUMBERS, {"serialization_format": "cloudpickle"}),
        "array": (
            LinearRegression().fit(NUMBERS.to_numpy(), TARGET),
            NUMBERS.to_numpy(),
            {"serialization_format": "cloudpickle"},
        ),
        "skops": (LinearRegression().fit(NUMBERS, TARGET), NUMBERS, {"serialization_format": "skops"}),
        "skops_forest": (
            forest.fit(NUMBERS, TARGET),
            NUMBERS,
            {"serialization_format": "skops", "skops_trusted_types": ["sklearn.tree._tree.Tree"]},
        ),
    }


def python_models(base, folder: Path):
    """Python models by name, each with data, params and further options of saving."""
    weights = folder / "weights.json"
    weights.write_text(json.dumps({"age": 0.5, "visits": 2.0}))
    module = folder / f"{folder.parent.name.replace('-', '_')}_code.py"
    module.write_text("def double(values):\n    return [2 * value for value in values]\n")

    class Weighted(base):
        def load_context(self, context):
            self.weights = json.loads(Path(context.artifacts["weights"]).read_text())
            self.offset = (context.model_config or {}).get("offset", 0)

        def predict(self, context, model_input, params=None):
            total = sum(model_input[name] * weight for name, weight in self.weights.items())
            return (total * params["scale"] + self.offset).tolist()

    class Sentiment(base):
        def load_context(self, context):
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

            self.analyzer = SentimentIntensityAnalyzer()

        def predict(self, context, model_input):
            texts = model_input.iloc[:, 0] if isinstance(model_input, pd.DataFrame) else model_input
            return [self.analyzer.polarity_scores(text)["compound"] for text in texts]

    class WithCode(base):
        def __init__(self, module_name):
            self.module_name = module_name

        def predict(self, model_input):
            import importlib

            return importlib.import_module(self.module_name).double(model_input["visits"].tolist())

    def largest(model_input):
        return model_input.max(axis=1)

    return {
        "weighted": (Weighted(), NUMBERS, {"scale": 2.0}, {"artifacts": {"weights": str(weights)}}),
        "configured": (
            Weighted(),
            NUMBERS,
            {"scale": 0.5},
            {"artifacts": {"weights": str(weights)}, "model_config": {"offset": 10}},
        ),
        "sentiment": (Sentiment(), pd.DataFrame({"text": TEXTS}), None, {}),
        "code": (WithCode(module.stem), NUMBERS, None, {"code_paths": [str(module)]}),
        "function": (largest, NUMBERS.to_numpy(), None, {}),
    }


def plain(prediction):
    """A prediction as JSON values that are equal wherever it was made."""
    if hasattr(prediction, "to_dict"):
        prediction = prediction.to_dict("list") if isinstance(prediction, pd.DataFrame) else prediction.tolist()
    if hasattr(prediction, "tolist"):
        prediction = prediction.tolist()
    if isinstance(prediction, dict):
        return {str(name): plain(each) for name, each in prediction.items()}
    if isinstance(prediction, list):
        return [plain(each) for each in prediction]
    return round(prediction, 9) if isinstance(prediction, float) else prediction
