"""`ProxiedArtifacts`: files behind a server's artifact proxy, read on after a cut and uploaded whole."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from registry.artifacts import CHUNK_BYTES, Entry, FileDigest, Manifest, Upload, check_path
from registry.errors import AlreadyExists, InvalidParameter, NotFound, RegistryError, Unavailable
from registry.models.integrity import model_files
from registry.outbound.client import FIRST_PAUSE_S, LONGEST_PAUSE_S, Answer, Download
from registry.remote.client import RestClient, decoding, error_of, read_object

ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
ROOT = "mlflow-artifacts:/"
# How often in a row a download may bring nothing before it is given up.
FRUITLESS_TRIES = 6
UPLOAD_TIMEOUT_S = 300.0


class ProxiedArtifacts:
    """`ArtifactStore` over HTTP. What was read before a connection broke is not lost, whatever the server knows."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    @property
    def root(self) -> str:
        return ROOT

    def list_files(self, prefix: str) -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        folders = [""]
        while folders:
            below = folders.pop()
            for entry in self.list_folder("/".join(each for each in (prefix, below.rstrip("/")) if each)):
                if entry.is_folder:
                    folders.append(f"{below}{entry.name}/")
                else:
                    found.append((f"{below}{entry.name}", entry.size or 0))
        return sorted(found)

    def list_folder(self, path: str) -> list[Entry]:
        if path:
            check_path(path)
        told = f"GET {self._rest.uri}{ROUTE}?path={path}"
        answer = self._rest.outbound.send(
            "GET", ROUTE, params=[("path", path)] if path else [], headers=self._rest.headers(), is_safe=True
        )
        self._rest.refuse(answer, told)
        with decoding("files"):
            entries = [_entry(each) for each in read_object(answer, told).get("files", ())]
        return sorted(entries, key=lambda each: each.name)

    def size(self, path: str) -> int:
        folder, _, name = check_path(path).rpartition("/")
        for entry in self.list_folder(folder):
            if entry.name == name and not entry.is_folder:
                return entry.size or 0
        raise _missing(path)

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A stream from beginning to end; it cannot seek."""
        with io.BufferedReader(_Chunks(self.read(path, CHUNK_BYTES)), CHUNK_BYTES) as file:
            yield file

    def read(self, path: str, chunk_bytes: int = CHUNK_BYTES, start: int = 0) -> Iterator[bytes]:  # noqa: ARG002
        """The file's bytes from *start* on, in the pieces that they arrive in. After a cut it goes on where it was.

        Where the server knows no ranges, what came before is read again, and must be the same.
        """
        reading = _Reading(self._route(path), start)
        fruitless, pause = 0, FIRST_PAUSE_S
        while True:
            before = reading.position
            try:
                yield from reading.go_on(self._rest)
            except _Cut as cut:
                fruitless = fruitless + 1 if reading.position == before else 0
                if fruitless >= FRUITLESS_TRIES or self._rest.outbound.is_closed:
                    raise cut.problem from None
                pause = min(pause * 2, LONGEST_PAUSE_S) if fruitless else FIRST_PAUSE_S
                self._rest.outbound.pause(pause * random.uniform(0.5, 1.0))
            else:
                return

    @contextmanager
    def create(self, path: str) -> Iterator[Upload]:
        """Keep what is written on this machine's disk, and send it when the block ends."""
        route = self._route(path)
        with tempfile.TemporaryFile(prefix="turnout-") as file:
            yield _Spool(file)
            self._put(route, _Body(file))

    def write_directory(self, source: Path, prefix: str) -> Manifest:
        """As the protocol says; when it fails, what was sent already is deleted again as far as that succeeds."""
        names = [check_path(each) for each in sorted(model_files(source))]
        if not names:
            raise InvalidParameter(f"{source} holds no files: give the directory that holds the model's files")
        if self.list_folder(check_path(prefix)):
            raise AlreadyExists(f"there are files at {prefix!r} already; files that are registered never change")
        try:
            return Manifest(tuple(self._send_file(source / name, name, prefix) for name in names))
        except BaseException:
            self._delete_quietly(prefix)
            raise

    def manifest(self, prefix: str) -> Manifest:
        """Computed here, by reading every file."""
        files = []
        for path, _ in self.list_files(prefix):
            hashed, size = sha256(), 0
            for chunk in self.read(f"{prefix}/{path}"):
                hashed.update(chunk)
                size += len(chunk)
            files.append(FileDigest(path, size, hashed.hexdigest()))
        if not files:
            raise NotFound(f"there are no files at {prefix!r}: upload them first")
        return Manifest(tuple(sorted(files)))

    def delete(self, prefix: str) -> None:
        route = self._route(prefix)
        answer = self._rest.outbound.send("DELETE", route, headers=self._rest.headers(), is_safe=True)
        self._rest.refuse(answer, f"DELETE {self._rest.uri}{route}")

    def _route(self, path: str) -> str:
        return f"{ROUTE}/{quote(check_path(path))}"

    def _send_file(self, source: Path, name: str, prefix: str) -> FileDigest:
        with source.open("rb") as file:
            body = _Body(file)
            self._put(self._route(f"{prefix}/{name}"), body)
            return FileDigest(name, body.size, body.digest)

    def _put(self, route: str, body: _Body) -> None:
        # MLflow's proxy takes an empty file only as chunks, of which there are none.
        length = {"content-length": str(body.size)} if body.size else {}
        answer = self._rest.outbound.send(
            "PUT",
            route,
            content=body,
            headers={**self._rest.headers(), "content-type": "application/octet-stream", **length},
            is_safe=True,
            timeout_s=UPLOAD_TIMEOUT_S,
        )
        self._rest.refuse(answer, f"PUT {self._rest.uri}{route}")

    def _delete_quietly(self, prefix: str) -> None:
        try:
            self.delete(prefix)
        except RegistryError:
            return  # the first failure is the one to tell


