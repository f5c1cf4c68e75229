"""What a model eats and returns, inferred from examples and written as MLflow writes it.

A schema is a list of columns or of tensors, each a dictionary in the form of MLflow's JSON:
`{"type": "double", "name": "a", "required": true}`, `{"type": "tensor", "tensor-spec": {...}}`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from registry.errors import InvalidParameter

Column = dict[str, Any]
Schema = list[Column]

ANYTHING: Schema = [{"type": "any", "required": True}]
PYTHON_TYPES = {bool: "boolean", int: "long", float: "double", str: "string", bytes: "binary"}
NUMPY_TYPES = {
    "bool": "boolean",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32"), "long"),
    **dict.fromkeys(("float16", "float32"), "float"),
    "float64": "double",
}


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """The schemas of a model's inputs, outputs and params; None where one is not known."""

    inputs: Schema | None = None
    outputs: Schema | None = None
    params: Schema | None = None

    def to_dict(self) -> dict[str, str | None]:
        """MLflow's form, as it stands in an MLmodel file: each schema as JSON text, or None."""
        return {
            part: None if schema is None else json.dumps(schema)
            for part, schema in (("inputs", self.inputs), ("outputs", self.outputs), ("params", self.params))
        }

    @classmethod
    def from_dict(cls, parts: Mapping[str, Any]) -> ModelSignature:
        """From MLflow's form, or with the schemas as lists already."""
        return cls(**{part: _parsed(parts.get(part)) for part in ("inputs", "outputs", "params")})

    @classmethod
    def of(cls, signature: Any) -> ModelSignature | None:
        """One of ours, one of mlflow's, a mapping, or None."""
        if signature is None or isinstance(signature, cls):
            return signature
        if hasattr(signature, "to_dict"):
            return cls.from_dict(signature.to_dict())
        if isinstance(signature, Mapping):
            return cls.from_dict(signature)
        raise InvalidParameter(f"signature is a {type(signature).__name__}; give what infer_signature(...) returns")


def infer_signature(
    model_input: Any = None, model_output: Any = None, params: Mapping[str, Any] | None = None
) -> ModelSignature:
    """The signature of these examples, the same that `mlflow.models.infer_signature` gives.

    Takes DataFrames, Series, arrays, sparse matrices, dictionaries, lists and plain values; what has no
    schema becomes a column of type `any`. Raises `InvalidParameter` for params that cannot be declared.
    """
    return ModelSignature(
        inputs=None if model_input is None else _schema(model_input),
        outputs=None if model_output is None else _schema(model_output),
        params=[_param(name, default) for name, default in params.items()] if params else None,
    )


def _parsed(schema: Any) -> Schema | None:
    if schema is None:
        return None
    columns = json.loads(schema) if isinstance(schema, str) else schema
    return [dict(column) for column in columns]


# Data


class _Unclear(Exception):
    """No one type fits."""


def _schema(data: Any) -> Schema:
    try:
        return _columns(data)
    except _Unclear:
        return [dict(column) for column in ANYTHING]


def _columns(data: Any) -> Schema:
    pandas = sys.modules.get("pandas")  # data of its types cannot be without it
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return [_frame_column(data.iloc[:, at], {"name": name}) for at, name in enumerate(data.columns)]
    if pandas is not None and isinstance(data, pandas.Series):
        return [_frame_column(data, {} if data.name is None else {"name": data.name})]
    if _is_array(data) or hasattr(data, "tocsr"):
        return [_tensor(data)]
    if isinstance(data, dict) and data:
        if all(_is_array(value) for value in data.values()):
            return [{"name": name, **_tensor(value)} for name, value in data.items()]
        return [_record_column(name, [value]) for name, value in data.items()]
    if isinstance(data, list):
        return _columns_of_list(data)
    spec = _value_type(data)
    if spec is None:
        raise _Unclear
    return [{**spec, "required": True}]


def _columns_of_list(data: list[Any]) -> Schema:
    if data and all(isinstance(record, dict) for record in data):
        names = dict.fromkeys(name for record in data for name in record)
        return [_record_column(name, [record.get(name) for record in data]) for name in names]
    spec = _merged(map(_value_type, data))
    return [{**(spec or {"type": "string"}), "required": True}]


def _record_column(name: Any, values: list[Any]) -> Column:
    spec = _merged(map(_value_type, values)) or {"type": "any"}
    has_nulls = any(value is None or (isinstance(value, list) and None in value) for value in values)
    return {**spec, "name": name, "required": not has_nulls}


