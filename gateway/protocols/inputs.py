"""Tensors to what a model takes, by its signature: tables of named columns, one array, or arrays by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from gateway.errors import BadRequest
from gateway.protocols import tensors as wire
from gateway.protocols.tensors import Tensor
from gateway.worker import elements
from gateway.worker.frames import Payload

COLUMN_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
TENSOR_DATATYPES = {each.dtype: name for name, each in elements.NUMBERS.items()}
NUMERIC = frozenset(("boolean", "integer", "long", "float", "double"))
TEXTS = ("str", "bytes")
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

Spec = Mapping[str, Any]
Json = dict[str, Any]


def described(specs: Sequence[Spec], unnamed: str) -> list[Json]:
    """What the metadata says of inputs or outputs; those without a name are called *unnamed*, or so and a number."""
    return [
        {"name": name, "datatype": datatype, "shape": shape}
        for name, (datatype, shape) in zip(names_of(specs, unnamed), map(_kind, specs), strict=True)
    ]


def names_of(specs: Sequence[Spec], unnamed: str) -> list[str]:
    """The names of inputs or outputs, also of those that the signature gives none."""
    alone = len(specs) == 1
    free = [unnamed if alone else f"{unnamed}-{at}" for at in range(len(specs))]
    return [name if spec.get("name") is None else str(spec["name"]) for name, spec in zip(free, specs, strict=True)]


class Inputs:
    """Makes payloads for one signature."""

    def __init__(self, signature: Mapping[str, Any]) -> None:
        self._specs: list[Spec] = signature.get("inputs") or []
        self._params = {spec["name"] for spec in signature.get("params") or []}
        self._is_from_type_hint = bool(signature.get("is_signature_from_type_hint"))
        self.names = names_of(self._specs, "input")
        self._are_tensors = bool(self._specs) and self._specs[0]["type"] == "tensor"
        self._is_named = bool(self._specs) and all(spec.get("name") is not None for spec in self._specs)
        self._are_plain = all(spec["type"] in COLUMN_DATATYPES for spec in self._specs)
        self._are_numeric = all(spec["type"] in NUMERIC for spec in self._specs)

    def payload(self, tensors: list[Tensor], parameters: Mapping[str, Any]) -> Payload:
        """What is sent to a replica. Raises `BadRequest` where the inputs are not those that the model takes."""
        payload = self._payload(tensors, parameters.get("content_type") == "pd")
        params = {name: value for name, value in parameters.items() if name in self._params}
        if params:
            payload.meta["params"] = params
        return payload

    def raw(self, body: bytes) -> list[Tensor]:
        """The only input, whose raw bytes are the whole body. Raises `BadRequest` where they do not tell what it is."""
        if self._specs and not self._are_tensors and self._are_numeric and len({*map(_datatype, self._specs)}) == 1:
            return [self._sized("input", _datatype(self._specs[0]), [-1, len(self._specs)], body)]
        if len(self._specs) == 1:
            return [self._sized(self.names[0], *_kind(self._specs[0]), body)]
        raise BadRequest(
            "A body of raw bytes alone (Inference-Header-Content-Length: 0) is for models with one input, or with "
            f"columns of one datatype; this one takes {self._wanted()}."
        )

    def _sized(self, name: str, datatype: str, shape: list[int], body: bytes) -> Tensor:
        if datatype == elements.BYTES:
            return wire.binary(name, datatype, [1], memoryview(elements.joined([body])))
        known = math.prod(size for size in shape if size >= 0) * elements.NUMBERS[datatype].size
        if shape.count(-1) == 1 and known and len(body) % known == 0:
            shape = [len(body) // known if size < 0 else size for size in shape]
        elif -1 in shape:
            _refuse(f"{len(body)} raw bytes are no {datatype} tensor of shape {shape}")
        return wire.binary(name, datatype, shape, memoryview(body))

    def _payload(self, tensors: list[Tensor], wants_table: bool) -> Payload:
        if self._is_from_type_hint:
            return self._only(tensors)
        if not self._specs:
            return self._free(tensors, wants_table)
        if self._are_tensors:
            return self._arrays(tensors)
        matrix = self._matrix(tensors)
        return matrix or self._columns(tensors)

    # Columns

    def _matrix(self, tensors: list[Tensor]) -> Payload | None:
        """One tensor with all columns side by side."""
        tensor, width = tensors[0], len(self._specs)
        is_matrix = len(tensors) == 1 and len(tensor.shape) == 2 and tensor.shape[1] == width
        if not is_matrix or not self._are_numeric or tensor.datatype == elements.BYTES:
            return None
        names, rows = self._columns_named(), tensor.shape[0]
        if not rows:
            return _named(names, [tensor._replace(shape=[0], buffer=b"", how=None)] * width)
        meta = {"kind": "table", "columns": names, "dtypes": [tensor.dtype] * width, "rows": rows, "packed": True}
        return _with_unread(meta, [tensor])

    def _columns(self, tensors: list[Tensor]) -> Payload:
        given = {each.name: each for each in tensors}
        if not self._is_named and len(tensors) == 1 == len(self._specs):
            given = {self.names[0]: tensors[0]}
        pairs = list(zip(self.names, self._specs, strict=True))
        missing = [name for name, spec in pairs if name not in given and self._needs(spec)]
        columns = [_for_spec(given[name], spec) for name, spec in pairs if name in given]
        if missing or not columns:
            self._refuse_missing(tensors, missing or self.names)
        names = [column for (name, _), column in zip(pairs, self._columns_named(), strict=True) if name in given]
        if not self._are_plain or any(each.dtype == "bytes" for each in columns):
            return _named(names, columns)
        for each in columns:
            self._check_column(each)
        rows = {each.shape[0] for each in columns}
        if len(rows) > 1:
            _refuse(f"The inputs have different numbers of rows: {sorted(rows)[:10]}")
        return _table(names, rows.pop(), columns)

    def _needs(self, spec: Spec) -> bool:
        return not self._is_named or bool(spec.get("required", True))

    def _check_column(self, tensor: Tensor) -> None:
        if len(tensor.shape) not in (1, 2) or tensor.shape[1:] not in ([], [1]):
            _refuse(
                f"Input {tensor.name[:100]!r} has the shape {tensor.shape}; a column has [rows] or [rows, 1], and one "
                f"tensor for all columns [rows, {len(self._specs)}]"
            )

    def _columns_named(self) -> list[Any]:
        return [spec["name"] for spec in self._specs] if self._is_named else list(range(len(self._specs)))

    # Arrays

    def _arrays(self, tensors: list[Tensor]) -> Payload:
        given = {each.name: each for each in tensors}
        if len(self._specs) == 1 == len(tensors) and (not self._is_named or self.names[0] not in given):
            given = {self.names[0]: tensors[0]}
        arrays = []
        for name, spec in zip(self.names, self._specs, strict=True):
            if name in given:
                _check_array(given[name], *_kind(spec))
                arrays.append(_for_spec(given[name], spec)._replace(name=name))
            elif spec.get("required", True):
                self._refuse_missing(tensors, [each for each in self.names if each not in given])
        if self._is_named:
            return _named([each.name for each in arrays], arrays)
        return _array(arrays[0])

    def _free(self, tensors: list[Tensor], wants_table: bool) -> Payload:
        """Without a signature: one input is an array, several are columns, or arrays by name where they are none."""
        read = [_for_spec(each, {}) for each in tensors]
        if len(read) == 1 and not wants_table:
            return _array(read[0])
        rows = {each.shape[0] if each.shape else None for each in read}
        are_columns = all(len(each.shape) == 1 or each.shape[1:] == [1] for each in read) and len(rows) == 1
        if not are_columns or None in rows:
            return _named([each.name for each in read], read)
        return _table([each.name for each in read], read[0].shape[0], read)

    def _only(self, tensors: list[Tensor]) -> Payload:
        if len(tensors) != 1:
            _refuse(f"The model's signature comes from type hints, so it takes one input; {len(tensors)} came")
        return _named([None], [_for_spec(tensors[0], {})])

    # Refusals

    def _wanted(self) -> str:
        wanted = [
            f"{each['name'][:60]} ({each['datatype']} {each['shape']})" for each in described(self._specs, "input")
        ]
        return ", ".join(wanted[:30]) + (", …" if len(wanted) > 30 else "") if wanted else "any inputs"

    def _refuse_missing(self, tensors: list[Tensor], missing: list[str]) -> NoReturn:
        came = ", ".join(f"{each.name[:60]!r} {each.datatype} {each.shape}" for each in tensors[:20])
        names = ", ".join(each[:60] for each in missing[:30])
        _refuse(f"Inputs are missing: {names}; the model takes {self._wanted()}, and {came} came")


def _kind(spec: Spec) -> tuple[str, list[int]]:
    """The datatype and the shape of an input or output; text in JSON where the protocol has no type for it."""
    if spec["type"] == "tensor":
        shape = [int(size) for size in spec["tensor-spec"]["shape"]]
        return TENSOR_DATATYPES.get(spec["tensor-spec"]["dtype"], "BYTES"), shape
    rank, inner = 1, spec
    while inner["type"] == "array" and "items" in inner:
        rank, inner = rank + 1, inner["items"]
    datatype = COLUMN_DATATYPES.get(inner["type"])
    return ("BYTES", [-1]) if datatype is None else (datatype, [-1] * rank)


def _datatype(spec: Spec) -> str:
    return _kind(spec)[0]


def _for_spec(tensor: Tensor, spec: Spec) -> Tensor:
    if tensor.datatype != elements.BYTES:
        return tensor
    of_bytes = spec.get("type") == "binary" or spec.get("tensor-spec", {}).get("dtype") == "bytes"
    return wire.texts(tensor, "bytes" if of_bytes else "str")


def _check_array(tensor: Tensor, datatype: str, shape: list[int]) -> None:
    fits = len(tensor.shape) == len(shape)
    fits = fits and all(wanted in (-1, size) for wanted, size in zip(shape, tensor.shape, strict=True))
    if not fits:
        _refuse(f"Input {tensor.name[:100]!r} has the shape {tensor.shape}; the model takes {shape}")
    if tensor.datatype != datatype:
        _refuse(f"Input {tensor.name[:100]!r} has the datatype {tensor.datatype}; the model takes {datatype}")


# Payloads


def _table(names: list[Any], rows: int, tensors: list[Tensor]) -> Payload:
    """A table, all values in one buffer where they are of one type: as MLflow's bodies are, so that both are joined."""
    if not rows:
        return _named(names, [each._replace(shape=[0]) for each in tensors])
    dtypes = [each.dtype for each in tensors]
    meta = {"kind": "table", "columns": names, "dtypes": dtypes, "rows": rows}
    if len(set(dtypes)) > 1 or dtypes[0] in TEXTS or any(each.how for each in tensors):
        return _with_unread(meta, tensors)
    width = elements.NUMBERS[tensors[0].datatype].size
    return Payload({**meta, "packed": True}, (interleaved([each.buffer for each in tensors], width, rows),))


