"""JSON Schema of the bodies that a model takes, by its signature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.protocols.inputs import described
from gateway.worker import elements

Json = dict[str, Any]
Spec = Mapping[str, Any]

COLUMNS: dict[str, Json] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "long": {"type": "integer", "format": "int64"},
    "float": {"type": ["number", "null"], "format": "float"},
    "double": {"type": ["number", "null"], "format": "double"},
    "string": {"type": "string"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": "string", "format": "date-time"},
}


def of_mlflow(signature: Mapping[str, Any]) -> Json:
    """A body of MLflow's scoring protocol: an object with exactly one of its forms, and the model's params."""
    specs, params = signature.get("inputs") or [], signature.get("params") or []
    forms = {"inputs": _arrays(specs)}
    if not signature.get("is_signature_from_type_hint"):
        forms["instances"] = _arrays(specs)
        if not specs or specs[0]["type"] != "tensor":
            forms = {"dataframe_split": _split(specs), "dataframe_records": _records(specs), **forms}
    fields = {"params": _object({str(spec["name"]): _param(spec) for spec in params})} if params else {}
    return {
        "type": "object",
        "oneOf": [
            {"title": name, "properties": {name: form, **fields}, "required": [name]} for name, form in forms.items()
        ],
    }


def of_v2(signature: Mapping[str, Any]) -> Json:
    """A body of the Open Inference Protocol: inputs by the names that the metadata tells."""
    known = described(signature.get("inputs") or [], "input")
    named = [_input(each["name"], each["datatype"], each["shape"]) for each in known]
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": 1, "items": {"anyOf": [*named, ANY_INPUT]} if named else ANY_INPUT},
            "outputs": {"type": "array", "items": _NAMED},
            "parameters": _PARAMETERS,
        },
    }


def _input(name: str, datatype: str, shape: list[int]) -> Json:
    sizes = ", ".join("any" if size < 0 else str(size) for size in shape)
    return {
        "title": name,
        "description": f"{datatype} of shape [{sizes}]",
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            **_INPUT,
            "name": {"const": name},
            "datatype": {"enum": [*elements.NUMBERS, "BYTES"], "default": datatype},
        },
    }


def _split(specs: Sequence[Spec]) -> Json:
    names = [spec.get("name") for spec in specs]
    columns: Json = {"type": "array"}
    if names and None not in names:
        columns["description"] = f"In any order: {', '.join(map(str, names))}"
    return {
        "type": "object",
        "required": ["data"],
        "properties": {"columns": columns, "data": _list_of({"type": "array"}), "index": {"type": ["array", "null"]}},
    }


def _records(specs: Sequence[Spec]) -> Json:
    if not specs or any(spec.get("name") is None for spec in specs):
        return _list_of({"type": "object"})
    required = [str(spec["name"]) for spec in specs if spec.get("required", True)]
    record = _object({str(spec["name"]): _column(spec) for spec in specs})
    return _list_of(record | ({"required": required} if required else {}))


def _arrays(specs: Sequence[Spec]) -> Json:
    """Rows, values, or an object of them; for tensors alone exactly what they are."""
    if specs and all(spec["type"] == "tensor" for spec in specs):
        arrays = {spec.get("name"): _tensor(spec["tensor-spec"]) for spec in specs}
        return arrays[None] if None in arrays else _object({str(name): each for name, each in arrays.items()})
    return {}


def _tensor(spec: Spec) -> Json:
    dtype = str(spec["dtype"])
    kinds = {"bool": "boolean", "str": "string", "object": "string"}
    kind = kinds.get(dtype) or ("integer" if "int" in dtype else "number" if "float" in dtype else None)
    schema: Json = {"type": kind, "description": dtype} if kind else {"description": dtype}
    for size in reversed(spec["shape"]):
        schema = _list_of(schema) | ({"minItems": int(size), "maxItems": int(size)} if size >= 0 else {})
    return schema


def _column(spec: Spec) -> Json:
    kind = spec["type"]
    if kind == "array":
        return _list_of(_column(spec["items"]))
    if kind == "object":
        return _object({str(name): _column(each) for name, each in spec["properties"].items()})
    if kind == "map":
        return {"type": "object", "additionalProperties": _column(spec["values"])}
    return dict(COLUMNS.get(kind, {}))


def _param(spec: Spec) -> Json:
    schema = _column(spec)
    if spec.get("shape"):
        schema = _list_of(schema)
    default = json.loads(json.dumps(spec.get("default")), parse_constant=lambda _: None)  # NaN is no JSON
    return schema | {"default": default}


def _list_of(items: Json) -> Json:
    return {"type": "array", "items": items}


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties}


_PARAMETERS: Json = {"type": "object"}
_NAMED: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
}
_INPUT: Json = {
    "name": {"type": "string"},
    "datatype": {"enum": [*elements.NUMBERS, "BYTES"]},
    "shape": _list_of({"type": "integer", "minimum": 0}),
    "parameters": _PARAMETERS,
    "data": {"type": "array"},
}
ANY_INPUT: Json = {
    "title": "a tensor",
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": _INPUT,
}
