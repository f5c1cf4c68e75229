"""Idle connections of SQLite's driver to one file, for reads that go past SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MAX_IDLE = 8


class Readers:
    """Safe for use by many threads at once: a connection is in one thread's hands, and a list's ends are atomic."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._idle: list[Any] = []
        self._is_closed = False

    def rows(self, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """All rows of one SELECT. Raises what the driver raises."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._connect()
        try:
            found: list[tuple[Any, ...]] = connection.execute(text, values).fetchall()
            return found
        finally:
            self._idle.append(connection)
            if self._is_closed or len(self._idle) > MAX_IDLE:
                self._close_above(0 if self._is_closed else MAX_IDLE)

    def close(self) -> None:
        """Close what is idle now, and what is in use as soon as it comes back."""
        self._is_closed = True
        self._close_above(0)

    def _close_above(self, kept: int) -> None:
        while len(self._idle) > kept:
            try:
                self._idle.pop().close()
            except IndexError:
                return
