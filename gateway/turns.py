"""Fairness between connections: what is ready at once does not all begin in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol


class Connection(Protocol):
    """What may have to wait with what it has read."""

    def go_on(self) -> None:
        """It is your turn."""


class Turns:
    """Lets *at_once* requests begin in each turn of the loop; the others come in the next turns, in order.

    Otherwise hundreds of requests that are ready together would make one long turn of the loop, in which nobody else
    is heard, a health check among them. Costs a request that need not wait a fraction of a microsecond.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._left = at_once
        self._waiting: deque[Connection] = deque()
        self._is_counting = False

    def begins(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> bool:
        """Whether what *connection* has read may be worked on now; if not, it is told later."""
        if not self._is_counting:
            self._is_counting = True
            loop.call_soon(self._next_turn, loop)
        if self._left:
            self._left -= 1
            return True
        self._waiting.append(connection)
        return False

    def _next_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = self._at_once
        self._is_counting = False
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft().go_on()
        if self._waiting:
            self._is_counting = True
            loop.call_soon(self._next_turn, loop)
