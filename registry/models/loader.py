"""Turns a model directory into an object with `predict`: the only place where model code is run.

The file stands alone, imports only the standard library at its top and runs on Python 3.9: a replica loads
it by its path under the model's own interpreter, `registry.load_model` imports it. Whoever calls `load` has
verified the directory's files against their manifest before.
"""

import base64
import importlib
import importlib.util
import inspect
import json
import os
import pickle
import re
import sys
import types
from typing import Any, Callable, Dict, List, Optional, Tuple

FLAVOR_MODULE = re.compile(r"mlflow(\.[a-z][a-z0-9_]*)+")
REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class LoadError(Exception):
    """The directory cannot become a model; one sentence that says why, and what to install if that is why."""


class Model:
    """A loaded model. It enforces nothing: data and params must fit the signature already.

    `function` names the method of the user's own object that answers.
    """

    def __init__(
        self,
        root: str,
        mlmodel: Dict[str, Any],
        unwrapped: Any,
        call: Callable[[Any, Dict[str, Any]], Any],
        function: str = "predict",
    ) -> None:
        self.function = function
        self._root = root
        self._mlmodel = mlmodel
        self._unwrapped = unwrapped
        self._call = call
        signature = mlmodel.get("signature")
        if signature and mlmodel.get("is_signature_from_type_hint"):
            # mlflow's own wrapper checks the type hints
            signature = dict(signature, inputs=None, is_signature_from_type_hint=True)
        self.signature: Optional[Dict[str, Any]] = signature

    def predict(self, data: Any, params: Optional[Dict[str, Any]] = None) -> Any:
        """What the user's model answers; whatever its code raises comes through."""
        return self._call(data, params or {})

    def unwrap(self) -> Any:
        """The user's own object: the `PythonModel` or the estimator."""
        return self._unwrapped

    def input_example(self) -> Optional[Tuple[Any, Optional[Dict[str, Any]]]]:
        """The example that was saved with the model as (data, params), or None."""
        return _read_input_example(self._root, self._mlmodel)


def load(path: str, mlmodel: Dict[str, Any]) -> Model:
    """Load the directory at *path*, whose MLmodel file holds *mlmodel* (as `read_mlmodel` gives it).

    Raises `LoadError`; what the model's own code raises while it is unpickled comes through unchanged.
    """
    root = os.path.realpath(path)
    flavors = mlmodel.get("flavors") or {}
    flavor = flavors.get("python_function")
    if not isinstance(flavor, dict):
        raise LoadError(f"the model has no python_function flavor, only: {', '.join(flavors) or 'none'}")
    name = flavor.get("loader_module")
    try:
        code = _put_code_first(root, flavor)
        if name == "mlflow.sklearn":
            return _load_sklearn(root, mlmodel, flavor)
        if name == "mlflow.pyfunc.model":
            return _load_python_model(root, mlmodel, flavor)
        return _load_by_module(root, mlmodel, flavor, code)
    except ModuleNotFoundError as problem:
        raise LoadError(_what_is_missing(root, problem.name or str(problem))) from problem
    except ImportError as problem:
        raise LoadError(f"the model cannot be imported here: {problem}") from problem


# Paths and code


def _inside(root: str, relative: Any, purpose: str) -> str:
    """The absolute path of what the MLmodel file names; never one outside of the model's directory."""
    if isinstance(relative, str) and relative and "\0" not in relative and not os.path.isabs(relative):
        path = os.path.realpath(os.path.join(root, relative))
        if path == root or path.startswith(root + os.sep):
            return path
    raise LoadError(f"the model's {purpose} {relative!r} does not lie inside its directory")


def _put_code_first(root: str, flavor: Dict[str, Any]) -> Optional[str]:
    if not flavor.get("code"):
        return None
    code = _inside(root, flavor["code"], "code path")
    if not os.path.isdir(code):
        raise LoadError(f"the model's code path {flavor['code']!r} is not a directory")
    for entry in os.listdir(code):
        _forget_other_models_module(entry.partition(".")[0], code)
    if code in sys.path:
        sys.path.remove(code)
    sys.path.insert(0, code)
    sys.dont_write_bytecode = True  # or the directory would no longer hold what was verified
    importlib.invalidate_caches()
    return code


