"""JSON lines: a line is a row, an object of its columns, or for a model without columns any JSON value."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import msgspec

from gateway.batch.rows import (
    BYTE_ORDER_MARK,
    Columns,
    Limit,
    in_chunks,
    lines_in,
    text_place,
    with_blank_lines,
)
from gateway.errors import BadRow

CONTENT_TYPE = "application/json"
VALUE = "input"  # the column's name where a line is no object

_skim = msgspec.json.Decoder(msgspec.Raw).decode


@dataclass(frozen=True, slots=True)
class JsonRows:
    """Lines of JSON text."""

    rows: Sequence[bytes]
    first: int
    first_line: int
    is_hinted: bool  # the signature came from type hints, and so only `inputs` may be sent

    content_type = CONTENT_TYPE

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        return sum(map(len, self.rows))

    def body(self) -> bytes:
        is_table = bool(self.rows) and self.rows[0].lstrip().startswith(b"{") and not self.is_hinted
        form = b"dataframe_records" if is_table else b"inputs"
        return b'{"%s":[%s]}' % (form, b",".join(self.rows))

    def check(self) -> None:
        for row in self.rows:
            _check(row)

    def cut(self, start: int, stop: int) -> JsonRows:
        line = self.first_line + lines_in(self.rows[:start])
        return replace(self, rows=self.rows[start:stop], first=self.first + start, first_line=line)

    def columns(self) -> Columns:
        records = [_record(row) for row in self.rows]
        names = dict.fromkeys(name for record in records for name in record)
        return {name: [record.get(name) for record in records] for name in names}

    def place(self) -> str:
        return text_place(self.rows, self.first, self.first_line)


def read(file: BinaryIO, limit: Limit, signature: Mapping[str, Any]) -> Iterator[JsonRows]:
    """The lines that are not blank."""
    is_hinted = bool(signature.get("is_signature_from_type_hint"))
    first = line = 1
    for chunk in in_chunks(with_blank_lines(_without_mark(file)), limit):
        yield JsonRows(chunk, first, line, is_hinted)
        first += len(chunk)
        line += lines_in(chunk)


def _check(row: bytes) -> None:
    """Raise `BadRow` where a line is not one JSON value: between others it could be read as several."""
    try:
        _skim(row)
    except msgspec.DecodeError:
        try:
            json.loads(row)  # it takes bare NaN and Infinity too, as the gateway does
        except (ValueError, RecursionError) as problem:
            raise BadRow(f"it is no JSON: {problem}") from None


def _record(row: bytes) -> dict[str, Any]:
    """The line's columns; none of a line that cannot be read, which got no prediction either."""
    try:
        value = json.loads(row)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {VALUE: value}


def _without_mark(file: BinaryIO) -> Iterator[bytes]:
    first = next(file, b"").removeprefix(BYTE_ORDER_MARK)
    if first:
        yield first
    yield from file


def _text(value: Any) -> str:
    """What JSON and the encoder have no form for."""
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


_encode = msgspec.json.Encoder(enc_hook=_text).encode


def encode(columns: Columns) -> bytes:
    """One object a line; what JSON has no number for, such as NaN, is null."""
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    return b"".join(_encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows)


def join(parts: Iterable[Path], target: BinaryIO) -> None:
    """Write the lines of several files as one."""
    for path in parts:
        with path.open("rb") as part:
            copyfileobj(part, target, 1 << 20)
