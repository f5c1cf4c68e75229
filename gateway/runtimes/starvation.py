"""Loads that run on idle cores alone, and what is noticed when there are none."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path

LOOK_S = 0.5
LOOKS = 2  # in a row: a thread that waits for a disk may stand ready for a core at one moment
LEAST_SHARE = 0.05  # of a core, for all loads together: at low priority they would have little more
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Starved(Exception):
    """A load found no idle core for a second or two."""


class IdleLoads:
    """The loads of one machine that use nothing but idle cores: they share what there is."""

    def __init__(self) -> None:
        self._under_way = 0

    async def wait(self, load: asyncio.Task[None], pid: int) -> None:
        """Return when the *load* in the process *pid* is done, or raise what it raises; or raise `Starved`."""
        self._under_way += 1
        threads, starved = _Threads(pid), 0
        try:
            while not (await asyncio.wait([load], timeout=LOOK_S))[0]:
                starved = starved + 1 if threads.one_starves(LEAST_SHARE / self._under_way) else 0
                if starved == LOOKS:
                    raise Starved
            await load
        finally:
            self._under_way -= 1
            load.cancel()


class _Threads:
    """The threads of a process that stood ready to run when they were last looked at."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}/task")
        self._at_s = time.monotonic()
        self._ready: dict[str, float] = {}

    def one_starves(self, least_share: float) -> bool:
        """Whether one of them stands ready again, and had less than that share of a core in between."""
        before, before_s = self._ready, self._at_s
        self._at_s, self._ready = time.monotonic(), self._look()
        enough_s = least_share * (self._at_s - before_s)
        return any(used_s - before.get(thread, float("-inf")) < enough_s for thread, used_s in self._ready.items())

    def _look(self) -> dict[str, float]:
        """Each thread that runs or waits for a core, and the processor time that it had; none where /proc is silent."""
        found = {}
        for path in self._folder.glob("*/stat"):
            with contextlib.suppress(OSError):  # it ended
                state, *fields = path.read_text().rpartition(")")[2].split()
                if state == "R":
                    found[path.parent.name] = (int(fields[10]) + int(fields[11])) / TICKS_A_SECOND
        return found