def _forget_other_models_module(name: str, code: str) -> None:
    """Two models in one process may bring a module of the same name: the second gets its own."""
    module = sys.modules.get(name)
    origin = getattr(module, "__file__", None) or ""
    folder = os.path.dirname(origin[: -len("__init__.py") - 1] if origin.endswith("__init__.py") else origin)
    if folder and folder != code and os.path.isfile(os.path.join(os.path.dirname(folder), "MLmodel")):
        for each in [each for each in sys.modules if each == name or each.startswith(name + ".")]:
            del sys.modules[each]


def _is_installed(package: str) -> bool:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None  # a folder that happens to have the name has no origin


def _what_is_missing(root: str, module: str) -> str:
    """A sentence that names the missing module and every requirement that is not installed."""
    package = module.split(".", maxsplit=1)[0]
    lacking = []
    for requirement in _requirements(root):
        match = REQUIREMENT.match(requirement)
        if match and not _is_distributed(match.group()) and (match.group() != "mlflow" or package == "mlflow"):
            lacking.append(requirement)
    install = ", ".join(lacking) if lacking else package
    return f"the model needs the package {package!r}, which is not installed here; install {install}"


def _requirements(root: str) -> List[str]:
    try:
        with open(os.path.join(root, "requirements.txt"), encoding="utf-8") as lines:
            return [line.partition("#")[0].strip() for line in lines if line.partition("#")[0].strip()]
    except (OSError, UnicodeDecodeError):
        return []


def _is_distributed(name: str) -> bool:
    import importlib.metadata

    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# Flavors


def _load_sklearn(root: str, mlmodel: Dict[str, Any], flavor: Dict[str, Any]) -> Model:
    own = (mlmodel.get("flavors") or {}).get("sklearn") or {}
    relative = flavor.get("model_path") or own.get("pickled_model") or flavor.get("data")
    path = _inside(root, relative, "model file")
    if own.get("serialization_format") == "skops" or path.endswith(".skops"):
        estimator = _read_skops(path, own.get("skops_trusted_types"))
    else:
        estimator = _unpickle(path, mlmodel)
    function = flavor.get("predict_fn") or "predict"
    if function.startswith("_") or not callable(getattr(estimator, function, None)):
        raise LoadError(f"a {type(estimator).__name__} has no method {function!r} to predict with")
    method = getattr(estimator, function)
    return Model(root, mlmodel, estimator, lambda data, _: method(data), function)


def _read_skops(path: str, trusted: Optional[List[str]]) -> Any:
    skops_io = importlib.import_module("skops.io")
    exceptions = importlib.import_module("skops.io.exceptions")
    try:
        return skops_io.load(path, trusted=trusted or [])
    except exceptions.UntrustedTypesFoundException as problem:
        raise LoadError(f"the model's skops_trusted_types do not list everything it holds: {problem}") from None


def _load_python_model(root: str, mlmodel: Dict[str, Any], flavor: Dict[str, Any]) -> Model:
    for applies, reason in (
        (flavor.get("model_code_path"), "the model is saved as code, which only mlflow runs"),
        (mlmodel.get("is_signature_from_type_hint"), "the model has type hints, which only mlflow holds data to"),
        (flavor.get("python_model_compression"), "the model's pickle is compressed, which only mlflow reads"),
    ):
        if applies:
            return _load_with_mlflow(root, mlmodel, flavor, "mlflow.pyfunc.model", reason)
    artifacts = {
        name: _inside(root, entry.get("path"), f"artifact {name!r}")
        for name, entry in (flavor.get("artifacts") or {}).items()
    }
    python_model = _unpickle(_inside(root, flavor.get("python_model"), "pickled model"), mlmodel)
    context = PythonModelContext(artifacts, flavor.get("config") or None)
    if hasattr(python_model, "load_context"):
        python_model.load_context(context)
    return Model(root, mlmodel, python_model, _caller(python_model.predict, context))


