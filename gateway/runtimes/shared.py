"""Replicas that another ingress process had forked, and lends: this one has a connection of its own to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from pathlib import Path

from gateway.environments import TIMECARD
from gateway.runtimes.connected import LocalReplica
from gateway.worker.timecard import Timecard

HEARSAY_S = 1.0  # for so long the lender may be about to say how a replica ended
End = Callable[[str, str], None]


class LentProcess:
    """A replica's process. Only the lender can end it, and knows how it ended."""

    def __init__(self, path: Path, end: End, lost: Callable[[LentProcess], None]) -> None:
        self.path = path
        self.timecard = Timecard(f"{path}{TIMECARD}")
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.why: str | None = None
        self._end = end
        self._lost = lost

    def kill(self, why: str | None = None) -> None:
        """Have the lender end it."""
        self._end(str(self.path), why or "was ended")

    def lost(self) -> None:
        asyncio.get_running_loop().call_later(HEARSAY_S, self._lost, self)

    def died(self, how: str) -> None:
        """It is of no more use here."""
        if not self.ended.done():
            self.why = how
            self.ended.set_result(0)

    async def close(self, stop: Callable[[], None]) -> None:  # noqa: ARG002  # others may still ask it
        self.died("was given back")

    def memory_bytes(self) -> int:
        return 0  # the lender counts


class SharedPlace:
    """The place where another process runs one version. *end* asks that process to end a replica, saying why."""

    def __init__(self, environment: str, label: str, end: End) -> None:
        self.environment = environment
        self._label = label
        self._end = end
        self._lent: dict[str, LentProcess | None] = {}
        self._offers: asyncio.Queue[str] = asyncio.Queue()

    def lend(self, paths: Collection[str], how: str) -> None:
        """These are all from here on; *how* others ended."""
        for path in self._lent.keys() - set(paths):
            process = self._lent.pop(path)
            if process is not None:
                process.died(how)
        for path in paths:
            if path not in self._lent:
                self._offer(path)

    async def tried(self) -> None:
        """Wait until each that is lent has been connected to, unless it was gone."""
        await self._offers.join()

    async def start(
        self,
        progress: Callable[[str], None],  # noqa: ARG002  # it is loaded already
        is_awaited: bool = True,  # noqa: ARG002
    ) -> LocalReplica:
        """The next that is lent."""
        while True:
            path = await self._offers.get()
            try:
                process = LentProcess(Path(path), self._end, self._take_note)
                replica = LocalReplica(process, self._label)
                await replica.attach()
            except OSError:
                self._lent.pop(path, None)  # gone already; the lender will say so
                continue
            finally:
                self._offers.task_done()
            if path in self._lent:
                self._lent[path] = process
            else:
                process.died("is gone")
            return replica

    def _offer(self, path: str) -> None:
        self._lent[path] = None
        self._offers.put_nowait(path)

    def _take_note(self, process: LentProcess) -> None:
        """A connection was closed; while the lender still lends that replica, there may be another one."""
        is_news = not process.ended.done()
        process.died("closed its connection")
        if is_news and self._lent.get(str(process.path)) is process:
            self._offer(str(process.path))
