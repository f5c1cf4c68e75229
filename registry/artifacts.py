"""Where models' files lie: one root, paths below it, and the manifest that fixes what they are."""

from __future__ import annotations

import os
import shutil
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from registry.errors import AlreadyExists, InvalidParameter, NotFound, Unavailable

MAX_PATH_BYTES = 2_000
MAX_SEGMENT_BYTES = 255
CHUNK_BYTES = 1 << 20
# Half-written and half-deleted files lie here, under the root, so that a rename makes them (in)visible.
HIDDEN = ".turnout-"
ABANDONED_AFTER_S = 86_400


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


class ArtifactStore(Protocol):
    """Files under one root, named by `/`-separated paths relative to it.

    A path that leaves the root, or could (`..`, absolute, backslash, control characters), is refused with
    `InvalidParameter`. A missing file is `NotFound`. A file is visible only when it is complete.
    """

    @property
    def root(self) -> str: ...

    def list_files(self, prefix: str) -> list[tuple[str, int]]:
        """Every file below *prefix* as (path relative to prefix, size), sorted; symbolic links are left out."""

    def open(self, path: str) -> AbstractContextManager[BinaryIO]: ...

    def read(self, path: str, chunk_bytes: int = 1 << 20) -> Iterator[bytes]: ...

    def write_directory(self, source: Path, prefix: str) -> Manifest:
        """Copy every file of a local directory below *prefix*, durably, and tell their digests.

        Symbolic links in *source* are refused with `InvalidParameter`.
        """

    def manifest(self, prefix: str) -> Manifest: ...

    def delete(self, prefix: str) -> None: ...


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


