"""The MLmodel file and the files beside it, as MLflow 2 and 3 write and read them.

Only the format: what a flavor puts into the directory is in `flavors.py`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from registry.errors import InvalidModel, InvalidParameter
from registry.models.signature import ModelSignature

MLMODEL = "MLmodel"
MAX_MLMODEL_BYTES = 4 << 20
MAX_VALUES = 500_000
MAX_DEPTH = 100


def read_mlmodel(path: Path) -> dict[str, Any]:
    """What the MLmodel file of the directory *path* says, as plain JSON values.

    The signature's parts, JSON text in the file, come as lists. Raises `InvalidModel` when there is no such
    file, or it is none that MLflow could have written: too large, unsafe tags, expanding aliases.
    """
    file = path / MLMODEL
    if file.is_symlink() or not file.is_file():
        raise InvalidModel(f"{str(path)!r} is no model directory: it has no file named MLmodel")
    size = file.stat().st_size
    if size > MAX_MLMODEL_BYTES:
        raise InvalidModel(f"the MLmodel file has {size} bytes; at most {MAX_MLMODEL_BYTES} are read")
    return parse_mlmodel(file.read_bytes())


def parse_mlmodel(text: bytes) -> dict[str, Any]:
    """The same of the file's content, from wherever it was read."""
    import yaml

    parser = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _refuse_deep_nesting(yaml.parse(text, parser))
        values = yaml.load(text, parser)
    except (yaml.YAMLError, ValueError, RecursionError) as problem:
        reason = " ".join(str(problem).split())
        raise InvalidModel(f"the MLmodel file is not plain YAML: {reason[:300]}") from None
    if not isinstance(values, dict) or not isinstance(values.get("flavors"), dict):
        raise InvalidModel("the MLmodel file has no flavors, so nothing can load it")
    mlmodel: dict[str, Any] = _Plain().value(values)
    mlmodel["signature"] = _decode_signature(mlmodel.get("signature"))
    return mlmodel


def write_mlmodel(
    directory: Path,
    flavors: dict[str, dict[str, Any]],
    *,
    signature: ModelSignature | None = None,
    example_info: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    model_id: str | None = None,
) -> None:
    """Write the MLmodel file, last of all files: it states their size."""
    import yaml

    mlmodel: dict[str, Any] = {
        "flavors": flavors,
        "is_signature_from_type_hint": False,
        "model_id": model_id,
        "model_size_bytes": sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()),
        "model_uuid": uuid4().hex,
        "type_hint_from_example": False,
        "utc_time_created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    if signature is not None:
        mlmodel["signature"] = signature.to_dict()
    if example_info is not None:
        mlmodel["saved_input_example_info"] = example_info
    if metadata is not None:
        mlmodel["metadata"] = metadata
    try:
        text = yaml.safe_dump(mlmodel)
    except yaml.YAMLError as problem:
        raise InvalidParameter(f"metadata and model_config must be plain values: {problem}") from None
    (directory / MLMODEL).write_text(text, encoding="utf-8")


def _refuse_deep_nesting(events: Iterable[Any]) -> None:
    """YAML's C loader follows nesting on the C stack, and would end the process."""
    depth = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent")
        depth -= name.endswith("EndEvent")
        if depth > MAX_DEPTH:
            raise InvalidModel(f"the MLmodel file nests deeper than {MAX_DEPTH} levels")


class _Plain:
    """Turns YAML's values into JSON's, and counts them: aliases in the file may expand without end."""

    def __init__(self) -> None:
        self._count = 0

    def value(self, value: Any, depth: int = 0) -> Any:
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            raise InvalidModel("the MLmodel file expands to more than a model can need")
        if isinstance(value, dict):
            return {str(key): self.value(each, depth + 1) for key, each in value.items()}
        if isinstance(value, (list, tuple, set)):
            return [self.value(each, depth + 1) for each in value]
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        return value


def _decode_signature(signature: Any) -> dict[str, Any] | None:
    if signature is None:
        return None
    if not isinstance(signature, dict):
        raise InvalidModel("the MLmodel file's signature is not a mapping of inputs, outputs and params")
    return {part: _decode_part(part, signature.get(part)) for part in ("inputs", "outputs", "params")}


def _decode_part(part: str, text: Any) -> list[dict[str, Any]] | None:
    try:
        columns = json.loads(text) if isinstance(text, str) else text
        fits = columns is None or (isinstance(columns, list) and all(map(_is_column, columns)))
    except (ValueError, RecursionError) as problem:
        raise InvalidModel(f"the MLmodel file's signature.{part} is not JSON: {problem}") from None
    if not fits:
        raise InvalidModel(f"the MLmodel file's signature.{part} is not a list of columns with types")
    if columns and 0 < sum(each["type"] == "tensor" for each in columns) < len(columns):
        raise InvalidModel(f"the MLmodel file's signature.{part} mixes tensors and columns")
    return cast(list[dict[str, Any]] | None, columns)


def _is_column(spec: Any) -> bool:
    """Whether it has all that its type needs, however deep: what reads a signature later does not look again."""
    if not isinstance(spec, dict) or not isinstance(spec.get("type"), str):
        return False
    if not isinstance(spec.get("name"), str | int | float | None):
        return False
    if spec["type"] == "tensor":
        tensor = spec.get("tensor-spec")
        return (
            isinstance(tensor, dict)
            and isinstance(tensor.get("dtype"), str)
            and isinstance(tensor.get("shape"), list)
            and all(type(size) is int for size in tensor["shape"])
        )
    if spec["type"] == "object":
        properties = spec.get("properties")
        return isinstance(properties, dict) and all(map(_is_column, properties.values()))
    inner = {"array": "items", "map": "values"}.get(spec["type"])
    return inner is None or _is_column(spec.get(inner))