def interleaved(columns: Sequence[bytes | memoryview], width: int, rows: int) -> bytes | bytearray:
    """Columns of numbers of *width* bytes as rows, without looking at the numbers."""
    if rows == 1 or len(columns) == 1:
        return b"".join(columns)
    code: Any = _CODES[width]
    whole = bytearray(width * rows * len(columns))
    view = memoryview(whole).cast(code)
    for at, column in enumerate(columns):
        view[at :: len(columns)] = memoryview(column).cast("B").cast(code)
    return whole


def _array(tensor: Tensor) -> Payload:
    if 0 in tensor.shape or not tensor.shape or tensor.dtype in TEXTS:  # no rows of raw numbers that could be joined
        return _named([None], [tensor])
    return _with_unread({"kind": "tensor", "dtype": tensor.dtype, "shape": tensor.shape}, [tensor])


def _named(names: Sequence[Any], tensors: list[Tensor]) -> Payload:
    meta = {
        "kind": "tensors",
        "names": list(names),
        "dtypes": [each.dtype for each in tensors],
        "shapes": [each.shape for each in tensors],
    }
    return _with_unread(meta, tensors)


def _with_unread(meta: Json, tensors: list[Tensor]) -> Payload:
    if any(each.how for each in tensors):
        meta["unread"] = [each.how and [each.how, each.datatype, each.shape, each.name] for each in tensors]
    return Payload(meta, tuple(each.buffer for each in tensors))


def _refuse(problem: str) -> NoReturn:
    raise BadRequest(f"{problem}.")
