"""Saving: python_function models and scikit-learn models, into directories that MLflow loads as its own."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

from registry.errors import InvalidParameter
from registry.models import examples, loader, requirements
from registry.models.format import write_mlmodel
from registry.models.pickling import OURS, PythonModel, dump
from registry.models.signature import ModelSignature, infer_signature

FORMATS = ("cloudpickle", "pickle", "skops")
ENVIRONMENT = {"conda": requirements.CONDA, "virtualenv": requirements.PYTHON_ENV}


@dataclass
class _Draft:
    """A directory being written, and what is known about it so far."""

    directory: Path
    modules: set[str] = field(default_factory=set)
    local: set[str] = field(default_factory=set)
    code: str | None = None


def save_model(
    path: str | os.PathLike[str],
    model: Any,
    *,
    signature: Any = None,
    input_example: Any = None,
    pip_requirements: Sequence[str] | str | None = None,
    code_paths: Sequence[str | os.PathLike[str]] | None = None,
    artifacts: Mapping[str, str | os.PathLike[str]] | None = None,
    metadata: dict[str, Any] | None = None,
    model_config: dict[str, Any] | None = None,
    serialization_format: str = "cloudpickle",
    skops_trusted_types: Sequence[str] | None = None,
    predict_fn: str = "predict",
    model_id: str | None = None,
) -> None:
    """Write *model* as a model directory at *path*, which must not exist or be empty.

    *model* is a `PythonModel`, a function of the data (and, if it likes, `params`), or a scikit-learn
    estimator; *serialization_format*, *skops_trusted_types* and *predict_fn* are for the last. Without a
    signature it is inferred from the input example and the model's answer to it; *input_example* is the data
    or a pair of data and params. Nothing is left behind when it fails.
    """
    with _new_directory(Path(path)) as directory:
        draft = _Draft(directory)
        _copy_code(draft, code_paths or ())
        if _is_estimator(model):
            if artifacts or model_config:
                raise InvalidParameter("artifacts and model_config are for a PythonModel, not an estimator")
            flavors = _save_sklearn(draft, model, serialization_format, skops_trusted_types, predict_fn)
        else:
            flavors = _save_python_model(draft, _as_python_model(model), artifacts or {}, model_config)
        _write_requirements(draft, pip_requirements)
        _write_mlmodel(draft, flavors, ModelSignature.of(signature), input_example, metadata, model_id)


@contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """A directory to write in, which becomes *target* when the block ends well."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidParameter(f"cannot save a model at {str(target)!r}: something is there already")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=target.parent) as folder:
        directory = Path(folder, "model")
        directory.mkdir()
        yield directory
        if target.exists():
            target.rmdir()
        directory.rename(target)


def _write_requirements(draft: _Draft, given: Sequence[str] | str | None) -> None:
    if given is None:
        needed = requirements.infer_requirements(draft.modules, draft.local)
    else:
        needed = requirements.parse_requirements(given)
    requirements.write_environment(draft.directory, needed)


def _write_mlmodel(
    draft: _Draft,
    flavors: dict[str, dict[str, Any]],
    signature: ModelSignature | None,
    input_example: Any,
    metadata: dict[str, Any] | None,
    model_id: str | None,
) -> None:
    info = None
    if input_example is not None:
        data, params = examples.split_example(input_example)
        info = examples.write_example(draft.directory, data, params)
        if signature is None:
            signature = _inferred(draft, flavors, data, params)
    write_mlmodel(
        draft.directory,
        flavors,
        signature=signature,
        example_info=info,
        metadata=metadata,
        model_id=model_id,
    )


def _inferred(
    draft: _Draft, flavors: dict[str, dict[str, Any]], data: Any, params: dict[str, Any] | None
) -> ModelSignature | None:
    """The signature of the example and of what the saved model answers to it; None, with a warning, if it raises."""
    # Its own code is importable here without the copy of it.
    without_code = {**flavors["python_function"], "code": None}
    try:
        model = loader.load(str(draft.directory), {"flavors": {**flavors, "python_function": without_code}})
        answer = model.predict(data, params)
    except Exception as problem:  # the model's own code
        warnings.warn(
            f"the model is saved without a signature: it cannot predict its input example "
            f"({type(problem).__name__}: {problem}), and a gateway that warms up on it will refuse the model; "
            "give another example, or a signature",
            stacklevel=4,
        )
        return None
    return infer_signature(data, answer, params)


def _copy_code(draft: _Draft, code_paths: Sequence[str | os.PathLike[str]]) -> None:
    if not code_paths:
        return
    code = draft.directory / "code"
    code.mkdir()
    for each in map(Path, code_paths):
        if not each.exists():
            raise InvalidParameter(f"code_paths names {str(each)!r}, which does not exist")
        if each.stem in OURS:
            raise InvalidParameter(f"code_paths brings {each.name!r}, a name that belongs to Turnout")
        destination = code / each.resolve().name
        if each.is_dir():
            shutil.copytree(each, destination, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        else:
            shutil.copyfile(each, destination)
        draft.local.add(each.resolve().stem)
    draft.code = "code"
    draft.modules.update(requirements.modules_of_sources(code))


# scikit-learn


def _is_estimator(model: Any) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator)


