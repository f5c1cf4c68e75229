"""The folder in which one gateway's replicas listen: private, short of name, and gone with the gateway."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = f"turnout-{os.getuid()}-"
LONGEST_PARENT_BYTES = 70
SETTLED_S = 60.0


def open_folder() -> tuple[Path, int]:
    """A new one, and the descriptor of its lock: closing that says that the folder is abandoned."""
    sweep_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder_of_folders()))  # 0700
    lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def folder_of_folders() -> Path:
    """Where run folders go: a socket's path has at most 107 bytes, and a TMPDIR may be longer than that."""
    usual = Path(tempfile.gettempdir())
    return usual if len(os.fsencode(usual)) <= LONGEST_PARENT_BYTES else Path("/tmp")


def sweep_abandoned() -> None:
    """Remove the folders of gateways that were killed: those whose lock nobody holds."""
    for folder in folder_of_folders().glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < SETTLED_S:
                continue  # its owner may be about to take the lock
            lock = os.open(folder / "lock", os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
