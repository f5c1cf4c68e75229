"""Registering, all or nothing: what is refused leaves neither files nor an empty model nor a version behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from registry.core import ModelVersion, Registry
from registry.errors import AlreadyExists, InvalidParameter, NotFound, RegistryError
from registry.models.cache import STORE
from registry.names import MAX_DESCRIPTION_CHARS, check_model_name, check_new_alias, check_optional_text, check_tags
from registry.tracking import LoggedModel
from registry.uri import PREFIX, ModelUri

NOT_IN_NAMES = re.compile(r"[/:.%\"'\s]+")
UPLOAD_FAILED = "LOGGED_MODEL_UPLOAD_FAILED"


def check_registration(
    name: str | None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    alias: str | None = None,
) -> None:
    """Raise `InvalidParameter` for what no registry takes, before anything is made; None is not given."""
    if name is not None:
        check_model_name(name)
    check_tags(tags)
    check_optional_text(description, "description", MAX_DESCRIPTION_CHARS)
    if alias is not None:
        check_new_alias(alias)


def upload(
    registry: Registry, directory: Path, name: str, tags: Mapping[str, str] | None, undo: ExitStack
) -> LoggedModel:
    """Copy a directory into the artifact root as a logged model; *undo* deletes its files again."""
    logged = registry.tracking.create_logged_model(NOT_IN_NAMES.sub("-", name), tags=tags)
    try:
        registry.artifacts.write_directory(directory, logged.artifact_uri.removeprefix(STORE))
    except BaseException:
        registry.tracking.finalize_logged_model(logged.model_id, UPLOAD_FAILED)
        raise
    undo.callback(_delete_files, registry, logged)
    return registry.tracking.finalize_logged_model(logged.model_id)


def register(
    registry: Registry,
    source: str,
    name: str,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    alias: str | None = None,
) -> ModelVersion:
    """Make the next version of model *name*, and *alias* on it. When that is refused, there is nothing new.

    A model is made where there is none.
    """
    if source.startswith(PREFIX):
        uri = ModelUri.parse(source)
        if uri.model_id is None:
            registry.resolve(uri)  # raises before a model is made for it
        else:
            registry.tracking.get_logged_model(uri.model_id)
    with ExitStack() as undo:
        version = _create_version(registry, source, name, tags, description, undo)
        if alias is not None:
            try:
                registry.set_registered_model_alias(name, alias, version.version)
            except InvalidParameter:
                registry.delete_model_version(name, version.version)
                raise
            version = registry.get_model_version(name, version.version)
        undo.pop_all()
    return version


def _create_version(
    registry: Registry,
    source: str,
    name: str,
    tags: Mapping[str, Any] | None,
    description: str | None,
    undo: ExitStack,
) -> ModelVersion:
    """The model's next version; *undo* deletes a model that was made for it and is still empty."""
    try:
        # Tried before there is a model: only the registry knows which sources it refuses.
        return registry.create_model_version(name, source, tags=tags, description=description)
    except NotFound:
        if _has_model(registry, name):
            raise
    with suppress(AlreadyExists):  # somebody else was faster
        registry.create_registered_model(name)
        undo.callback(_delete_empty_model, registry, name)
    return registry.create_model_version(name, source, tags=tags, description=description)


def _has_model(registry: Registry, name: str) -> bool:
    try:
        registry.get_registered_model(name)
    except NotFound:
        return False
    return True


def _delete_empty_model(registry: Registry, name: str) -> None:
    with suppress(RegistryError):
        if not registry.get_registered_model(name).latest_versions:
            registry.delete_registered_model(name)


def _delete_files(registry: Registry, logged: LoggedModel) -> None:
    # Not if a version has them: what failed may have failed after it was made.
    with suppress(RegistryError):
        if not registry.search_model_versions(f"source_path = '{logged.model_uri}'"):
            registry.tracking.finalize_logged_model(logged.model_id, UPLOAD_FAILED)
            registry.artifacts.delete(logged.artifact_uri.removeprefix(STORE))