def _frame_column(values: Any, name: Column) -> Column:
    if values.dtype == object:
        values = values.infer_objects()
    nulls = values.isna()
    if values.dtype == object:
        spec = _merged(map(_value_type, values[~nulls])) or {"type": "any"}
    else:
        spec = {"type": _dtype_type(getattr(values.dtype, "categories", values).dtype)}
    return {**spec, **name, "required": not bool(nulls.any())}


def _dtype_type(dtype: Any) -> str:
    numpy_dtype = getattr(dtype, "numpy_dtype", dtype)
    kind = getattr(dtype, "kind", "")
    if kind == "M":
        return "datetime"
    if kind == "S":
        return "binary"
    if kind == "U" or str(dtype) in ("str", "string") or (kind == "O" and str(dtype) == "object"):
        return "string"
    if str(numpy_dtype) in NUMPY_TYPES:
        return NUMPY_TYPES[str(numpy_dtype)]
    raise _Unclear


def _tensor(array: Any) -> Column:
    if not array.shape:
        raise _Unclear
    dtype = {"U": "str", "S": "bytes"}.get(array.dtype.kind, str(array.dtype))
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *map(int, array.shape[1:])]}}


def _value_type(value: Any) -> Column | None:
    """The type of one value, nested as deep as it is; None for a null, which fits every type."""
    if value is None:
        return None
    if type(value) in PYTHON_TYPES:
        return {"type": PYTHON_TYPES[type(value)]}
    if isinstance(value, date | datetime):
        return {"type": "datetime"}
    if isinstance(value, list) or _is_array(value):
        items = _merged(map(_value_type, value))
        return {"type": "array", "items": items} if items else {"type": "any"}
    if isinstance(value, dict):
        return {"type": "object", "properties": _properties([value])}
    if hasattr(value, "dtype"):
        return {"type": _dtype_type(value.dtype)}
    raise _Unclear


def _properties(records: list[dict[str, Any]]) -> dict[str, Column]:
    names = sorted({str(name) for record in records for name in record})
    return {
        name: {
            **(_merged(_value_type(record.get(name)) for record in records) or {"type": "any"}),
            "required": all(record.get(name) is not None for record in records),
        }
        for name in names
    }


def _merged(specs: Iterable[Column | None]) -> Column | None:
    merged: Column | None = None
    for spec in specs:
        merged = _both(merged, spec)
    return merged


def _both(one: Column | None, other: Column | None) -> Column | None:
    """The type that fits both; `any` is what an empty list has, and gives way."""
    if one is None or other is None or one == other:
        return one or other
    if one["type"] == "any" or other["type"] == "any":
        return other if one["type"] == "any" else one
    if one["type"] == other["type"] == "array":
        return {"type": "array", "items": _both(one["items"], other["items"])}
    if one["type"] == other["type"] == "object":
        return {"type": "object", "properties": _both_properties(one["properties"], other["properties"])}
    raise _Unclear


def _both_properties(one: dict[str, Column], other: dict[str, Column]) -> dict[str, Column]:
    both = {}
    for name in sorted({*one, *other}):
        here, there = one.get(name), other.get(name)
        required = bool(here and there and here["required"] and there["required"])
        bare = [{key: value for key, value in each.items() if key != "required"} for each in (here, there) if each]
        both[name] = {**(_merged(bare) or {"type": "any"}), "required": required}
    return both


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


# Params


def _param(name: str, default: Any) -> Column:
    if _is_array(default):
        default = default.tolist()
    try:
        if isinstance(default, list):
            return _list_param(name, default)
        spec = _value_type(default)
        if spec is None or spec["type"] in ("any", "binary", "array"):
            raise _Unclear
    except _Unclear:
        raise InvalidParameter(
            f"param {name!r} has the default {default!r}; it must be a number, text, true or false, "
            "a datetime, a dictionary, or a flat list of one of these"
        ) from None
    return {"name": name, "default": _json_value(default), "shape": None, **spec}


def _list_param(name: str, default: list[Any]) -> Column:
    if default and all(type(value) in (int, float) for value in default) and float in map(type, default):
        default = [float(value) for value in default]
    spec = _merged(map(_value_type, default)) or {"type": "string"}
    if spec["type"] in ("any", "binary", "array", "object"):
        raise _Unclear
    return {"name": name, "default": [_json_value(value) for value in default], "shape": [-1], **spec}


def _json_value(value: Any) -> Any:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value
