"""A request to try a model with: its input example, else one made of its signature, in each protocol's form."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.protocols.inputs import described

MAX_EXAMPLE_BYTES = 64 << 10
PLACEHOLDERS: dict[str, Any] = {
    "boolean": False,
    "integer": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "text",
    "binary": "AA==",
    "datetime": "2024-01-01T00:00:00",
    "array": [],
    "object": {},
    "map": {},
}

Json = dict[str, Any]
Spec = Mapping[str, Any]


def of_mlflow(root: Path, mlmodel: Mapping[str, Any], signature: Mapping[str, Any]) -> Json:
    """A body for MLflow's scoring protocol: the example that was saved with the model, where it is not too large."""
    info = mlmodel.get("saved_input_example_info") or {}
    serving = _json_file(root, info.get("serving_input_path"))
    if isinstance(serving, dict):
        return serving
    stored = _json_file(root, info.get("artifact_path"))
    if stored is not None:
        return _in_form(stored, info)
    return _placeholder(signature.get("inputs") or [])


def of_v2(body: Mapping[str, Any], signature: Mapping[str, Any]) -> Json | None:
    """The same request in the Open Inference Protocol, None where it has no form in it."""
    specs = signature.get("inputs") or []
    columns = _columns(body, [str(spec.get("name", at)) for at, spec in enumerate(specs)])
    if columns is None:
        return None
    known = {each["name"]: each["datatype"] for each in described(specs, "input")}
    names = list(known) if len(known) == len(columns) and not any("name" in spec for spec in specs) else list(columns)
    inputs = []
    for name, values in zip(names, columns.values(), strict=True):
        shape, flat = _flat(values)
        datatype = known.get(name) or _datatype(flat)
        if any(isinstance(each, list | dict) for each in flat):
            if datatype != "BYTES":
                return None
            flat = [json.dumps(each) for each in values]
            shape = [len(flat)]
        if datatype is None:
            return None
        inputs.append({"name": name, "datatype": datatype, "shape": shape, "data": flat})
    params = body.get("params")
    return {"inputs": inputs} | ({"parameters": params} if params else {})


def _json_file(root: Path, relative: Any) -> Any:
    """What a file of the model says, null for numbers that JSON has not; None for what is none, or not its own."""
    if not isinstance(relative, str) or not relative:
        return None
    try:
        path = (root / relative).resolve()
        if not path.is_relative_to(root.resolve()) or path.stat().st_size > MAX_EXAMPLE_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
    except (OSError, ValueError, RecursionError):
        return None


def _in_form(stored: Any, info: Mapping[str, Any]) -> Json:
    """An example as older files have it, as a body."""
    body: Json = {}
    if isinstance(stored, dict) and str(info.get("params")).lower() == "true":
        body = {"params": stored.get("params")}
        stored = stored.get("inputs", stored)
    if info.get("type") == "dataframe":
        return {"dataframe_split": stored, **body}
    if isinstance(stored, dict) and stored.keys() == {"inputs"}:
        return {**stored, **body}
    return {"inputs": stored, **body}


def _placeholder(specs: Sequence[Spec]) -> Json:
    if not specs:
        return {"inputs": []}
    if specs[0]["type"] == "tensor":
        arrays = {spec.get("name"): _zeros(spec["tensor-spec"]) for spec in specs}
        return {"inputs": arrays.get(None, arrays)}
    row = [PLACEHOLDERS.get(spec["type"]) for spec in specs]
    named = None not in [spec.get("name") for spec in specs]
    columns = {"columns": [spec["name"] for spec in specs]} if named else {}
    return {"dataframe_split": {**columns, "data": [row]}}


def _zeros(spec: Spec) -> Any:
    dtype = str(spec["dtype"])
    value: Any = False if dtype == "bool" else 0 if "int" in dtype else 0.0 if "float" in dtype else ""
    for size in reversed(spec["shape"]):
        value = [value] * (min(int(size), 8) if size > 0 else 1)
    return value


def _columns(body: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """The values by the input's name."""
    split, records = body.get("dataframe_split"), body.get("dataframe_records")
    if isinstance(split, dict) and isinstance(split.get("data"), list):
        rows = split["data"]
        found = [str(name) for name in split.get("columns") or names]
        if not all(isinstance(row, list) and len(row) == len(found) for row in rows):
            return None
        return {name: [row[at] for row in rows] for at, name in enumerate(found)}
    if isinstance(records, list) and records and all(isinstance(row, dict) for row in records):
        return {name: [row.get(name) for row in records] for name in records[0]}
    inputs = body.get("inputs", body.get("instances"))
    if isinstance(inputs, dict):
        return {str(name): values for name, values in inputs.items()}
    return None if inputs is None else {names[0] if len(names) == 1 else "input": inputs}


def _flat(values: Any) -> tuple[list[int], list[Any]]:
    shape: list[int] = []
    level = values if isinstance(values, list) else [values]
    shape.append(len(level))
    while level and all(isinstance(each, list) and len(each) == len(level[0]) for each in level):
        shape.append(len(level[0]))
        level = [item for each in level for item in each]
    return shape, level


def _datatype(flat: Sequence[Any]) -> str | None:
    kinds = {*map(type, flat)} - {type(None)}
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int} and None not in flat:
        return "INT64"
    if kinds <= {int, float} and kinds:
        return "FP64"
    return "BYTES" if kinds == {str} else None