def _caller(predict: Callable[..., Any], context: "PythonModelContext") -> Callable[[Any, Dict[str, Any]], Any]:
    """Pass the context and the params exactly to a `predict` that has room for them."""
    names = list(inspect.signature(predict).parameters)
    takes_params = "params" in names
    takes_context = "context" in names or len(names) - takes_params > 1
    before = (context,) if takes_context else ()
    if takes_params:
        return lambda data, params: predict(*before, data, params=params)
    return lambda data, _: predict(*before, data)


def _load_by_module(root: str, mlmodel: Dict[str, Any], flavor: Dict[str, Any], code: Optional[str]) -> Model:
    name = flavor.get("loader_module")
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise LoadError(f"the model names {name!r} as its loader, which is no module's name")
    if FLAVOR_MODULE.fullmatch(name):
        return _load_with_mlflow(
            root, mlmodel, flavor, name, f"the model's flavor is {name}, which is a part of mlflow"
        )
    top = os.path.join(code or "", name.split(".")[0])
    if code is None or not (os.path.isfile(top + ".py") or os.path.isdir(top)):
        raise LoadError(
            f"the model's loader {name!r} is neither a flavor of mlflow nor a module that the model's code brings"
        )
    return _load_with(importlib.import_module(name), root, mlmodel, flavor)


def _load_with_mlflow(root: str, mlmodel: Dict[str, Any], flavor: Dict[str, Any], name: str, reason: str) -> Model:
    if not _is_installed("mlflow"):
        version = mlmodel.get("mlflow_version")
        wanted = f"mlflow=={version}" if version else "mlflow"
        raise LoadError(f"{reason}, and mlflow is not installed here; install {wanted}")
    return _load_with(importlib.import_module(name), root, mlmodel, flavor)


def _load_with(module: types.ModuleType, root: str, mlmodel: Dict[str, Any], flavor: Dict[str, Any]) -> Model:
    load_pyfunc = getattr(module, "_load_pyfunc", None)
    if not callable(load_pyfunc):
        raise LoadError(f"the model's loader {module.__name__!r} has no function _load_pyfunc")
    path = _inside(root, flavor["data"], "data path") if flavor.get("data") else root
    if "model_config" in inspect.signature(load_pyfunc).parameters:
        loaded = load_pyfunc(path, flavor.get("config") or None)
    else:
        loaded = load_pyfunc(path)
    predict = loaded.predict
    parameters = inspect.signature(predict).parameters
    unwrapped = getattr(loaded, "python_model", loaded)
    if "params" in parameters:
        return Model(root, mlmodel, unwrapped, lambda data, params: predict(data, params=params))
    return Model(root, mlmodel, unwrapped, lambda data, _: predict(data))


# Unpickling: what pickles name of mlflow, for an environment that does not have it


class PythonModelContext:
    """What `load_context` and `predict` get: absolute paths of the artifacts, and the model's configuration."""

    def __init__(self, artifacts: Dict[str, str], model_config: Optional[Dict[str, Any]]) -> None:
        self.artifacts = artifacts
        self.model_config = model_config


class PythonModel:
    """Stands in for mlflow's base class."""

    def load_context(self, context: Any) -> None:
        pass


class FunctionModel(PythonModel):
    """Stands in for the class in which mlflow saves a plain function."""

    func: Callable[..., Any]

    @property
    def predict(self) -> Callable[..., Any]:
        return self.func


