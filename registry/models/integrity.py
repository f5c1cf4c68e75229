"""The sha256 manifest of a model directory: compute it, and verify a directory against it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from registry.artifacts import CHUNK_BYTES, FileDigest, Manifest
from registry.errors import CorruptModel, InvalidModel


def compute_manifest(directory: Path) -> Manifest:
    """The digests of every file below the directory.

    Raises `InvalidModel` for a symbolic link or anything else that is neither file nor directory.
    """
    return Manifest(tuple(sorted(_digest(directory, path) for path in model_files(directory))))


def verify(directory: Path, manifest: Manifest) -> None:
    """Raise `CorruptModel`, which lists every difference, unless the directory holds exactly these files."""
    try:
        found = compute_manifest(directory)
    except InvalidModel as problem:
        raise CorruptModel(str(problem)) from None
    refuse_differences(manifest, found)


def refuse_differences(expected: Manifest, found: Manifest) -> None:
    """Raise `CorruptModel` that lists what changed, was added or was removed since registration."""
    before = {file.path: file for file in expected.files}
    now = {file.path: file for file in found.files}
    differences = {
        "changed": [path for path in before if path in now and before[path] != now[path]],
        "added": [path for path in now if path not in before],
        "removed": [path for path in before if path not in now],
    }
    listed = "; ".join(f"{what}: {_list(paths)}" for what, paths in differences.items() if paths)
    if listed:
        raise CorruptModel(
            f"the model's files are not those that were registered ({listed}); restore them or register again"
        )


def model_files(directory: Path) -> Iterator[str]:
    """The paths of all files below the directory, with `/`."""
    folders = [""]
    while folders:
        folder = folders.pop()
        with os.scandir(directory / folder) as entries:
            for entry in entries:
                path = f"{folder}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{path}/")
                elif entry.is_file(follow_symlinks=False):
                    yield path
                else:
                    raise InvalidModel(f"{path!r} is a link or no regular file; a model has none of these")


def _digest(directory: Path, path: str) -> FileDigest:
    hashed, size = sha256(), 0
    descriptor = os.open(directory / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidModel(f"{path!r} is a link or no regular file; a model has none of these")
        while chunk := file.read(CHUNK_BYTES):
            hashed.update(chunk)
            size += len(chunk)
    return FileDigest(path, size, hashed.hexdigest())


def _list(paths: list[str], most: int = 5) -> str:
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(sorted(paths)[:most]) + more
