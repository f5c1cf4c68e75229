"""Requests that wait until a replica has room for one more."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque


class Line:
    """Those who wait, the one that came first in front. Everything happens on one event loop."""

    def __init__(self) -> None:
        self._turns: deque[asyncio.Future[None]] = deque()
        self.called = 0  # those whose turn it is, and who have not gone on yet

    def __len__(self) -> int:
        return len(self._turns)

    async def wait(self, *, in_front: bool = False) -> None:
        """Return when it is this one's turn: it stands behind all others, or *in_front* of them.

        A turn that is given to somebody who leaves at the same moment goes to the next.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if in_front:
            self._turns.appendleft(turn)
        else:
            self._turns.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._turns.remove(turn)
            if turn.done() and not turn.cancelled():
                self.called -= 1
                self.advance()
            raise
        self.called -= 1

    def advance(self) -> None:
        """It is the turn of the first."""
        while self._turns:
            turn = self._turns.popleft()
            if not turn.done():
                turn.set_result(None)
                self.called += 1
                return

    def advance_all(self) -> None:
        """It is everybody's turn who waits now."""
        for _ in range(len(self._turns)):
            self.advance()
