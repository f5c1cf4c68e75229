"""Which formats there are, and how a file's name or an option chooses one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from gateway.batch import FORMATS, csv, jsonlines, parquet
from gateway.batch.answers import Outputs
from gateway.batch.rows import Columns, Limit, Rows
from gateway.errors import BatchFailed, InvalidSettings

ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
STANDARD = "-"  # standard input or output


@dataclass(frozen=True, slots=True)
class Location:
    """A file, or a standard stream where *path* is None, and its format."""

    path: Path | None
    format: str

    def __str__(self) -> str:
        return STANDARD if self.path is None else str(self.path)


def locate(name: str, asked: str | None, otherwise: str | None = None) -> Location:
    """A file by its name, in the format that was asked for, else that of its ending, else *otherwise*.

    Raises `InvalidSettings` where nothing says which format it is.
    """
    path = None if name == STANDARD else Path(name)
    kind = asked or (None if path is None else ENDINGS.get(path.suffix.lower())) or otherwise
    if kind is None:
        raise InvalidSettings(
            f"the name {name!r} does not say what format it has; pass --format {'|'.join(FORMATS)}, "
            f"or let it end with one of {', '.join(ENDINGS)}"
        )
    if path is None and kind == "parquet":
        raise InvalidSettings("Parquet is read and written in more than one place at once: name a file instead of '-'")
    return Location(path, kind)


@dataclass(frozen=True, slots=True)
class Reading:
    """A file that is open: its rows in order, and how much there is of it where that is known."""

    rows: Iterator[Rows]
    size: int | None


@contextmanager
def reading(source: Location, target: Location, limit: Limit, signature: Mapping[str, Any]) -> Iterator[Reading]:
    """Open *source* for a model of this signature. Raises `BadRow` or OSError, also later while rows are asked for."""
    if source.format == "parquet":
        assert source.path is not None
        with parquet.opened(source.path) as file:
            rows = parquet.read(file, limit, signature, keeps_types=target.format == "parquet")
            yield Reading(rows, file.metadata.num_rows)
        return
    with _opened(source.path) as text:
        size = None if source.path is None else os.fstat(text.fileno()).st_size
        if source.format == "jsonl":
            yield Reading(jsonlines.read(text, limit, signature), size)
        else:
            types = {} if target.format == "csv" else _types(signature)
            yield Reading(csv.read(text, limit, types), size)


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdin.buffer
        return
    with path.open("rb", 1 << 20) as file:
        yield file


def _types(signature: Mapping[str, Any]) -> dict[str, str]:
    return {spec["name"]: spec["type"] for spec in signature.get("inputs") or [] if "name" in spec}


@dataclass(frozen=True, slots=True)
class Writing:
    """How answers are written: columns to a part, and parts to a file."""

    encode: Callable[[Columns], bytes]
    join: Callable[[Iterable[Path], BinaryIO], None]
    header_of: Callable[[BinaryIO], bytes]


def writing(target: Location, signature: Mapping[str, Any]) -> Writing:
    """For one format. Raises `BatchFailed` where its library is missing."""
    if target.format == "csv":
        return Writing(csv.encode, csv.join, csv.header_of)
    if target.format == "jsonl":
        return Writing(jsonlines.encode, jsonlines.join, lambda _: b"")
    parquet.library()
    encode = partial(parquet.encode, types=Outputs.of(signature).types)
    return Writing(encode, parquet.join, lambda _: b"")


def check_locations(source: Location, target: Location, overwrite: bool) -> None:
    """Raise `BatchFailed` or OSError for what can only fail later, before a model is loaded for it."""
    if source.path is not None:
        with source.path.open("rb"):
            pass
    if target.path is None:
        return
    if source.path is not None and target.path.exists() and source.path.samefile(target.path):
        raise BatchFailed(f"{str(target)!r} is the input too; write to another file")
    if target.path.is_dir():
        raise BatchFailed(f"{str(target)!r} is a folder; name a file in it")
    if not target.path.parent.is_dir():
        raise BatchFailed(f"there is no folder {str(target.path.parent)!r} to write into; make it first")
    if target.path.exists() and not overwrite:
        raise BatchFailed(f"{str(target)!r} is there already; pass --overwrite to replace it, or name another file")
