"""What training scripts and notebooks call: log, register and load models, with a registry behind it."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from registry.connection import connect
from registry.core import ModelVersion, Registry
from registry.errors import InvalidModel, ModelLoadFailed, SchemaMismatch
from registry.models import enforcement, flavors, loader
from registry.models.cache import fetch_files, fetch_model, snapshot_directory
from registry.models.format import MLMODEL, read_mlmodel
from registry.models.pickling import OURS
from registry.models.registration import check_registration, register, upload
from registry.models.signature import ModelSignature
from registry.uri import ModelUri

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an MLmodel file says about its model, and where it was logged and registered."""

    flavors: Mapping[str, Any]
    signature: ModelSignature | None
    model_uuid: str | None = None
    utc_time_created: str | None = None
    metadata: Mapping[str, Any] | None = None
    saved_input_example_info: Mapping[str, Any] | None = None
    name: str | None = None
    model_id: str | None = None
    model_uri: str | None = None
    registered_model_version: str | None = None

    @classmethod
    def of(cls, mlmodel: Mapping[str, Any]) -> ModelInfo:
        """From what `read_mlmodel` gave."""
        return cls(
            flavors=mlmodel["flavors"],
            signature=ModelSignature.of(mlmodel.get("signature")),
            model_uuid=mlmodel.get("model_uuid"),
            utc_time_created=mlmodel.get("utc_time_created"),
            metadata=mlmodel.get("metadata"),
            saved_input_example_info=mlmodel.get("saved_input_example_info"),
        )


class LoadedModel:
    """A model in this process. Its private copy of the files lives as long as it does."""

    def __init__(self, model: loader.Model, metadata: ModelInfo, folder: Path) -> None:
        self._model = model
        self.metadata = metadata
        self._cleanup = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Enforce the signature as MLflow does, then ask the model.

        Raises `SchemaMismatch` for data or params that do not fit; the model's own errors come through.
        """
        signature = self._model.signature or {}
        try:
            if signature.get("inputs"):
                data = enforcement.enforce_inputs(data, signature["inputs"])
            params = enforcement.enforce_params(params, signature.get("params"))
        except enforcement.SchemaError as problem:
            raise SchemaMismatch(str(problem)) from None
        return self._model.predict(data, params)

    def unwrap_python_model(self) -> Any:
        """The `PythonModel` or the estimator itself."""
        return self._model.unwrap()


def log_model(
    model: Any,
    *,
    name: str = "model",
    registered_model_name: str | None = None,
    tags: Mapping[str, str] | None = None,
    client: Registry | None = None,
    **options: Any,
) -> ModelInfo:
    """Save *model* into the registry's artifact root as a logged model, with `save_model`'s options.

    With *registered_model_name* it becomes the next version of that model, which is made if there is none.
    When it is refused, nothing is left behind.
    """
    check_registration(registered_model_name, tags)
    with _client(client) as registry, tempfile.TemporaryDirectory(prefix="turnout-") as folder, ExitStack() as undo:
        directory = Path(folder, "model")
        flavors.save_model(directory, model, **options)
        info = ModelInfo.of(read_mlmodel(directory))
        logged = upload(registry, directory, name, tags, undo)
        version = None
        if registered_model_name is not None:
            version = register(registry, logged.model_uri, registered_model_name)
        undo.pop_all()
        return replace(
            info,
            name=name,
            model_id=logged.model_id,
            model_uri=logged.model_uri,
            registered_model_version=version.version if version else None,
        )


def register_model(
    uri_or_path: str | PathLike[str],
    name: str,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    client: Registry | None = None,
    *,
    alias: str | None = None,
) -> ModelVersion:
    """Make the next version of model *name*, and the model if there is none; point *alias* at it, if given.

    A path's files are copied into the registry's artifact root first; `models:/…` and other addresses are
    used as they are. Raises `InvalidModel` when a path is no model directory. When it is refused, nothing
    is left behind.
    """
    check_registration(name, tags, description, alias)
    source = str(uri_or_path)
    directory = None if SCHEME.match(source) else _model_directory(Path(uri_or_path))
    with _client(client) as registry, ExitStack() as undo:
        if directory is not None:
            source = upload(registry, directory, name, None, undo).model_uri
        version = register(registry, source, name, tags, description, alias)
        undo.pop_all()
    return version


def load_model(uri_or_path: str | PathLike[str], client: Registry | None = None) -> LoadedModel:
    """Load a model into this process, where its code may do whatever this process may.

    A private copy is verified against the manifest before anything of it is run: `CorruptModel` otherwise.
    Raises `ModelLoadFailed` when its own code fails or packages are missing, and says which.
    """
    folder = Path(tempfile.mkdtemp(prefix="turnout-"))
    try:
        directory = _private_copy(uri_or_path, folder, client)
        mlmodel = read_mlmodel(directory)
        _refuse_shadowing(directory, mlmodel)
        try:
            model = loader.load(str(directory), mlmodel)
        except Exception as problem:
            said = problem if isinstance(problem, loader.LoadError) else f"{type(problem).__name__}: {problem}"
            raise ModelLoadFailed(f"cannot load {str(uri_or_path)!r}: {said}") from problem
        return LoadedModel(model, ModelInfo.of(mlmodel), folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _client(client: Registry | None) -> Iterator[Registry]:
    if client is not None:
        yield client
        return
    opened = connect()
    try:
        yield opened
    finally:
        opened.close()


def _model_directory(path: Path) -> Path:
    if not path.exists():
        raise InvalidModel(f"{str(path)!r} does not exist; give a model directory or a models:/ address")
    if not path.is_dir():
        raise InvalidModel(
            f"{str(path)!r} is a file, not a model directory; load the model in Python and write one with "
            "registry.save_model(path, model)"
        )
    if not (path / MLMODEL).exists():
        nested = next((each.parent.name for each in sorted(path.glob(f"*/{MLMODEL}"))), None)
        hint = f"; did you mean {str(path / nested)!r}?" if nested else ""
        raise InvalidModel(f"{str(path)!r} is no model directory: it has no file named MLmodel{hint}")
    read_mlmodel(path)
    return path


def _private_copy(uri_or_path: str | PathLike[str], folder: Path, client: Registry | None) -> Path:
    text = str(uri_or_path)
    if not SCHEME.match(text):
        return snapshot_directory(_model_directory(Path(uri_or_path)), folder)[0]
    uri = ModelUri.parse(text)
    with _client(client) as registry:
        if uri.model_id is not None:
            logged = registry.tracking.get_logged_model(uri.model_id)
            return fetch_files(logged.artifact_uri, None, folder, registry)
        return fetch_model(registry.resolve(uri), folder, registry)


def _refuse_shadowing(directory: Path, mlmodel: Mapping[str, Any]) -> None:
    """Code of these names would stand before ours for the rest of this process."""
    code = mlmodel["flavors"].get("python_function", {}).get("code")
    if not isinstance(code, str):
        return
    for each in (directory / code).glob("*"):
        if each.name.split(".")[0] in OURS:
            raise ModelLoadFailed(
                f"the model's code brings a package named {each.name.split('.')[0]!r}, which would replace Turnout's "
                "in this process; serve it with `turnout serve`, whose replicas import neither"
            )
