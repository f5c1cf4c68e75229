"""Files and folders of this machine: copied durably, reached without following a link, removed when abandoned."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

from registry.artifacts import CHUNK_BYTES, HIDDEN, FileDigest, Manifest, check_path
from registry.errors import InvalidParameter, NotFound, Unavailable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# What the system says of a path that has no file: nothing there, a file on the way, a link, a socket.
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG}


@contextmanager
def explained(path: str) -> Iterator[None]:
    """Turn an error of the system into `Unavailable`, without the place in this machine."""
    try:
        yield
    except OSError as problem:
        raise Unavailable(f"the artifact store failed at {path!r}: {problem.strerror or problem}") from problem


def missing(path: str) -> NotFound:
    return NotFound(f"there is no file {path!r} in the artifact store")


def open_folder(root: Path, path: str) -> int:
    """A descriptor of the folder, reached without following a link below the root. Raises `NotFound`."""
    with _found(path):
        descriptor = os.open(root, _FOLDER)
        for part in path.split("/") if path else ():
            above = descriptor
            try:
                descriptor = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=above)
            finally:
                os.close(above)
    return descriptor


def open_file(root: Path, path: str) -> int:
    """A descriptor of the regular file, reached likewise."""
    folder, _, name = path.rpartition("/")
    parent = open_folder(root, folder)
    try:
        with _found(path):
            descriptor = os.open(name, _FILE, dir_fd=parent)
    finally:
        os.close(parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise missing(path)
    return descriptor


@contextmanager
def _found(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        if problem.errno in _MISSING:
            raise missing(path) from None
        raise


def regular_files(source: Path) -> list[str]:
    """The path of every file below a directory. Raises `InvalidParameter` for a link among them, or no file."""
    found = []
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        for name in folders:
            _refuse_odd(here / name)
        for name in names:
            _refuse_odd(here / name)
            found.append(check_path((here / name).relative_to(source).as_posix()))
    if not found:
        raise InvalidParameter(f"{source} holds no files: give the directory that holds the model's files")
    return sorted(found)


def copy_directory(source: Path, target: Path) -> Manifest:
    """Copy every file to the new folder *target*, durably. Raises `InvalidParameter` as `regular_files` does."""
    paths = regular_files(source)
    target.mkdir(mode=0o700)
    files = []
    for path in paths:
        make_folders(target, (target / path).parent)
        files.append(_copy_file(source / path, target / path, path))
    for folder, _, _ in os.walk(target, topdown=False):
        sync_folder(Path(folder))
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


def digest_file(path: str, file: BinaryIO) -> FileDigest:
    digest = file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # files of open() have readinto
    return FileDigest(path, file.tell(), digest)


def remove_abandoned(root: Path, before: float) -> None:
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


def make_folders(root: Path, folder: Path) -> None:
    """Make the folders down to *folder*, durably. Raises `InvalidParameter` at a link below the root."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for each in reversed([folder, *folder.parents]):
        if each == root or root not in each.parents:
            continue
        with suppress(FileExistsError):
            each.mkdir(mode=0o700)
            sync_folder(each.parent)
        if each.is_symlink() or not each.is_dir():
            raise InvalidParameter(f"{each} is no folder: the artifact store follows no links")


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
