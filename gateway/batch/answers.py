"""A replica's answer as columns, one value for each row that was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from gateway.batch.rows import Columns
from gateway.errors import BatchFailed
from gateway.protocols.clean import CODES
from gateway.worker.frames import Payload

PREDICTION = "prediction"


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a signature says of a model's outputs."""

    names: Sequence[str]  # none where one of them has no name
    types: Mapping[str, str]  # by their column's name
    taken: frozenset[str]  # the names of inputs

    @classmethod
    def of(cls, signature: Mapping[str, Any] | None) -> Self:
        """From a signature as the MLmodel file has it."""
        signature = signature or {}
        outputs = signature.get("outputs") or []
        found = [spec.get("name") for spec in outputs]
        names = [] if None in found else [str(name) for name in found]
        known = names or ([PREDICTION] if len(outputs) == 1 else [])
        types = {name: spec["type"] for name, spec in zip(known, outputs, strict=False)}
        return cls(names, types, frozenset(spec.get("name") for spec in signature.get("inputs") or []))

    @property
    def expected(self) -> Sequence[str]:
        """The columns of an answer that is not there."""
        return self.names or [PREDICTION]


def columns_of(answer: Payload, rows: int, outputs: Outputs) -> Columns:
    """The answer's columns: under their own names, else those of the signature, else `prediction`.

    A lone column that is called as an input, because it was computed from it, is `prediction` too.
    Raises `BatchFailed` for an answer that does not have one entry for each row.
    """
    names = outputs.names
    values = _tensor(answer) if answer.meta["kind"] == "tensor" else json.loads(bytes(answer.buffers[0]))
    if answer.meta["kind"] == "tensor" and len(answer.meta["shape"]) == 2:
        columns = _named(list(zip(*values, strict=True)), names)
    elif isinstance(values, dict) and values and all(_is_column(each, rows) for each in values.values()):
        columns = values
    elif isinstance(values, list) and values and all(isinstance(each, dict) for each in values):
        columns = _of_records(values, names)
    elif _is_matrix(values, len(names)):
        columns = _named(list(zip(*values, strict=True)), names)
    else:
        columns = _named([values], names)
    _check_length(columns, rows)
    if len(columns) == 1 and not outputs.taken.isdisjoint(columns):
        return dict(zip([PREDICTION], columns.values(), strict=True))
    return columns


def _tensor(answer: Payload) -> Any:
    meta = answer.meta
    code: Any = CODES[meta["dtype"]]
    return memoryview(answer.buffers[0]).cast("B").cast(code, meta["shape"]).tolist()


def _is_column(value: Any, rows: int) -> bool:
    return isinstance(value, list) and len(value) == rows


def _is_matrix(values: Any, width: int) -> bool:
    """Whether these are lists with a value for each of the signature's several outputs."""
    return width > 1 and isinstance(values, list) and all(_is_column(each, width) for each in values)


def _of_records(records: list[dict[str, Any]], names: Sequence[str]) -> Columns:
    keys = list(dict.fromkeys(key for record in records for key in record))
    columns = [[record.get(key) for record in records] for key in keys]
    if keys == [str(at) for at in range(len(keys))]:  # a table whose columns have no names
        return _named(columns, names)
    return dict(zip(keys, columns, strict=True))


def _named(columns: Sequence[Any], names: Sequence[str]) -> Columns:
    if len(columns) == len(names):
        return dict(zip(names, columns, strict=True))
    if len(columns) == 1:
        return {PREDICTION: columns[0]}
    return {f"{PREDICTION}_{at}": values for at, values in enumerate(columns)}


def _check_length(columns: Columns, rows: int) -> None:
    for values in columns.values():
        if not isinstance(values, list | tuple):
            raise BatchFailed(f"the model answers {rows} rows with one {type(values).__name__}, not one entry a row")
        if len(values) != rows:
            raise BatchFailed(f"the model answers {rows} rows with {len(values)} entries, not one a row")
