"""Private verified copies of models, each under the digest of its files: what is loaded is what was checked.

An entry is complete as soon as it has its name, and any process may add the same one at the same time. Folders
are 0700 and files 0600.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from io import SEEK_END, RawIOBase
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from registry.artifacts import CHUNK_BYTES, ArtifactStore, FileDigest, Manifest, check_path
from registry.core import ModelVersion, Registry
from registry.errors import CorruptModel, InvalidModel, InvalidParameter, NotFound, Unavailable
from registry.models.format import read_mlmodel
from registry.models.integrity import compute_manifest, model_files, refuse_differences, verify

STORE = "mlflow-artifacts:/"
ABANDONED_AFTER_S = 24 * 3600
Opener = Callable[[str], BinaryIO]


def fetch_model(version: ModelVersion, cache: Path, client: Registry) -> Path:
    """The version's files below *cache*, equal to the manifest that was recorded with the version.

    An entry that is there already is verified again, and replaced when it has changed. Raises `CorruptModel`
    when the registry's own files differ from the manifest, `NotFound` when there are none.
    """
    manifest = client.get_model_version_manifest(version.name, version.version)
    if manifest is not None:
        entry = _intact_entry(cache, manifest)
        if entry is not None:
            return entry
    uri = client.get_model_version_download_uri(version.name, version.version)
    return fetch_files(uri, manifest, cache, client)


def fetch_files(uri: str, manifest: Manifest | None, cache: Path, client: Registry) -> Path:
    """Copy the files at a place of the registry's artifact store; without a manifest they are taken as found."""
    if not uri.startswith(STORE):
        raise InvalidModel(f"the model's files lie at {uri!r}, where this registry cannot read them")
    prefix = uri[len(STORE) :].rstrip("/")
    names = [path for path, _ in client.artifacts.list_files(prefix)]
    if not names:
        raise NotFound(f"the model has no files at {uri!r}; log or register it again")
    recorded = {} if manifest is None else {each.path: each for each in manifest.files}
    with _incoming(cache, None if manifest is None else _entry_name(manifest.digest)) as folder:
        files = [_download(client.artifacts, f"{prefix}/{each}", folder, each, recorded.get(each)) for each in names]
        for other in set(model_files(folder)) - set(names):  # an earlier attempt was told of more
            (folder / other).unlink()
        found = Manifest(tuple(sorted(files)))
        if manifest is not None:
            refuse_differences(manifest, found)
        return _admit(folder, found, cache)


def cached_model(cache: Path, digest: str) -> Path:
    """The entry of this digest, verified by computing it again.

    Raises `NotFound` when there is none and `CorruptModel` when its files have changed.
    """
    entry = cache / _entry_name(digest)
    if not entry.is_dir():
        raise NotFound(f"the cache {str(cache)!r} holds no model {digest}")
    found = compute_manifest(entry).digest
    if found != digest:
        raise CorruptModel(f"the cached model {digest} has changed since it was verified; delete {str(entry)!r}")
    return entry


def snapshot_directory(path: Path, cache: Path) -> tuple[Path, str]:
    """Copy a model directory into the cache; the copy's path and its digest.

    Raises `InvalidModel` when *path* is no model directory or holds symbolic links.
    """
    read_mlmodel(path)
    with _incoming(cache) as folder:
        files = []
        for name in model_files(path):
            descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb", buffering=0) as source:
                files.append(_copy(source, folder, name))
        found = Manifest(tuple(sorted(files)))
        return _admit(folder, found, cache), found.digest


def _intact_entry(cache: Path, manifest: Manifest) -> Path | None:
    entry = cache / _entry_name(manifest.digest)
    if not entry.is_dir():
        return None
    try:
        verify(entry, manifest)
    except (CorruptModel, OSError):
        _evict(entry)
        return None
    return entry


def _entry_name(digest: str) -> str:
    algorithm, _, name = digest.partition(":")
    if algorithm != "sha256" or len(name) != 64 or set(name) - set("0123456789abcdef"):
        raise InvalidParameter(f"{digest!r} is no digest of a model; it has the form sha256:<64 hex digits>")
    return name