class StandIn:
    """Stands in for mlflow's signature types, which a pickle carries and a prediction does not need."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass


STAND_INS: Dict[Tuple[str, str], Any] = {
    ("mlflow.pyfunc.model", "PythonModel"): PythonModel,
    ("mlflow.pyfunc.model", "PythonModelContext"): PythonModelContext,
    ("mlflow.pyfunc.model", "_FunctionPythonModel"): FunctionModel,
    ("mlflow.models.signature", "_TypeHints"): StandIn,
    ("mlflow.models.signature", "ModelSignature"): StandIn,
    ("mlflow.types.schema", "Schema"): StandIn,
    ("mlflow.types.schema", "ColSpec"): StandIn,
    ("mlflow.types.schema", "TensorSpec"): StandIn,
    ("mlflow.types.schema", "TensorInfo"): StandIn,
    ("mlflow.types.schema", "ParamSchema"): StandIn,
    ("mlflow.types.schema", "ParamSpec"): StandIn,
    ("mlflow.types.schema", "DataType"): StandIn,
}


class _Unpickler(pickle.Unpickler):
    """Resolves mlflow's names by stand-ins; used only where mlflow is not installed."""

    def __init__(self, file: Any, mlmodel: Dict[str, Any]) -> None:
        super().__init__(file)
        self._mlflow_version = mlmodel.get("mlflow_version")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("cloudpickle.cloudpickle", "subimport"):
            return self._import
        if module.split(".", maxsplit=1)[0] != "mlflow":
            return super().find_class(module, name)
        stand_in = STAND_INS.get((module, name))
        if stand_in is None:
            raise self._mlflow_is_needed(f"{module}.{name}")
        return stand_in

    def _import(self, module: str) -> Any:
        """Our own pickles name mlflow's base class as an attribute of its module."""
        if module == "mlflow.pyfunc.model":
            return types.SimpleNamespace(PythonModel=PythonModel)
        if module.split(".", maxsplit=1)[0] == "mlflow":
            raise self._mlflow_is_needed(module)
        __import__(module)
        return sys.modules[module]

    def _mlflow_is_needed(self, what: str) -> LoadError:
        wanted = f"mlflow=={self._mlflow_version}" if self._mlflow_version else "mlflow"
        return LoadError(f"the model uses {what}, and mlflow is not installed here; install {wanted}")


def _unpickle(path: str, mlmodel: Dict[str, Any]) -> Any:
    with open(path, "rb") as file:
        if _is_installed("mlflow"):
            return pickle.load(file)
        return _Unpickler(file, mlmodel).load()


# The input example


def _read_input_example(root: str, mlmodel: Dict[str, Any]) -> Optional[Tuple[Any, Optional[Dict[str, Any]]]]:
    info = mlmodel.get("saved_input_example_info")
    if not info or info.get("type") not in ("dataframe", "ndarray", "json_object"):
        return None
    path = _inside(root, info.get("artifact_path"), "input example")
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8") as file:
        data, params = json.load(file), None
    if str(info.get("params")).lower() == "true":
        data, params = data.get("inputs", data), data.get("params")
    columns = (mlmodel.get("signature") or {}).get("inputs") or []
    if info["type"] == "dataframe":
        return _frame_of_split(data, columns), params
    if info["type"] == "ndarray":
        return _arrays_of_lists(data, columns), params
    return data, params


def _frame_of_split(split: Dict[str, Any], columns: List[Dict[str, Any]]) -> Any:
    """A DataFrame whose columns have the signature's types, which JSON could not tell."""
    import pandas

    frame = pandas.DataFrame(split["data"], columns=split.get("columns"))
    numpy_names = {"integer": "int32", "long": "int64", "float": "float32", "double": "float64"}
    for column in columns:
        name, kind = column.get("name"), column.get("type")
        if name not in frame.columns or frame[name].isna().any():
            continue
        if kind in numpy_names:
            frame[name] = frame[name].astype(numpy_names[kind])
        elif kind == "datetime":
            frame[name] = pandas.to_datetime(frame[name])
        elif kind == "binary":
            frame[name] = [base64.b64decode(value) for value in frame[name]]
    return frame


def _arrays_of_lists(values: Any, tensors: List[Dict[str, Any]]) -> Any:
    import numpy

    specs = {each.get("name"): each["tensor-spec"]["dtype"] for each in tensors if each.get("type") == "tensor"}
    if isinstance(values, dict):
        return {name: numpy.array(each, dtype=specs.get(name)) for name, each in values.items()}
    return numpy.array(values, dtype=specs.get(None))
