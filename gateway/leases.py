"""What keeps a version open: requests that it answers, here and in other processes that ask its replicas too."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Leases:
    """Of one version. A `with` block is one request: it is counted, and keeps the version open until it ends."""

    __slots__ = ("_holders", "_none_left", "errors", "here", "requests")

    def __init__(self) -> None:
        self.here = 0
        self.requests = 0
        self.errors = 0
        self._holders: set[object] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __enter__(self) -> None:
        self.here += 1
        self.requests += 1
        self._none_left.clear()

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self.here -= 1
        if kind is not None:
            self.errors += 1
        self._look()

    def hold(self, holder: object) -> None:
        """Keep it open for another process, which may have requests in it, until `let_go`."""
        self._holders.add(holder)
        self._none_left.clear()

    def let_go(self, holder: object) -> None:
        """That process has none in it any more. Safe to call twice."""
        self._holders.discard(holder)
        self._look()

    async def none_left(self) -> None:
        """Wait for the last request and the last holder."""
        await self._none_left.wait()

    def _look(self) -> None:
        if not self.here and not self._holders:
            self._none_left.set()