class LocalArtifacts:
    """`ArtifactStore` in a directory of this machine.

    Folders are 0700 and files 0600. No symbolic link below the root is ever followed. What is written is on
    the disk when the call returns.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock

    @property
    def root(self) -> str:
        return str(self._root)

    def list_files(self, prefix: str) -> list[tuple[str, int]]:
        with _explained(prefix):
            return sorted((path, size) for path, size, _ in self._walk(prefix))

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        descriptor = self._open_file(check_path(path))
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def read(self, path: str, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        with self.open(path) as file:
            while chunk := file.read(chunk_bytes):
                yield chunk

    def write_directory(self, source: Path, prefix: str) -> Manifest:
        """All files become visible at once. Raises `AlreadyExists` when there is something at *prefix*.

        What a killed writer left half-written a day ago or earlier is removed.
        """
        target = self._root / check_path(prefix)
        if not source.is_dir():
            raise InvalidParameter(f"{source} is no directory: give the directory that holds the model's files")
        with _explained(prefix):
            _make_folders(self._root, target.parent)
            if os.path.lexists(target):
                raise AlreadyExists(f"there are files at {prefix!r} already; files that are registered never change")
            _remove_abandoned(self._root, self._clock() - ABANDONED_AFTER_S)
            incoming = self._root / f"{HIDDEN}incoming-{token_hex(8)}"
            try:
                manifest = _copy_directory(source, incoming)
                incoming.rename(target)
            except BaseException:
                shutil.rmtree(incoming, ignore_errors=True)
                raise
            _sync_folder(target.parent)
            _sync_folder(self._root)
        return manifest

    def manifest(self, prefix: str) -> Manifest:
        """Raises `NotFound` when there is no file, `InvalidParameter` when there is a link among them."""
        files = []
        with _explained(prefix):
            for path, _, is_regular in self._walk(prefix, with_odd=True):
                if not is_regular:
                    raise InvalidParameter(f"{prefix}/{path} is a link or no regular file; a model has none of these")
                with self.open(f"{prefix}/{path}") as file:
                    files.append(_digest(path, file))
        if not files:
            raise NotFound(f"there are no files at {prefix!r}: upload them first")
        return Manifest(tuple(sorted(files)))

    def delete(self, prefix: str) -> None:
        """Remove a file or a folder; one that is absent stays so."""
        target = self._root / check_path(prefix)
        with _explained(prefix):
            try:
                os.close(self._open_folder(prefix.rpartition("/")[0]))
                trash = self._root / f"{HIDDEN}trash-{token_hex(8)}"
                target.rename(trash)
            except (FileNotFoundError, NotADirectoryError, NotFound):
                return
            _sync_folder(target.parent)
            if trash.is_dir() and not trash.is_symlink():
                shutil.rmtree(trash)
            else:
                trash.unlink()

    def _walk(self, prefix: str, with_odd: bool = False) -> Iterator[tuple[str, int, bool]]:
        """(path below the prefix, size, whether it is a regular file); links and the like only if asked for."""
        if prefix:
            check_path(prefix)
        try:
            top = self._open_folder(prefix)
        except NotFound:
            return
        try:
            for folder, folders, files, descriptor in os.fwalk(".", dir_fd=top, follow_symlinks=False):
                folders[:] = sorted(each for each in folders if not each.startswith(HIDDEN))
                here = folder[2:] + "/" if folder != "." else ""
                for name in sorted(files + folders):
                    if name.startswith(HIDDEN):
                        continue
                    found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield here + name, found.st_size, True
                    elif with_odd and not stat.S_ISDIR(found.st_mode):
                        yield here + name, 0, False
        finally:
            os.close(top)

    def _open_file(self, path: str) -> int:
        folder, _, name = path.rpartition("/")
        parent = self._open_folder(folder)
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
        except OSError:
            raise _missing(path) from None
        finally:
            os.close(parent)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _missing(path)
        return descriptor

    def _open_folder(self, path: str) -> int:
        """A descriptor of the folder, reached without following a link below the root."""
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in path.split("/") if path else ():
                above = descriptor
                try:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                    descriptor = os.open(part, flags, dir_fd=above)
                finally:
                    os.close(above)
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(path) from None
        return descriptor


def _missing(path: str) -> NotFound:
    return NotFound(f"there is no file {path!r} in the artifact store")


@contextmanager
def _explained(prefix: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise Unavailable(f"the artifact store failed at {prefix!r}: {problem.strerror or problem}") from problem


def _copy_directory(source: Path, target: Path) -> Manifest:
    files: list[FileDigest] = []
    target.mkdir(mode=0o700)
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        into = target / here.relative_to(source)
        for name in sorted(folders):
            _refuse_odd(here / name)
            (into / name).mkdir(mode=0o700)
        for name in sorted(names):
            _refuse_odd(here / name)
            path = (here / name).relative_to(source).as_posix()
            files.append(_copy_file(here / name, into / name, check_path(path)))
    if not files:
        raise InvalidParameter(f"{source} holds no files: give the directory that holds the model's files")
    for folder, _, _ in os.walk(target, topdown=False):
        _sync_folder(Path(folder))
    return Manifest(tuple(sorted(files)))


def _refuse_odd(path: Path) -> None:
    mode = path.lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InvalidParameter(f"{path} is a link or no regular file: put a copy of what it points to in its place")


def _copy_file(source: Path, target: Path, path: str) -> FileDigest:
    hashed, size = sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    reader = os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    with reader, os.fdopen(os.open(target, flags, 0o600), "wb") as writer:
        while chunk := reader.read(CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return FileDigest(path, size, hashed.hexdigest())


def _digest(path: str, file: BinaryIO) -> FileDigest:
    digest = file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # files of open() have readinto
    return FileDigest(path, file.tell(), digest)


def _remove_abandoned(root: Path, before: float) -> None:
    """Remove half-written and half-deleted files that nobody has touched since; what cannot be removed stays."""
    for each in (*root.glob(f"{HIDDEN}incoming-*"), *root.glob(f"{HIDDEN}trash-*")):
        with suppress(OSError):
            if _last_touched(each) >= before:
                continue
            if each.is_dir() and not each.is_symlink():
                shutil.rmtree(each, ignore_errors=True)
            else:
                each.unlink()


def _last_touched(path: Path) -> float:
    """The newest time in a tree: a long copy changes its top folder only in the beginning."""
    below = (Path(folder) / name for folder, folders, files in os.walk(path) for name in folders + files)
    return max(each.lstat().st_ctime for each in (path, *below))


def _make_folders(root: Path, folder: Path) -> None:
    """Make the folders down to *folder*, durably. Raises `InvalidParameter` at a link below the root."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in reversed([folder, *folder.parents]):
        if each == root or root not in each.parents:
            continue
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
            _sync_folder(each.parent)
        if each.is_symlink() or not each.is_dir():
            raise InvalidParameter(f"{each} is no folder: the artifact store follows no links")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
