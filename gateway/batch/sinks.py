"""Where answers go, in the order of the rows: parts that become a file at the end, or straight into a stream."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO, Protocol

from gateway.batch.formats import Writing
from gateway.batch.parts import Key, Parts
from gateway.batch.rows import Columns, counted
from gateway.errors import BatchFailed


class Sink(Protocol):
    """Takes the answers; one writer."""

    def has(self, key: Key) -> bool:
        """Whether an earlier run has answered these rows."""

    def take(self, key: Key) -> int:
        """Use that answer for the next rows; how many bad ones are among them."""

    def put(self, key: Key, columns: Columns, bad_rows: int) -> None:
        """The answer to the next rows. Raises `BatchFailed` where it has other columns than those before."""

    def finish(self) -> None:
        """That was all."""

    def kept(self) -> str:
        """What becomes of the work if it ends here, for people; empty where there is none."""


class FileSink:
    """Parts beside the file."""

    def __init__(self, parts: Parts, writing: Writing) -> None:
        self._parts = parts
        self._writing = writing
        self._headers = _Headers(writing.header_of)

    def has(self, key: Key) -> bool:
        return self._parts.has(key)

    def take(self, key: Key) -> int:
        part = self._parts.take(key)
        with part.path.open("rb") as data:
            self._headers.check(data, key)
        return part.bad_rows

    def put(self, key: Key, columns: Columns, bad_rows: int) -> None:
        data = self._writing.encode(columns)
        self._headers.check(io.BytesIO(data), key)
        self._parts.put(key, data, bad_rows)

    def finish(self) -> None:
        self._parts.finish(self._writing.join)

    def kept(self) -> str:
        count = self._parts.finished
        if not count:
            return ""
        where = str(self._parts.folder)
        return f"{counted(count, 'finished part')} kept in {where!r}, from where the same command goes on"


class StreamSink:
    """Standard output: nothing of it can be taken back, and nothing is kept."""

    def __init__(self, stream: BinaryIO, writing: Writing) -> None:
        self._stream = stream
        self._writing = writing
        self._headers = _Headers(writing.header_of)

    def has(self, _: Key) -> bool:
        return False

    def take(self, key: Key) -> int:
        raise KeyError(key)

    def put(self, key: Key, columns: Columns, _: int) -> None:
        data = self._writing.encode(columns)
        header = self._headers.check(io.BytesIO(data), key)
        self._stream.write(data[header:])
        self._stream.flush()

    def finish(self) -> None:
        pass

    def kept(self) -> str:
        return "" if self._headers.are_new else "what was written stays; with -o FILE the command could go on from it"


class _Headers:
    """Sees that all answers have the columns of the first, in a format where a file has them once."""

    def __init__(self, header_of: Callable[[BinaryIO], bytes]) -> None:
        self._header_of = header_of
        self._first: bytes | None = None

    @property
    def are_new(self) -> bool:
        """Whether nothing has been checked yet."""
        return self._first is None

    def check(self, data: BinaryIO, key: Key) -> int:
        """How many bytes of it have been said before."""
        header = self._header_of(data)
        if self._first is None:
            self._first = header
            return 0
        if header != self._first:
            names, before = (each.decode().strip() for each in (header, self._first))
            raise BatchFailed(
                f"the answer to row {key.first} and after has the columns {names}, that to those before {before}; "
                "write JSON lines, which can hold both, or let the model answer the same columns always"
            )
        return len(header)
