"""Deadlines of connections without a timer for each."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

log = logging.getLogger("turnout.connections")


class Watched(Protocol):
    """A connection that knows its deadlines."""

    def check(self, now_s: float) -> None:
        """Close the connection if a deadline is over."""


class Watch:
    """Looks after every connection of one server once in a while, so that a request needs no timer."""

    def __init__(self) -> None:
        self.turned_away = 0
        self._is_running = False

    def start(self, loop: asyncio.AbstractEventLoop, connections: set[Watched], every_s: float) -> None:
        """Look after *connections* until none is left; nothing if that is being done."""
        if not self._is_running:
            self._is_running = True
            loop.call_later(every_s, self._sweep, loop, connections, every_s)

    def _sweep(self, loop: asyncio.AbstractEventLoop, connections: set[Watched], every_s: float) -> None:
        now_s = loop.time()
        for each in tuple(connections):
            try:
                each.check(now_s)
            except Exception:
                log.exception("a connection could not be checked")
        if self.turned_away:
            log.warning("turned away %d connections: %d are open", self.turned_away, len(connections))
            self.turned_away = 0
        self._is_running = False
        if connections:
            self.start(loop, connections, every_s)
