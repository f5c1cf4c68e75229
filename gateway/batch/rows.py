"""What a file is cut into, whatever its format: rows that go to a replica as one request, and their columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.errors import BadRow

Columns = Mapping[str, Sequence[Any]]
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Limit:
    """What is read at a time: so many rows, or fewer where they are long."""

    rows: int
    size_bytes: int = 8 << 20


class Rows(Protocol):
    """Some rows that follow one another in a file."""

    @property
    def first(self) -> int:
        """The number in the file of the first of them, from 1."""

    @property
    def content_type(self) -> str:
        """What `body` is."""

    @property
    def size(self) -> int:
        """What they count for in the file's size."""

    def __len__(self) -> int: ...

    def body(self) -> bytes:
        """A request's body with these rows."""

    def check(self) -> None:
        """Raise `BadRow` where somebody who reads that body would find other rows in it."""

    def cut(self, start: int, stop: int) -> Rows:
        """Some of them."""

    def columns(self) -> Columns:
        """Their values as they came."""

    def place(self) -> str:
        """Where in the file they are, for people."""


def in_chunks(rows: Iterable[bytes], limit: Limit) -> Iterator[list[bytes]]:
    """Lists of rows of text, each as long as *limit* allows; a single empty one where there are none."""
    chunk: list[bytes] = []
    count = size = 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if len(chunk) >= limit.rows or size >= limit.size_bytes:
            yield chunk
            count += 1
            chunk, size = [], 0
    if chunk or not count:
        yield chunk


def with_blank_lines(rows: Iterable[bytes]) -> Iterator[bytes]:
    """Rows without blank ones: these go in front of the next, so that line numbers stay countable."""
    blank = b""
    for row in rows:
        if row.isspace():
            blank += row
        elif blank:
            yield blank + row
            blank = b""
        else:
            yield row


def without_blank_lines(row: bytes) -> bytes:
    """The row without the blank ones that were put in front of it."""
    margin = row[: len(row) - len(row.lstrip())]
    return row[margin.rfind(b"\n") + 1 :]


def lines_in(rows: Iterable[bytes]) -> int:
    """How many lines they take in the file."""
    return sum(each.count(b"\n") for each in rows)


def text_place(rows: Sequence[bytes], first: int, first_line: int) -> str:
    """Where rows of text are: `row 7 (line 8)`, `rows 1 to 100`."""
    if len(rows) != 1:
        return place(first, len(rows))
    line = first_line + lines_in(rows) - lines_in([without_blank_lines(rows[0])])
    return f"row {first} (line {line})"


def place(first: int, count: int) -> str:
    """Where rows are: `row 7`, `rows 1 to 100`."""
    return f"row {first}" if count == 1 else f"rows {first} to {first + count - 1}"


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def refuse_doubles(names: Sequence[str]) -> None:
    """Raise `BadRow` where two columns have one name, so that they cannot be told apart."""
    double = next((each for at, each in enumerate(names) if each in names[:at]), None)
    if double is not None:
        raise BadRow(f"two columns are called {double!r}; rename one")
