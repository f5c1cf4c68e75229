"""Runs under mlflow's interpreter: saves every model with mlflow, and predicts with those that we saved.

Arguments: the folder to save in, the folder that holds ours, our loader's file, the formats that this mlflow
knows. Writes JSON: the predictions with the models of each folder, by mlflow and (some) by our loader.
"""

import importlib.util
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import List  # noqa: UP035 (mlflow reads it)

import mlflow
import models
import yaml

logging.disable(logging.WARNING)
warnings.simplefilter("ignore")

REQUIREMENTS = ["scikit-learn", "pandas"]  # inferring them takes mlflow five seconds a model


def save(folder: Path, formats: "list[str]"):
    inputs = {}
    for name, (model, data, options) in models.estimators().items():
        if options["serialization_format"] in formats:
            signature = mlflow.models.infer_signature(data, model.predict(data))
            options |= {"signature": signature, "input_example": data, "pip_requirements": REQUIREMENTS}
            mlflow.sklearn.save_model(model, folder / name, **options)
            inputs[name] = (data, None)
    for name, (model, data, params, options) in models.python_models(mlflow.pyfunc.PythonModel, folder).items():
        signature = mlflow.models.infer_signature(data, params=params)
        options |= {"signature": signature, "pip_requirements": REQUIREMENTS}
        mlflow.pyfunc.save_model(folder / name, python_model=model, **options)
        inputs[name] = (data, params)
    return inputs


def predict(folder: Path, name: str, data, params):
    try:
        return models.plain(mlflow.pyfunc.load_model(str(folder / name)).predict(data, params=params))
    except Exception as problem:
        return {"failed": f"{type(problem).__name__}: {problem}"}


class Hinted(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: List[str]) -> List[str]:  # noqa: UP006
        return [text.upper() for text in model_input]


def load_by_our_loader(loader: Path, folder: Path):
    spec = importlib.util.spec_from_file_location("<loader>", loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    mlmodel = yaml.safe_load((folder / "MLmodel").read_text())
    return module.load(str(folder), {**mlmodel, "signature": None})


def main(theirs: Path, ours: Path, loader: Path, formats: "list[str]"):
    inputs = save(theirs, formats)
    mlflow.sklearn.save_model(models.estimators()["linear"][0], theirs / "default", pip_requirements=REQUIREMENTS)
    mlflow.pyfunc.save_model(theirs / "hinted", python_model=Hinted(), pip_requirements=REQUIREMENTS)
    answers = {
        "theirs": {name: predict(theirs, name, *each) for name, each in inputs.items()},
        "ours": {name: predict(ours, name, *each) for name, each in inputs.items()},
        "by_our_loader": {
            "hinted": load_by_our_loader(loader, theirs / "hinted").predict(["a", "b"]),
            "linear": models.plain(load_by_our_loader(loader, theirs / "linear").predict(inputs["linear"][0])),
        },
    }
    Path(theirs, "answers.json").write_text(json.dumps(answers))


main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
