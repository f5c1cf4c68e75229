"""Clean JSON bodies of MLflow's scoring protocol as raw numbers, by decoders built from a signature.

A body is clean when every value has exactly its column's or tensor's type, nothing is missing and nothing is over.
A reader answers None, or raises one of `NOT_CLEAN`, for every other body; those are for the replica to read.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, starmap
from operator import itemgetter
from types import GenericAlias
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import astuple

from gateway.worker.frames import Payload
from gateway.worker.samples import DTYPES as COLUMN_DTYPES

Reader = Callable[[bytes], Payload | None]
NOT_CLEAN = (ValueError, TypeError, OverflowError, RecursionError, struct.error)  # msgspec's are ValueErrors

CODES = {
    "float64": "d",
    "float32": "f",
    "int64": "q",
    "int32": "i",
    "int16": "h",
    "int8": "b",
    "uint64": "Q",
    "uint32": "I",
    "uint16": "H",
    "uint8": "B",
    "bool": "?",
}
_PYTHON_TYPES: dict[str, type] = {
    name: int if "int" in name else float if "float" in name else bool for name in CODES
} | {"str": str}

_NO_FIELD = re.compile('[\\\\"\x00-\x1f\ud800-\udfff]')  # what msgspec has in no field's name

_encode = msgspec.json.Encoder().encode


def reader(signature: dict[str, Any]) -> Reader | None:
    """What reads clean bodies for *signature*, or None where no body could be."""
    inputs = signature.get("inputs") or []
    if not inputs or signature.get("is_signature_from_type_hint"):
        return None
    names = [spec.get("name") for spec in inputs]
    if any(name is not None and (not isinstance(name, str) or _NO_FIELD.search(name)) for name in names):
        return None
    if inputs[0]["type"] == "tensor":
        dtype = inputs[0]["tensor-spec"]["dtype"]
        return Tensor(inputs[0]["tensor-spec"]) if names == [None] and dtype in CODES else None
    if any(spec["type"] not in COLUMN_DTYPES for spec in inputs):
        return None
    is_named = None not in names and len(set(names)) == len(names)
    return Columns(inputs) if is_named or not any(names) else None


class Columns:
    """Reads the four forms for a signature of plain columns, named or not."""

    def __init__(self, inputs: list[dict[str, Any]]) -> None:
        self._names = [spec.get("name") for spec in inputs]
        self._is_named = None not in self._names
        self._dtypes = [COLUMN_DTYPES[spec["type"]] for spec in inputs]
        self._is_packed = len(set(self._dtypes)) == 1 and self._dtypes[0] != "str"
        self._has_text = "str" in self._dtypes
        self._pack = struct.Struct(f"<{len(inputs)}{CODES[self._dtypes[0]]}").pack if self._is_packed else None
        types = [_PYTHON_TYPES[dtype] for dtype in self._dtypes]
        rows = _list_of(GenericAlias(tuple, tuple(types)))
        split = _struct("Split", [("data", rows), ("columns", list[str]), ("index", list[int] | None, None)])
        records: Any = None
        arrays: Any = rows if self._is_packed else None
        if self._is_named:
            fields = {f"c{at}": name for at, name in enumerate(self._names)}
            records = _list_of(_struct("Record", list(zip(fields, types, strict=True)), fields))
            arrays = records | _struct("Table", list(zip(fields, map(_list_of, types), strict=True)), fields)
        forms = [("dataframe_split", split), ("dataframe_records", records)]
        self._decode = _decoder([*forms, ("inputs", arrays), ("instances", arrays)])

    def __call__(self, body: bytes) -> Payload | None:
        message = self._decode(body)
        split, records, params = message.dataframe_split, message.dataframe_records, message.params
        if split is not UNSET:
            if not (records is message.inputs is message.instances is UNSET):
                return None
            payload = self._split(split)
        elif records is not UNSET:
            if not (message.inputs is message.instances is UNSET):
                return None
            payload = self._rows(map(astuple, records), len(records), self._names) if records else None
        elif self._has_text and b"\\u0000" in body:
            return None  # numpy, which reads inputs and instances, drops NULs at the end of a string
        else:
            payload = self._values(message.inputs, message.instances)
        return _with_params(payload, params)

    def _values(self, inputs: Any, instances: Any) -> Payload | None:
        content = instances if inputs is UNSET else inputs
        if not content or (inputs is not UNSET and instances is not UNSET):
            return None
        if not isinstance(content, list):
            columns = astuple(content)
            if self._pack is None:
                return self._columns(columns, self._names)
            return self._rows(zip(*columns, strict=True), len(columns[0]), self._names) if columns[0] else None
        if self._is_named:
            return self._rows(map(astuple, content), len(content), self._names)
        return self._rows(content, len(content), list(range(len(self._dtypes))))

    def _split(self, split: Any) -> Payload | None:
        rows, columns = split.data, split.columns
        if not rows or not (split.index is None or split.index == list(range(len(rows)))):
            return None
        if columns == self._names:
            return self._rows(rows, len(rows), columns)
        if len(set(columns)) != len(self._names) or len(columns) != len(self._names):
            return None
        if not self._is_named:
            return self._rows(rows, len(rows), columns)
        if not self._is_packed:
            return None
        order = [columns.index(name) for name in self._names]
        return self._rows(map(itemgetter(*order), rows), len(rows), self._names)

    def _rows(self, rows: Iterable[Sequence[Any]], count: int, columns: list[Any]) -> Payload | None:
        if self._pack is None:
            return self._columns(list(zip(*rows, strict=True)), columns)
        meta = {"kind": "table", "columns": columns, "dtypes": self._dtypes, "rows": count, "packed": True}
        return Payload(meta, (b"".join(starmap(self._pack, rows)),))  # twice as fast as one array of all values

    def _columns(self, values: Sequence[Sequence[Any]], columns: list[Any]) -> Payload | None:
        count = len(values[0])
        if not count or any(len(each) != count for each in values):
            return None
        meta = {"kind": "table", "columns": columns, "dtypes": self._dtypes, "rows": count}
        return Payload(meta, tuple(map(_buffer, self._dtypes, values)))


class Tensor:
    """Reads `inputs` and `instances` for a signature of one tensor without a name."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._dtype: str = spec["dtype"]
        self._shape: list[int] = list(spec["shape"])
        item = _PYTHON_TYPES[self._dtype]
        # Where the rows' length is known, msgspec checks it and one format packs each of them.
        self._row = self._shape[-1] if len(self._shape) > 1 and self._shape[-1] > 0 else 0
        self._pack = struct.Struct(f"<{self._row}{CODES[self._dtype]}").pack
        nested: Any = GenericAlias(tuple, (item,) * self._row) if self._row else item
        for _ in self._shape[1:] if self._row else self._shape:
            nested = _list_of(nested)
        self._decode = _decoder([("inputs", nested if self._shape else None), ("instances", nested)])

    def __call__(self, body: bytes) -> Payload | None:
        message = self._decode(body)
        forms = [each for each in (message.inputs, message.instances) if each is not UNSET]
        if len(forms) != 1 or not self._shape:
            return None
        shape, level = _flat(forms[0], len(self._shape) - bool(self._row))
        if self._row:
            shape.append(self._row)
        if any(wanted not in (-1, size) for wanted, size in zip(self._shape, shape, strict=True)):
            return None
        buffer = b"".join(starmap(self._pack, level)) if self._row else _buffer(self._dtype, level)
        meta = {"kind": "tensor", "dtype": self._dtype, "shape": shape}
        return _with_params(Payload(meta, (buffer,)), message.params)


