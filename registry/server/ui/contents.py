"""What a model's folder in the artifact store says of it: flavors, signature, requirements, input example, size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from registry.artifacts import ArtifactStore, check_path
from registry.core import ServedRegistry
from registry.errors import NotFound, RegistryError
from registry.models.cache import STORE
from registry.models.examples import SERVING_EXAMPLE
from registry.models.format import MLMODEL, parse_mlmodel

MOST_MLMODEL_BYTES = 1 << 20
MOST_TEXT_BYTES = 32_000
REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True, slots=True)
class Contents:
    """What is known of one model. *problem* says why nothing is."""

    mlmodel: Mapping[str, Any] = field(default_factory=dict)
    requirements: Sequence[str] = ()
    request: str | None = None
    problem: str | None = None

    @property
    def flavors(self) -> list[str]:
        return sorted(self.mlmodel.get("flavors") or {})

    def columns(self, part: str) -> list[tuple[str, str, str]]:
        """Each column of `inputs`, `outputs` or `params`: name, type, and what more there is to know."""
        signature = self.mlmodel.get("signature") or {}
        return [_column(each, number) for number, each in enumerate(signature.get(part) or ())]


def read_contents(registry: ServedRegistry, uri: str) -> Contents:
    """The contents of the folder at *uri*. Never raises for what stands there."""
    folder = folder_of(uri)
    if folder is None:
        return Contents(problem="its files lie in another place, which this server does not read")
    store = registry.artifacts
    try:
        text = read_start(store, f"{folder}/{MLMODEL}", MOST_MLMODEL_BYTES)
        mlmodel, problem = parse_mlmodel(text), None
    except NotFound:
        mlmodel, problem = {}, "it has no file named MLmodel"
    except RegistryError as error:
        mlmodel, problem = {}, str(error)
    requirements = _optional_text(store, f"{folder}/{REQUIREMENTS}") or ""
    lines = [line.strip() for line in requirements.splitlines()]
    request = _optional_text(store, f"{folder}/{SERVING_EXAMPLE}")
    return Contents(mlmodel, [each for each in lines if each and not each.startswith("#")], request, problem)


def folder_of(uri: str) -> str | None:
    """The path in our own store of an `mlflow-artifacts:/` address, or None."""
    if not uri.startswith(STORE):
        return None
    path = uri.removeprefix(STORE).strip("/")
    try:
        return check_path(path)
    except RegistryError:
        return None


def read_start(store: ArtifactStore, path: str, most: int) -> bytes:
    """The file's first bytes, *most* of them."""
    found = b""
    for chunk in store.read(path, chunk_bytes=most):
        found += chunk
        if len(found) >= most:
            break
    return found[:most]


def _optional_text(store: ArtifactStore, path: str) -> str | None:
    try:
        return read_start(store, path, MOST_TEXT_BYTES).decode(errors="replace")
    except RegistryError:
        return None


def _column(column: Mapping[str, Any], number: int) -> tuple[str, str, str]:
    name, kind = str(column.get("name") or number), str(column.get("type"))
    tensor = column.get("tensor-spec")
    if kind == "tensor" and isinstance(tensor, dict):
        return name, f"tensor {tensor.get('dtype')}", f"shape {_json(tensor.get('shape'))}"
    more = []
    if column.get("required") is False:
        more.append("optional")
    if "default" in column:
        more.append(f"default {_json(column['default'])}")
    more += [f"{key} {_json(column[key])}" for key in ("items", "properties", "shape") if column.get(key) is not None]
    return name, kind, ", ".join(more)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()[:200]