@contextmanager
def _incoming(cache: Path, expected: str | None = None) -> Iterator[Path]:
    """A private folder beside the entries, gone afterwards unless it became one.

    With the name of the entry that is *expected*, one that an unavailable registry or a killed process left
    half-full is taken up again, by one at a time; and such a failure leaves it.
    """
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sweep(cache)
    folder = cache / f".partial-{expected}"
    lock = None if expected is None else _take(folder)
    if lock is None:
        folder = cache / f".incoming-{token_hex(8)}"
        folder.mkdir(mode=0o700)
    is_kept = False
    try:
        yield folder
    except Unavailable:
        is_kept = lock is not None
        raise
    finally:
        if not is_kept and (lock is None or _is_at(folder, lock)):
            shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _take(folder: Path) -> int | None:
    """A descriptor that holds the folder, made if need be; None when another process works on it."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        if _is_at(folder, descriptor):
            os.utime(folder)
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _is_at(folder: Path, descriptor: int) -> bool:
    """Whether the open folder still has that name: once it has its entry's, another process may make one of this."""
    try:
        return os.path.samestat(os.fstat(descriptor), folder.lstat())
    except FileNotFoundError:
        return False


def _download(store: ArtifactStore, path: str, folder: Path, name: str, recorded: FileDigest | None) -> FileDigest:
    """One file of a store. What an earlier attempt left of it is kept if the whole then is what was recorded."""
    target = folder / check_path(name)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as copy:
        was_begun = copy.seek(0, SEEK_END) > 0
        found = _fill(store, path, copy, name, 0 if recorded is None else recorded.size)
        if was_begun and found != recorded:
            found = _fill(store, path, copy, name, 0)
        os.fsync(descriptor)
    return found


def _fill(store: ArtifactStore, path: str, copy: RawIOBase, name: str, most_kept: int) -> FileDigest:
    """Keep up to so many bytes of the copy, and append the rest of the file."""
    copy.truncate(min(most_kept, copy.seek(0, SEEK_END)))
    copy.seek(0)
    hashed, size = sha256(), 0
    while chunk := copy.read(CHUNK_BYTES):
        hashed.update(chunk)
        size += len(chunk)
    if size == 0 or size < most_kept:
        for chunk in store.read(path, CHUNK_BYTES, size):
            hashed.update(chunk)
            size += len(chunk)
            copy.write(chunk)
    return FileDigest(name, size, hashed.hexdigest())


def _copy(source: BinaryIO, folder: Path, name: str) -> FileDigest:
    target = folder / check_path(name)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    hashed, size = sha256(), 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as copy:
        while chunk := source.read(CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
            copy.write(chunk)
        os.fsync(descriptor)
    return FileDigest(name, size, hashed.hexdigest())


def _admit(folder: Path, manifest: Manifest, cache: Path) -> Path:
    """Give the folder its name, unless an intact entry has it already."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o700)
        _sync(Path(path))
    entry = cache / _entry_name(manifest.digest)
    while True:
        existing = _intact_entry(cache, manifest)
        if existing is not None:
            return existing
        try:
            folder.rename(entry)
        except OSError:
            if not entry.is_dir():  # anything but another process that was faster
                raise
        else:
            _sync(cache)
            return entry


def _evict(entry: Path) -> None:
    trash = entry.with_name(f".evicted-{token_hex(8)}")
    try:
        entry.rename(trash)
    except FileNotFoundError:
        return  # another process evicted it
    shutil.rmtree(trash, ignore_errors=True)


def _sweep(cache: Path) -> None:
    """Remove what killed processes left half-written; what is younger may still be in work."""
    for each in cache.glob(".*-*"):
        with suppress(FileNotFoundError):
            if time.time() - each.stat().st_mtime > ABANDONED_AFTER_S:
                shutil.rmtree(each, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
