"""Where models' files lie: one root, paths below it, and the manifest that fixes what they are."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from registry.errors import InvalidParameter

MAX_PATH_BYTES = 2_000
MAX_SEGMENT_BYTES = 255
CHUNK_BYTES = 1 << 20
# Half-written and half-deleted files have such names, under the root, so that a rename makes them (in)visible.
HIDDEN = ".turnout-"


@dataclass(frozen=True, slots=True, order=True)
class FileDigest:
    """One file of a model: its path with `/`, its size in bytes, its sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The complete set of a model's files, in the order of their paths."""

    files: tuple[FileDigest, ...]

    @property
    def digest(self) -> str:
        """One digest for the whole, `sha256:<hex>`: equal exactly for equal files under equal paths."""
        root = sha256()
        for file in sorted(self.files):
            root.update(f"{file.sha256} {file.size} {file.path}\0".encode())
        return f"sha256:{root.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder; a folder has no size."""

    name: str
    is_folder: bool
    size: int | None = None


class Upload(Protocol):
    """One file on its way into a store."""

    def write(self, data: bytes) -> None: ...


class StoredFile(Protocol):
    """One open file: what it tells and what it reads are of the same bytes, whoever replaces it meanwhile."""

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str:
        """Differs for other bytes at the same path; without quotes."""

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from *start* up to *stop*, a chunk at a time."""


class ArtifactStore(Protocol):
    """Files under one root, named by `/`-separated paths relative to it.

    A path that leaves the root, or could (`..`, absolute, backslash, control characters), is refused with
    `InvalidParameter`. A missing file is `NotFound`. A file is visible only when it is complete.
    """

    @property
    def root(self) -> str: ...

    def list_files(self, prefix: str) -> list[tuple[str, int]]:
        """Every file below *prefix* as (path relative to prefix, size), sorted; symbolic links are left out."""

    def list_folder(self, path: str) -> list[Entry]:
        """What lies directly in the folder *path* ("" is the root), sorted by name; nothing for a file or no folder."""

    def size(self, path: str) -> int:
        """Bytes of the file."""

    def open(self, path: str) -> AbstractContextManager[BinaryIO]: ...

    def read(self, path: str, chunk_bytes: int = 1 << 20, start: int = 0) -> Iterator[bytes]:
        """The file's bytes from *start* on, a chunk at a time."""

    def create(self, path: str) -> AbstractContextManager[Upload]:
        """Write one file, replacing what was there, durably and visible only when the block ends without an error."""

    def write_directory(self, source: Path, prefix: str) -> Manifest:
        """Copy every file of a local directory below *prefix*, durably, and tell their digests.

        Symbolic links in *source* are refused with `InvalidParameter`.
        """

    def manifest(self, prefix: str) -> Manifest: ...

    def delete(self, prefix: str) -> None: ...


class ServedArtifacts(ArtifactStore, Protocol):
    """What a registry server needs of its store beside: to answer a request for a part of a file."""

    def opened(self, path: str) -> AbstractContextManager[StoredFile]: ...


def check_path(path: str) -> str:
    """A path that cannot leave the root, however often somebody decodes it. Returns it unchanged."""
    if not isinstance(path, str):
        raise InvalidParameter(f"invalid path: it must be a string, got {type(path).__name__}")
    decoded, before = path, None
    while decoded != before:
        _check_decoded(decoded, path)
        before, decoded = decoded, unquote(decoded, errors="surrogateescape")
    if path.startswith(HIDDEN):
        raise InvalidParameter(f"invalid path {path[:80]!r}: names that begin with {HIDDEN!r} are the store's own")
    return path


def _check_decoded(text: str, path: str) -> None:
    if any(each in "\\#" or unicodedata.category(each) in {"Cc", "Cs"} for each in text):
        raise InvalidParameter(f"invalid path {path[:80]!r}: no backslash, '#' or control character may be in it")
    parts = text.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        raise InvalidParameter(f"invalid path {path[:80]!r}: it must be relative, without '.', '..' or '//'")
    if len(text.encode()) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_SEGMENT_BYTES for part in parts):
        raise InvalidParameter(f"invalid path {path[:80]!r}: it is too long")
