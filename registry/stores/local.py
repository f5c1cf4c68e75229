"""Artifacts in a directory of this machine: durable when written, visible when complete, no link followed."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from registry.artifacts import CHUNK_BYTES, HIDDEN, Entry, Manifest, check_path
from registry.errors import AlreadyExists, InvalidParameter, NotFound
from registry.stores.disk import (
    copy_directory,
    digest_file,
    explained,
    make_folders,
    open_file,
    open_folder,
    remove_abandoned,
    sync_folder,
)

ABANDONED_AFTER_S = 86_400
SWEEP_EVERY_S = 3_600


class LocalArtifacts:
    """`ServedArtifacts` in a directory of this machine.

    Folders are 0700 and files 0600. No symbolic link below the root is ever followed. What is written is on
    the disk when the call returns. What a killed writer left a day ago or earlier is removed by later writers.
    """

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock
        self._sweep_at = 0.0

    @property
    def root(self) -> str:
        return str(self._root)

    def list_files(self, prefix: str) -> list[tuple[str, int]]:
        with explained(prefix):
            return sorted((path, size) for path, size, _ in self._walk(prefix))

    def list_folder(self, path: str) -> list[Entry]:
        if path:
            check_path(path)
        with explained(path):
            try:
                folder = open_folder(self._root, path)
            except NotFound:
                return []
            try:
                return sorted((each for each in _entries(folder)), key=lambda each: each.name)
            finally:
                os.close(folder)

    def size(self, path: str) -> int:
        with self.opened(path) as file:
            return file.size

    @contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        with explained(path):
            descriptor = open_file(self._root, check_path(path))
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def read(self, path: str, chunk_bytes: int = CHUNK_BYTES, start: int = 0) -> Iterator[bytes]:
        with self.open(path) as file:
            file.seek(start)
            while chunk := file.read(chunk_bytes):
                yield chunk

    @contextmanager
    def opened(self, path: str) -> Iterator[LocalFile]:
        with self.open(path) as file:
            yield LocalFile(path, file.fileno())

    @contextmanager
    def create(self, path: str) -> Iterator[LocalUpload]:
        """Raises `InvalidParameter` where a folder is, or a file on the way to it."""
        folder, _, name = check_path(path).rpartition("/")
        with explained(path):
            make_folders(self._root, self._root / folder)
            self._sweep()
            incoming = self._root / f"{HIDDEN}incoming-{token_hex(8)}"
            descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            try:
                yield LocalUpload(path, descriptor)
                with explained(path):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with explained(path):
                self._reveal(incoming, folder, name)
        except BaseException:
            with suppress(OSError):
                incoming.unlink()
            raise

    def write_directory(self, source: Path, prefix: str) -> Manifest:
        """All files become visible at once. Raises `AlreadyExists` when there is something at *prefix*."""
        target = self._root / check_path(prefix)
        if not source.is_dir():
            raise InvalidParameter(f"{source} is no directory: give the directory that holds the model's files")
        with explained(prefix):
            make_folders(self._root, target.parent)
            if os.path.lexists(target):
                raise AlreadyExists(f"there are files at {prefix!r} already; files that are registered never change")
            self._sweep()
            incoming = self._root / f"{HIDDEN}incoming-{token_hex(8)}"
            try:
                manifest = copy_directory(source, incoming)
                incoming.rename(target)
            except BaseException:
                shutil.rmtree(incoming, ignore_errors=True)
                raise
            sync_folder(target.parent)
            sync_folder(self._root)
        return manifest

    def manifest(self, prefix: str) -> Manifest:
        """Raises `NotFound` when there is no file, `InvalidParameter` when there is a link among them."""
        files = []
        with explained(prefix):
            for path, _, is_regular in self._walk(check_path(prefix), with_odd=True):
                if not is_regular:
                    raise InvalidParameter(f"{prefix}/{path} is a link or no regular file; a model has none of these")
                with self.open(f"{prefix}/{path}") as file:
                    files.append(digest_file(path, file))
        if not files:
            raise NotFound(f"there are no files at {prefix!r}: upload them first")
        return Manifest(tuple(sorted(files)))

    def delete(self, prefix: str) -> None:
        """Remove a file or a folder; one that is absent stays so."""
        folder, _, name = check_path(prefix).rpartition("/")
        trash = self._root / f"{HIDDEN}trash-{token_hex(8)}"
        with explained(prefix):
            try:
                parent = open_folder(self._root, folder)
            except NotFound:
                return
            try:
                os.rename(name, trash, src_dir_fd=parent)
                os.fsync(parent)
            except FileNotFoundError:
                return
            finally:
                os.close(parent)
            if trash.is_dir() and not trash.is_symlink():
                shutil.rmtree(trash)
            else:
                trash.unlink()

    def _sweep(self) -> None:
        now = self._clock()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY_S
            remove_abandoned(self._root, now - ABANDONED_AFTER_S)

    def _reveal(self, incoming: Path, folder: str, name: str) -> None:
        """Give a complete file its name, replacing a file that has it."""
        parent = open_folder(self._root, folder)
        try:
            # Onto a folder this fails, and a link is replaced itself.
            os.rename(incoming, name, dst_dir_fd=parent)
            os.fsync(parent)
        except IsADirectoryError:
            raise InvalidParameter(f"{folder}/{name} is a folder: a file cannot take its place") from None
        finally:
            os.close(parent)

    def _walk(self, prefix: str, with_odd: bool = False) -> Iterator[tuple[str, int, bool]]:
        """(path below the prefix, size, whether it is a regular file); links and the like only if asked for."""
        if prefix:
            check_path(prefix)
        try:
            top = open_folder(self._root, prefix)
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


class LocalUpload:
    """A file under a hidden name, until it is complete."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, data: bytes) -> None:
        """Raises `Unavailable` when the disk is full."""
        rest = memoryview(data)
        with explained(self._path):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


class LocalFile:
    """An open file; one that takes its place later is another file."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        found = os.fstat(descriptor)
        self.size = found.st_size
        self.etag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        while start < stop:
            with explained(self._path):
                chunk = os.pread(self._descriptor, min(CHUNK_BYTES, stop - start), start)
            if not chunk:
                return
            start += len(chunk)
            yield chunk


def _entries(folder: int) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for each in found:
            if each.name.startswith(HIDDEN) or each.is_symlink():
                continue
            if each.is_dir(follow_symlinks=False):
                yield Entry(each.name, is_folder=True)
            elif each.is_file(follow_symlinks=False):
                yield Entry(each.name, is_folder=False, size=each.stat(follow_symlinks=False).st_size)
