"""Hears that a SQLite file was written to, by watching its folder."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

WATCH_STEP_MS = 5
WATCH_DEBOUNCE_MS = 10
SUFFIXES = ("", "-wal", "-journal")


class FolderEars:
    """Hears writes to one SQLite file. Where the folder cannot be watched it hears nothing, and waits."""

    def __init__(self, path: Path, stop: threading.Event) -> None:
        from watchfiles._rust_notify import RustNotify

        self._stop = stop
        self._names = {f"{path}{suffix}" for suffix in SUFFIXES}
        self._watcher: RustNotify | None = None
        with suppress(OSError, RuntimeError):
            self._watcher = RustNotify([str(path.parent)], False, False, 300, False, False)

    def heard_within(self, seconds: float) -> bool:
        if self._watcher is None:
            self._stop.wait(seconds)
            return False
        timeout_ms = max(1, round(seconds * 1000))
        changes = self._watcher.watch(WATCH_DEBOUNCE_MS, WATCH_STEP_MS, timeout_ms, self._stop)
        if changes == "signal":  # the watcher has swallowed a Ctrl-C
            raise KeyboardInterrupt
        return isinstance(changes, set) and any(path in self._names for _, path in changes)

    def close(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
