"""Artifacts in an object store: Amazon S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import obstore

from registry.artifacts import CHUNK_BYTES, Entry, FileDigest, Manifest, check_path
from registry.errors import AlreadyExists, InvalidParameter, NotFound, Unavailable
from registry.stores.buckets import STORE_ERRORS, explain, open_bucket
from registry.stores.disk import regular_files

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined]  # Python 3.12's, for type checkers only

    from obstore import WritableFile

PART_BYTES = 8 << 20
PARTS_AT_ONCE = 2
# A download is many requests of this size: each has its own time-out, and none lasts as long as the slowest reader.
BLOCK_BYTES = 64 << 20
FILES_AT_ONCE = 4
# What S3, Google Cloud Storage and Azure take, with the prefix.
MAX_NAME_BYTES = 1_024


class ObjectArtifacts:
    """`ServedArtifacts` below an address such as `s3://bucket/prefix`.

    There are no folders in an object store, only names: a file and a "folder" of the same name can both be there.
    Credentials come from the environment; the address has none, and no error shows any.
    """

    def __init__(self, address: str, environment: Mapping[str, str] = os.environ) -> None:
        self._address = address
        self._bucket = open_bucket(address, environment)

    @property
    def root(self) -> str:
        return self._address

    def list_files(self, prefix: str) -> list[tuple[str, int]]:
        if prefix:
            check_path(prefix)
        below = f"{prefix}/" if prefix else ""
        with explain(self._address, prefix):
            found = [each for batch in obstore.list(self._bucket, prefix or None) for each in batch]
        return sorted((each["path"].removeprefix(below), each["size"]) for each in found)

    def list_folder(self, path: str) -> list[Entry]:
        if path:
            check_path(path)
        with explain(self._address, path):
            found = obstore.list_with_delimiter(self._bucket, path or None)
        folders = [Entry(_name(each), is_folder=True) for each in found["common_prefixes"]]
        files = [Entry(_name(each["path"]), is_folder=False, size=each["size"]) for each in found["objects"]]
        return sorted(folders + files, key=lambda each: each.name)

    def size(self, path: str) -> int:
        with self.opened(path) as file:
            return file.size

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A file that is read from its beginning to its end: it cannot seek."""
        with io.BufferedReader(ObjectReader(self.read(path)), CHUNK_BYTES) as file:
            yield cast(BinaryIO, file)

    def read(self, path: str, chunk_bytes: int = CHUNK_BYTES, start: int = 0) -> Iterator[bytes]:
        with self.opened(path) as file:
            yield from file.read(start, file.size, chunk_bytes)

    @contextmanager
    def opened(self, path: str) -> Iterator[ObjectFile]:
        with explain(self._address, check_path(path)):
            found = obstore.head(self._bucket, path)
        yield ObjectFile(self._address, self._bucket, path, found)

    @contextmanager
    def create(self, path: str) -> Iterator[ObjectUpload]:
        """Raises `InvalidParameter` for a name that no object store takes."""
        if len(f"{self._address}/{path}".encode(errors="replace")) > MAX_NAME_BYTES:
            raise InvalidParameter(f"invalid path {path[:80]!r}: it is too long for the artifact store {self._address}")
        with explain(self._address, check_path(path)):
            writer = obstore.open_writer(self._bucket, path, buffer_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
        try:
            yield ObjectUpload(self._address, path, writer)
        except BaseException as problem:
            # Makes the store forget the parts that it has. Where that fails too, the first problem is the one to tell.
            with suppress(*STORE_ERRORS):
                writer.__exit__(type(problem), problem, problem.__traceback__)
            raise
        with explain(self._address, path):
            writer.close()

    def write_directory(self, source: Path, prefix: str) -> Manifest:
        """Files become visible one by one; when one fails, all are removed again.

        Raises `AlreadyExists` when there is something at *prefix*.
        """
        check_path(prefix)
        if not source.is_dir():
            raise InvalidParameter(f"{source} is no directory: give the directory that holds the model's files")
        paths = regular_files(source)
        if self.list_files(prefix) or self._has_file(prefix):
            raise AlreadyExists(f"there are files at {prefix!r} already; files that are registered never change")
        try:
            return Manifest(tuple(sorted(self._upload(source / each, each, f"{prefix}/{each}") for each in paths)))
        except BaseException:
            with suppress(Unavailable):
                self.delete(prefix)
            raise

    def manifest(self, prefix: str) -> Manifest:
        """Raises `NotFound` when there is no file."""
        paths = [path for path, _ in self.list_files(check_path(prefix))]
        if not paths:
            raise NotFound(f"there are no files at {prefix!r}: upload them first")
        with ThreadPoolExecutor(FILES_AT_ONCE) as pool:
            return Manifest(tuple(sorted(pool.map(partial(self._digest, prefix), paths))))

    def delete(self, prefix: str) -> None:
        """Remove a file, or all below a folder; what is absent stays so."""
        paths = [f"{prefix}/{path}" for path, _ in self.list_files(check_path(prefix))]
        with explain(self._address, prefix):
            if paths:
                obstore.delete(self._bucket, paths)
            with suppress(FileNotFoundError):
                obstore.delete(self._bucket, prefix)

    def _has_file(self, path: str) -> bool:
        try:
            with explain(self._address, path):
                obstore.head(self._bucket, path)
        except NotFound:
            return False
        return True

    def _upload(self, source: Path, path: str, target: str) -> FileDigest:
        hashed, size = sha256(), 0
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb", buffering=0) as file, self.create(target) as upload:
            while chunk := file.read(CHUNK_BYTES):
                hashed.update(chunk)
                size += len(chunk)
                upload.write(chunk)
        return FileDigest(path, size, hashed.hexdigest())

    def _digest(self, prefix: str, path: str) -> FileDigest:
        hashed, size = sha256(), 0
        for chunk in self.read(f"{prefix}/{path}"):
            hashed.update(chunk)
            size += len(chunk)
        return FileDigest(path, size, hashed.hexdigest())


class ObjectUpload:
    """Parts on their way: the store makes one file of them when the last has come."""

    def __init__(self, address: str, path: str, writer: WritableFile) -> None:
        self._address = address
        self._path = path
        self._writer = writer

    def write(self, data: bytes) -> None:
        with explain(self._address, self._path):
            self._writer.write(data)


class ObjectFile:
    """One file as it was when it was opened: a read after it was replaced fails."""

    def __init__(self, address: str, bucket: Any, path: str, found: Mapping[str, Any]) -> None:
        self._address = address
        self._bucket = bucket
        self._path = path
        self._tag: str | None = found["e_tag"]
        self.size: int = found["size"]
        self.etag = _plain(self._tag) or f"{found['last_modified'].timestamp()}-{self.size}"

    def read(self, start: int, stop: int, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        for first in range(start, stop, BLOCK_BYTES):
            options: dict[str, Any] = {"range": (first, min(stop, first + BLOCK_BYTES))}
            if self._tag is not None:
                options["if_match"] = self._tag
            with explain(self._address, self._path):
                chunks = iter(obstore.get(self._bucket, self._path, options=options).stream(chunk_bytes))  # type: ignore[arg-type]  # a TypedDict
            while True:
                with explain(self._address, self._path):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                yield bytes(chunk)


class ObjectReader(io.RawIOBase):
    """A file over chunks that come one after the other."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        super().__init__()
        self._chunks = chunks
        self._rest = next(chunks, b"")  # at once: who opens a file that is not there learns it then

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._rest))
        target[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _plain(tag: str | None) -> str:
    return (tag or "").removeprefix("W/").strip('"')
