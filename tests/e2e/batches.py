"""The real `turnout predict`, and models for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import registry

MODEL_SOURCE = """
import os, signal, time
import pandas

class Scaled(Base):
    def predict(self, context, model_input, params=None):
        return model_input["x"] * params["factor"] + params["offset"]

class Described(Base):
    def predict(self, context, model_input, params=None):
        pairs = zip(model_input["grape"], model_input["acid"])
        return [None if x != x else f"{'no grape' if pandas.isna(grape) else grape} {x}" for grape, x in pairs]

class Several(Base):
    def predict(self, context, model_input, params=None):
        low, high = model_input["x"] - 1, model_input["x"] + 1
        return pandas.DataFrame({"low": low, "high": high, "label": ["a, \\"b\\"" if x > 0.5 else None for x in low]})

class Later(Base):
    def predict(self, context, model_input, params=None):
        return (model_input["at"] + pandas.Timedelta(days=1)).rename("later")

class Acting(Base):
    # Does what the first row's column `do` says, and answers with the number in `x`.
    def predict(self, context, model_input, params=None):
        for word, x in zip(model_input["do"], model_input["x"]):
            if word == "raise":
                raise ValueError("bad luck")
            if word == "print":
                print("the model says hello")
            if word == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "die once" and not os.path.exists(params["marker"]):
                open(params["marker"], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            if word == "wait":
                open(params["marker"], "w").close()
                while os.path.exists(params["marker"]):
                    time.sleep(0.01)
        if word == "pid":
            time.sleep(0.3)
            return [os.getpid()] * len(model_input)
        return model_input["x"].tolist()
"""


def python_model(name):
    """An instance of one of the classes above, which travels inside its pickle."""
    namespace = {"__name__": "__main__", "Base": registry.PythonModel}
    exec(MODEL_SOURCE, namespace)
    return namespace[name]()


def turnout_predict(folder: Path, *arguments: object, **attributes) -> subprocess.Popen:
    """The command, started in *folder*."""
    command = [sys.executable, "-m", "gateway", "predict", "--cache", str(folder / "cache"), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(registry.__file__).parents[1])}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **(pipes | attributes))


def write(frame: pandas.DataFrame, path: Path) -> None:
    """The frame as a file of the format that the name says."""
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        records = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
        path.write_text("".join(json.dumps(each, default=str) + "\n" for each in records))
    else:
        frame.to_parquet(path, index=False)


def read(path: Path) -> pandas.DataFrame:
    """Such a file as a frame."""
    if path.suffix == ".csv":
        return pandas.read_csv(path)
    if path.suffix == ".jsonl":
        return pandas.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    return pandas.read_parquet(path)


def _pipeline():
    features, target = load_wine(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, target)
    return model, features[[*features.columns[::-1]]], None  # by name, so in any order


def _labels():
    features, target = load_wine(return_X_y=True, as_frame=True)
    labels = target.map({0: "barolo", 1: "grignolino", 2: "barbera"})
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(features, labels), features, None


def _regression():
    features, target = load_diabetes(return_X_y=True, as_frame=True)
    return RandomForestRegressor(5, random_state=0).fit(features, target), features, None


def _nulls():
    frame = pandas.DataFrame(
        {"grape": ["a", None, 'it\'s, "b"\nand c', "é"] * 25, "acid": [1.0, 2.0, None, 1e-300] * 25}
    )
    return python_model("Described"), frame, None


def _several():
    return python_model("Several"), pandas.DataFrame({"x": [0.5, 1.5, 2.5] * 40}), None


def _later():
    return python_model("Later"), pandas.DataFrame({"at": pandas.date_range("2026-01-01", periods=99, freq="h")}), None


def _params():
    frame = pandas.DataFrame({"x": [float(each) for each in range(99)]})
    return python_model("Scaled"), frame, {"factor": 2.5, "offset": 1}


# Name to a function that gives a model, rows for it and params.
MODELS = {
    "pipeline": _pipeline,
    "labels": _labels,
    "regression": _regression,
    "nulls": _nulls,
    "several": _several,
    "datetimes": _later,
    "params": _params,
}


def save(name: str, path: Path) -> tuple[pandas.DataFrame, dict | None]:
    """Save one of these models with its signature; its rows and params."""
    model, frame, params = MODELS[name]()
    output = pandas.DataFrame({"later": [pandas.Timestamp(0)]}) if name == "datetimes" else None
    known = frame
    if name in ("pipeline", "labels", "regression"):
        known = frame[list(model.feature_names_in_)]
        output = model.predict(known)
    signature = registry.infer_signature(known, output, params)
    registry.save_model(path, model, signature=signature)
    return frame, params