class _Cut(Exception):
    """The connection broke, or the server is away for now."""

    def __init__(self, problem: Unavailable) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Reading:
    """How far one file was read. The digest of that says whether another reading begins with the same bytes."""

    def __init__(self, route: str, start: int) -> None:
        self._route = route
        self._start = start
        self._hashed = sha256()
        self._tag: str | None = None
        self.position = start

    def go_on(self, rest: RestClient) -> Iterator[bytes]:
        """The bytes from here to the end. `_Cut` when they stop before it."""
        try:
            with rest.outbound.download(self._route, headers={**rest.headers(), **self._range()}) as download:
                if download.status == 416:  # nothing is left
                    return
                if download.status not in {200, 206}:
                    told = f"GET {rest.uri}{self._route}"
                    raise error_of(Answer(download.status, download.headers, download.body()), told)
                self._tag = _strong_tag(download)
                for chunk in self._rest_of(download):
                    self._hashed.update(chunk)
                    self.position += len(chunk)
                    yield chunk
        except Unavailable as problem:
            raise _Cut(problem) from None

    def _range(self) -> dict[str, str]:
        if self.position == 0:
            return {}
        begun = self.position > self._start
        if begun and self._tag is None:
            return {}  # nothing would tell whether it is still the same file: all of it is read again
        return {"range": f"bytes={self.position}-", **({"if-range": self._tag} if begun and self._tag else {})}

    def _rest_of(self, download: Download) -> Iterator[bytes]:
        chunks = download.chunks()
        if download.status == 206:
            if not download.headers.get("content-range", "").startswith(f"bytes {self.position}-"):
                raise RegistryError(f"{self._route}: the server sent another part of the file than was asked for")
            return chunks
        return self._after_what_was_read(chunks)

    def _after_what_was_read(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Skip up to the position, and refuse a file that is another by now."""
        at, again = 0, sha256()
        for chunk in chunks:
            skipped = min(len(chunk), max(0, self.position - at))
            again.update(chunk[max(0, self._start - at) : skipped])
            at += len(chunk)
            if at - len(chunk) < self.position <= at and again.digest() != self._hashed.digest():
                raise RegistryError(f"{self._route}: the file changed while it was read; try again")
            if skipped < len(chunk):
                yield chunk[skipped:]
        if at < self.position:
            raise RegistryError(f"{self._route}: the file became shorter while it was read; try again")


class _Spool:
    """What is written goes to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)


class _Body:
    """A file as a request's body: from its beginning for every try, hashed on its way."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hashed = sha256()
        self.size = file.seek(0, io.SEEK_END)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        self._hashed = sha256()
        while chunk := self._file.read(CHUNK_BYTES):
            self._hashed.update(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        return self._hashed.hexdigest()


class _Chunks(io.RawIOBase):
    """Chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io hands in a memoryview
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _entry(found: dict[str, object]) -> Entry:
    name = str(found["path"]).rstrip("/").rpartition("/")[2]
    if found.get("is_dir"):
        return Entry(name, True)
    return Entry(name, False, int(str(found.get("file_size") or 0)))


def _strong_tag(download: Download) -> str | None:
    tag = download.headers.get("etag")
    return None if tag is None or tag.startswith("W/") else tag


def _missing(path: str) -> NotFound:
    return NotFound(f"there is no file {path!r} in the artifact store")
