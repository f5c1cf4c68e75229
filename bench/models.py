"""The models that are measured: trained in moments on the diabetes data, some broken on purpose."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import cloudpickle
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

import registry

# Broken models travel by value: no server has this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

FEATURES, TARGET = load_diabetes(as_frame=True, return_X_y=True)


def linear(shift: float = 0.0) -> Any:
    """A linear regression whose predictions are higher by *shift*."""
    return LinearRegression().fit(FEATURES, TARGET + shift)


def forest() -> Any:
    """A random forest of 100 trees."""
    return RandomForestRegressor(100, random_state=0).fit(FEATURES, TARGET)


def save(path: Path, model: Any) -> None:
    """Write a model directory with a signature and an input example."""
    registry.save_model(
        path,
        model,
        signature=registry.infer_signature(FEATURES, TARGET.to_numpy()),
        input_example=FEATURES.head(2),
    )


def request_body(rows: int) -> str:
    """The first *rows* of the data as an MLflow scoring request."""
    table = FEATURES.head(rows)
    return json.dumps({"dataframe_split": {"columns": list(table.columns), "data": table.values.tolist()}})


def v2_request_body(rows: int) -> str:
    """The same as an Open Inference Protocol request; with an id, since answers to one without carry a random one."""
    table = FEATURES.head(rows)
    tensor = {
        "name": "input",
        "datatype": "FP64",
        "shape": list(table.shape),
        "data": table.to_numpy().ravel().tolist(),
    }
    return json.dumps({"id": "bench", "inputs": [tensor]})


def predictions(model: Any, rows: int) -> list[float]:
    """What *model* must answer to `request_body(rows)`."""
    return [float(value) for value in model.predict(FEATURES.head(rows))]


class Sleeps(registry.PythonModel):
    """Takes its time without taking the processor's, so that a known rate is all that it can do."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        time.sleep(self.seconds)
        return [1.0] * len(model_input)


class Raises(registry.PythonModel):
    """Cannot be loaded: it raises."""

    def load_context(self, context: Any) -> None:
        raise RuntimeError("this version is broken on purpose")

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [-1.0] * len(model_input)


class Hangs(Raises):
    """Never finishes loading."""

    def load_context(self, context: Any) -> None:
        time.sleep(3600)


class Exits(Raises):
    """Ends the process that loads it."""

    def load_context(self, context: Any) -> None:
        os._exit(3)
