"""CSV, as pandas reads and writes it: cut into rows without being parsed, and written from columns."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO, Literal

from gateway.batch.rows import (
    BYTE_ORDER_MARK,
    Columns,
    Limit,
    in_chunks,
    lines_in,
    refuse_doubles,
    text_place,
    with_blank_lines,
    without_blank_lines,
)
from gateway.errors import BadRow

CONTENT_TYPE = "text/csv"
LINES_AT_ONCE = 4096
MAX_FIELD_BYTES = 64 << 20
# What pandas takes for a missing number.
MISSING = frozenset(
    [
        *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"),
        *("NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
    ]
)
READERS: Mapping[str, Callable[[str], Any]] = {
    "integer": int,
    "long": int,
    "float": float,
    "double": float,
    "boolean": lambda text: {"true": True, "false": False}[text.lower()],
}


@dataclass(frozen=True, slots=True)
class Header:
    """The first row, and the types of the columns that it names."""

    text: bytes
    names: list[str]
    types: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CsvRows:
    """Rows of CSV text, each with its line end."""

    header: Header
    rows: Sequence[bytes]
    first: int
    first_line: int

    content_type = CONTENT_TYPE

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        return sum(map(len, self.rows))

    def body(self) -> bytes:
        return b"".join([self.header.text, *self.rows])

    def check(self) -> None:
        text = b"".join(self.rows)
        if b'"' not in text and text.count(b"\r") > text.count(b"\r\n"):
            raise BadRow("a carriage return stands alone in it, which ends a row for some and not for others")
        # One field too many in the first row of a table makes pandas take the first column for row names.
        for fields in _parsed(self.rows[:1]):
            found, named = len(fields), len(self.header.names)
            if found > named:
                raise BadRow(f"it has {found} fields, and the header names {named} columns")

    def cut(self, start: int, stop: int) -> CsvRows:
        line = self.first_line + lines_in(self.rows[:start])
        return replace(self, rows=self.rows[start:stop], first=self.first + start, first_line=line)

    def columns(self) -> Columns:
        """Text, or their types; None where a field is empty, or not of its type."""
        refuse_doubles(self.header.names)
        names, types = self.header.names, self.header.types
        rows = [fields + [""] * (len(names) - len(fields)) for fields in _parsed(self.rows)]
        return {name: _typed([row[at] for row in rows], types.get(name)) for at, name in enumerate(names)}

    def place(self) -> str:
        return text_place(self.rows, self.first, self.first_line)


def read(file: BinaryIO, limit: Limit, types: Mapping[str, str]) -> Iterator[CsvRows]:
    """The rows below the header. Raises `BadRow` for a file that has none, or whose quotes do not match.

    The columns are text but for those that *types* names: these are read as the signature's types.
    """
    csv.field_size_limit(MAX_FIELD_BYTES)
    rows = with_blank_lines(_rows(file))
    text = next(rows, b"").removeprefix(BYTE_ORDER_MARK)
    if not text.strip():
        raise BadRow("the file is empty: its first line should name the columns")
    header = Header(without_blank_lines(text).rstrip(b"\r\n") + b"\n", _parsed([text])[0], types)
    first, line = 1, 1 + lines_in([text])
    for chunk in in_chunks(rows, limit):
        yield CsvRows(header, chunk, first, line)
        first += len(chunk)
        line += lines_in(chunk)


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """A row is a line, unless a quoted field goes on in the next one."""
    while lines := list(islice(file, LINES_AT_ONCE)):
        yield from _quoted_rows(lines, file) if b'"' in b"".join(lines) else lines


def _quoted_rows(lines: list[bytes], file: BinaryIO) -> list[bytes]:
    rows: list[bytes] = []
    row: list[bytes] = []

    def feed() -> Iterator[str]:
        for line in chain(lines, file):
            row.append(line)
            yield line.decode("utf-8", "replace")

    taken = 0
    try:
        for _ in csv.reader(feed()):
            rows.append(b"".join(row))
            taken += len(row)
            row.clear()
            if taken >= len(lines):
                break
    except csv.Error as problem:
        start = row[0][:60].decode("utf-8", "replace")
        raise BadRow(f"the row that begins with {start!r} is no CSV: {problem}; does a quote stay open?") from None
    return rows


def _parsed(rows: Sequence[bytes]) -> list[list[str]]:
    text = b"".join(map(without_blank_lines, rows)).decode("utf-8", "replace")
    return list(csv.reader(io.StringIO(text, newline="")))


def _typed(values: Sequence[str], kind: str | None) -> Sequence[Any]:
    reader = READERS.get(kind or "")
    return [value or None for value in values] if reader is None else [_read(reader, value) for value in values]


def _read(reader: Callable[[str], Any], value: str) -> Any:
    try:
        return None if value in MISSING else reader(value)
    except (ValueError, KeyError):
        return None


def encode(columns: Columns) -> bytes:
    """A header and one line for each row."""
    rows = list(zip(*(_cells(values) for values in columns.values()), strict=True))
    text = _written(rows, csv.QUOTE_MINIMAL)
    if "\r" in text:  # which ends a row for pandas, and is not quoted by itself
        text = _written(rows, csv.QUOTE_ALL)
    return (_written([tuple(columns)], csv.QUOTE_MINIMAL) + text).encode("utf-8", "replace")


def _written(rows: Iterable[Sequence[Any]], quoting: Literal[0, 1]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(rows)
    return text.getvalue()


def _cells(values: Sequence[Any]) -> list[Any]:
    return [each if isinstance(each, int | str) else _cell(each) for each in values]


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else value  # noqa: PLR0124  # NaN is written as a missing value
    if isinstance(value, list | dict):
        return json.dumps(value, default=_cell)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else value


def header_of(part: BinaryIO) -> bytes:
    """The first row of what `encode` made."""
    return next(_rows(part))


def join(parts: Iterable[Path], target: BinaryIO) -> None:
    """Write what several calls of `encode` made, all with the same columns, as one file."""
    for at, path in enumerate(parts):
        with path.open("rb") as part:
            part.seek(len(header_of(part)) if at else 0)
            copyfileobj(part, target, 1 << 20)