def _save_sklearn(
    draft: _Draft,
    model: Any,
    serialization_format: str,
    skops_trusted_types: Sequence[str] | None,
    predict_fn: str,
) -> dict[str, dict[str, Any]]:
    if not callable(getattr(model, predict_fn, None)):
        raise InvalidParameter(f"a {type(model).__name__} has no method {predict_fn!r} to predict with")
    name = _write_estimator(draft, model, serialization_format, skops_trusted_types)
    return {
        "python_function": {
            "loader_module": "mlflow.sklearn",
            "model_path": name,
            "predict_fn": predict_fn,
            "python_version": platform.python_version(),
            "env": dict(ENVIRONMENT),
            **({"code": draft.code} if draft.code else {}),
        },
        "sklearn": {
            "pickled_model": name,
            "sklearn_version": requirements.installed_version("scikit-learn"),
            "serialization_format": serialization_format,
            "code": draft.code,
            "skops_trusted_types": list(skops_trusted_types) if skops_trusted_types else None,
        },
    }


def _write_estimator(draft: _Draft, model: Any, serialization_format: str, trusted: Sequence[str] | None) -> str:
    """Write the estimator's file; returns its name."""
    if serialization_format not in FORMATS:
        raise InvalidParameter(f"serialization_format {serialization_format!r} is none of {', '.join(FORMATS)}")
    draft.modules.update({"sklearn", "numpy", "pandas"})
    if serialization_format == "skops":
        file = draft.directory / "model.skops"
        _dump_skops(model, file, trusted)
        draft.modules.update(requirements.modules_of_skops(file))
        return file.name
    file = draft.directory / "model.pkl"
    by_value = serialization_format == "cloudpickle"
    dump(model, file, by_value)
    draft.modules.update(requirements.modules_of_pickle(file), {"cloudpickle"} if by_value else ())
    return file.name


def _dump_skops(model: Any, file: Path, trusted: Sequence[str] | None) -> None:
    import skops.io

    skops.io.dump(model, file)
    unknown = sorted(set(skops.io.get_untrusted_types(file=file)) - set(trusted or ()))
    if unknown:
        raise InvalidParameter(
            f"skops does not know the types {', '.join(unknown)}; pass skops_trusted_types={unknown!r} "
            "if you trust them"
        )


# python_function


def _as_python_model(model: Any) -> Any:
    if isinstance(model, PythonModel) or any(each.__module__ == "mlflow.pyfunc.model" for each in type(model).__mro__):
        return model
    if isinstance(model, FunctionType):
        # A class of the main module's travels by value, so nothing of ours is needed where it is loaded.
        members = {"predict": staticmethod(model), "__module__": "__main__"}
        return type("FunctionModel", (PythonModel,), members)()
    raise InvalidParameter(
        f"cannot save a {type(model).__name__}: give a PythonModel, a function or a scikit-learn estimator"
    )


def _save_python_model(
    draft: _Draft,
    model: Any,
    artifacts: Mapping[str, str | os.PathLike[str]],
    model_config: dict[str, Any] | None,
) -> dict[str, dict[str, Any]]:
    file = draft.directory / "python_model.pkl"
    dump(model, file, by_value=True)
    draft.modules.update({"cloudpickle", "numpy", "pandas"})
    draft.modules.update(requirements.modules_of_pickle(file))
    draft.modules.update(requirements.modules_of_class(model))
    flavor = {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": file.name,
        "cloudpickle_version": requirements.installed_version("cloudpickle"),
        "python_version": platform.python_version(),
        "env": dict(ENVIRONMENT),
        "code": draft.code,
        "streamable": False,
    }
    if artifacts:
        flavor["artifacts"] = _copy_artifacts(draft.directory, artifacts)
    if model_config:
        flavor["config"] = model_config
    return {"python_function": flavor}


def _copy_artifacts(directory: Path, artifacts: Mapping[str, str | os.PathLike[str]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, given in artifacts.items():
        source = Path(given)
        if not source.exists():
            raise InvalidParameter(f"artifact {name!r} names {str(given)!r}, which does not exist")
        relative = Path("artifacts", source.resolve().name)
        if (directory / relative).exists():
            relative = Path("artifacts", f"{len(entries)}", source.resolve().name)
        (directory / relative).parent.mkdir(parents=True, exist_ok=True)
        copy: Callable[[Path, Path], Any] = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, directory / relative)
        entries[name] = {"path": relative.as_posix(), "uri": str(given)}
    return entries
