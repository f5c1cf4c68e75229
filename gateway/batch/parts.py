"""Finished parts of an answer, in a folder beside it: what an interrupted run leaves, and the next one takes up."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, BinaryIO, Self

from gateway.errors import BatchFailed

RECORD = "run.json"
INCOMING = "incoming"
PART = re.compile(r"([0-9]{12})-([0-9]+)-([0-9]+)-([0-9a-f]{32})\.part")
Join = Callable[[Iterable[Path], BinaryIO], None]


@dataclass(frozen=True, slots=True)
class Key:
    """Which rows a part answers: the number of the first, how many, and a digest of what was asked."""

    first: int
    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class Part:
    """An answer to some rows, and how many bad ones are among them."""

    path: Path
    bad_rows: int


class Parts:
    """`FILE.parts`, held by one process at a time. Open it with `with`; without a part in it, it is gone afterwards.

    A part is there as soon as it has its name. FILE itself appears whole, by one rename.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f"{target.name}.parts")
        self.record: dict[str, Any] | None = None  # what was asked when the folder was made
        self._found: dict[Key, Part] = {}
        self._taken: list[Path] = []  # those of this run, in the order of the rows

    def __enter__(self) -> Self:
        self._lock = _locked(self.folder)
        try:
            self._look()
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if not self._taken and not self._found:
            self.clear()
        with contextlib.suppress(OSError):  # not empty: there is something to go on from
            self.folder.rmdir()
        os.close(self._lock)

    @property
    def finished(self) -> int:
        """How many parts are there."""
        return len({*self._taken, *(part.path for part in self._found.values())})

    def begin(self, record: Mapping[str, Any]) -> None:
        """Write down what is asked, for whoever goes on."""
        self.record = dict(record)
        self._write(RECORD, json.dumps(self.record, indent=1).encode())

    def clear(self) -> None:
        """Forget every part."""
        for path in self.folder.iterdir():
            path.unlink()
        self.record = None
        self._found.clear()
        self._taken.clear()

    def has(self, key: Key) -> bool:
        """Whether there is one for these rows, from an earlier run."""
        return key in self._found

    def take(self, key: Key) -> Part:
        """Use it for the next rows."""
        part = self._found[key]
        self._taken.append(part.path)
        return part

    def put(self, key: Key, data: bytes, bad_rows: int) -> None:
        """Keep the answer to the next rows."""
        name = f"{key.first:012d}-{key.rows}-{bad_rows}-{key.digest}.part"
        self._write(name, data)
        self._taken.append(self.folder / name)

    def finish(self, join: Join) -> None:
        """Make FILE of this run's parts, and remove the folder's content."""
        with self._incoming() as file:
            join(self._taken, file)
        (self.folder / INCOMING).rename(self.target)
        _sync(self.target.parent)
        (self.folder / RECORD).unlink()
        self.clear()

    def _look(self) -> None:
        for path in self.folder.iterdir():
            found = PART.fullmatch(path.name)
            if found:
                self._found[Key(int(found[1]), int(found[2]), found[4])] = Part(path, int(found[3]))
            elif path.name not in (RECORD, INCOMING):
                where = str(self.folder)
                raise BatchFailed(f"{where!r} holds {path.name!r}, which is of no batch prediction; move it away")
        try:
            self.record = json.loads((self.folder / RECORD).read_bytes())
        except (FileNotFoundError, ValueError):
            self.clear()  # of an answer that was finished, and not quite cleared away

    def _write(self, name: str, data: bytes) -> None:
        with self._incoming() as file:
            file.write(data)
        (self.folder / INCOMING).rename(self.folder / name)

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[BinaryIO]:
        path = self.folder / INCOMING
        try:
            with path.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            path.unlink(missing_ok=True)
            raise


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder, which is made if need be."""
    while True:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # removed by whoever finished
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), folder.lstat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise BatchFailed(
                f"another `turnout predict` writes into {str(folder)!r}; wait for it, or stop it"
            ) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
