"""Pickles that stand alone: none of them names `registry` or `gateway`.

Our base class travels under MLflow's name, which `loader.py` resolves where mlflow is not installed.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from registry.errors import InvalidParameter

OURS = ("registry", "gateway")


class PythonModel:
    """The base of models written in Python: subclass it and define `predict`.

    `predict` may be declared with or without `context` and `params`; it gets what it has room for.
    """

    def load_context(self, context: Any) -> None:
        """Called once after loading; `context.artifacts` maps the artifacts' names to absolute paths."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Answer one request; `model_input` has been checked against the signature."""
        raise NotImplementedError(f"{type(self).__name__} has no predict")


def dump(model: Any, file: Path, by_value: bool) -> None:
    """Pickle the model to *file*; by value what the main module defines, as cloudpickle does, if asked for.

    Raises `InvalidParameter` for a model that cannot be pickled or that refers to our packages.
    """
    import cloudpickle

    base: Any = cloudpickle.Pickler if by_value else pickle.Pickler

    class ModelPickler(base):  # type: ignore[misc]  # one of two bases
        def reducer_override(self, value: Any) -> Any:
            if value is PythonModel:
                return getattr, (_MlflowModule(), "PythonModel")
            _refuse_ours(value)
            return super().reducer_override(value) if by_value else NotImplemented

    try:
        with file.open("wb") as stream:
            ModelPickler(stream, protocol=pickle.DEFAULT_PROTOCOL).dump(model)
    except (pickle.PicklingError, TypeError, AttributeError) as problem:
        raise InvalidParameter(f"a {type(model).__name__} cannot be pickled: {problem}") from problem


class _MlflowModule:
    """Pickles as the module that defines MLflow's base class, whether or not it is installed here."""

    def __reduce__(self) -> tuple[Any, ...]:
        from cloudpickle.cloudpickle import subimport

        return subimport, ("mlflow.pyfunc.model",)


def _refuse_ours(value: Any) -> None:
    if value is _MlflowModule:
        return
    if isinstance(value, ModuleType):
        name = value.__name__
    elif isinstance(value, type | FunctionType):
        name = value.__module__ or ""
    else:
        return
    top = name.split(".")[0]
    origin = getattr(sys.modules.get(top), "__file__", None)
    if top in OURS and origin and Path(origin).parents[1] == Path(__file__).parents[2]:
        raise InvalidParameter(
            f"the model refers to {getattr(value, '__qualname__', name)} of {top!r}, which is not there where "
            "the model is served; use only PythonModel as a base and nothing else of it"
        )