def _list_of(item: Any) -> Any:
    return GenericAlias(list, (item,))


def _struct(name: str, fields: list[Any], rename: dict[str, Any] | None = None) -> Any:
    return msgspec.defstruct(name, fields, rename=rename, forbid_unknown_fields=True, gc=False)


def _decoder(forms: list[tuple[str, Any]]) -> Callable[[bytes], Any]:
    fields: list[Any] = [(name, UnsetType if form is None else form | UnsetType, UNSET) for name, form in forms]
    # Params stay raw here and are read by the json module, as a replica would read them.
    body = _struct("Body", [*fields, ("params", msgspec.Raw | UnsetType, UNSET)])
    return msgspec.json.Decoder(body).decode


def _flat(nested: list[Any], rank: int) -> tuple[list[int], list[Any]]:
    """The shape and the numbers of nested lists. Raises ValueError where they are ragged or empty."""
    shape, level = [len(nested)], nested
    for _ in range(rank - 1):
        (size,) = set(map(len, level))
        shape.append(size)
        level = list(chain.from_iterable(level))
    if not level:
        raise ValueError("an empty tensor")
    return shape, level


def _buffer(dtype: str, values: Sequence[Any]) -> bytes:
    """Raises struct.error or OverflowError for a number that the type cannot hold."""
    return _encode(values) if dtype == "str" else struct.pack(f"<{len(values)}{CODES[dtype]}", *values)


def _with_params(payload: Payload | None, raw: msgspec.Raw | UnsetType) -> Payload | None:
    if payload is not None and raw is not UNSET:
        payload.meta["params"] = json.loads(bytes(raw))
    return payload
