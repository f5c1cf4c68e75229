"""What the loaded models take together, kept under a limit by putting the least recently used to sleep."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gateway.endpoints import Endpoint
from gateway.threads import in_thread

log = logging.getLogger("turnout.memory")

LOADS_AT_ONCE = 4  # each may take more than was expected
LOOK_INTERVAL_S = 5.0  # a model grows while it serves


@dataclass(frozen=True, slots=True)
class Occupant:
    """A loaded endpoint as the choice of who has to go sees it."""

    name: str
    size: int
    last_used_s: float
    may_go: bool


def to_put_to_sleep(occupants: Iterable[Occupant], limit: int) -> Iterator[str]:
    """The least recently used of those that may go, until what stays is within *limit*. Pure."""
    everybody = list(occupants)
    excess = sum(each.size for each in everybody) - limit
    for each in sorted(everybody, key=lambda occupant: occupant.last_used_s):
        if excess <= 0:
            return
        if each.may_go:
            yield each.name
            excess -= each.size


class Sleeper(Protocol):
    """What puts an endpoint to sleep."""

    endpoint: Endpoint

    def put_to_sleep(self) -> None: ...


class Memory:
    """Sizes of what is loaded, and the limit. 0 is no limit: then nothing is measured and nobody waits.

    A model with requests in flight is never touched: while all have some, more may be taken than the limit says.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.put_to_sleep = 0  # how many, since the start
        self._sleepers: dict[str, Sleeper] = {}
        self._sizes: dict[str, int] = {}  # as last measured, also of those that sleep
        self._expected: dict[Endpoint, int] = {}  # of those that are being loaded, of which two may have one name
        self._loads = asyncio.Semaphore(LOADS_AT_ONCE)

    def add(self, sleeper: Sleeper) -> None:
        """Count this one in."""
        self._sleepers[sleeper.endpoint.name] = sleeper

    def remove(self, name: str) -> None:
        """Count it no more."""
        self._sleepers.pop(name, None)
        self._sizes.pop(name, None)

    @property
    def used_bytes(self) -> int:
        """What the loaded models held when each was last measured."""
        return sum(each.size for each in self._occupants())

    @contextlib.asynccontextmanager
    async def loading(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """Load in the block: room is made for it first, and it is measured after. Waits while too many load."""
        if not self.limit_bytes:
            yield
            return
        async with self._loads:
            self._expected[endpoint] = self._guess(endpoint.name)
            self._make_room()
            try:
                yield
                await self._measure(endpoint)
            finally:
                del self._expected[endpoint]
        self._make_room()

    async def watch(self) -> None:
        """Measure again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            if self.limit_bytes:
                for each in list(self._sleepers.values()):
                    await self._measure(each.endpoint)
                self._make_room()

    def _guess(self, name: str) -> int:
        """As it was the last time; else as the others are."""
        if name in self._sizes or not self._sizes:
            return self._sizes.get(name, 0)
        return sum(self._sizes.values()) // len(self._sizes)

    async def _measure(self, endpoint: Endpoint) -> None:
        if endpoint.split is not None:
            replicas = [replica for servable, _, _ in endpoint.split.shares() for replica in servable.replicas_up]
            self._sizes[endpoint.name] = await in_thread(lambda: sum(each.memory_bytes() for each in replicas))

    def _occupants(self) -> Iterator[Occupant]:
        for name, sleeper in self._sleepers.items():
            endpoint = sleeper.endpoint
            if endpoint.split is not None:
                may_go = endpoint.is_idle and not endpoint.config.keep_warm and endpoint not in self._expected
                yield Occupant(name, self._sizes.get(name, 0), endpoint.last_used_s, may_go)

    def _make_room(self) -> None:
        if not self.limit_bytes:
            return
        room = self.limit_bytes - sum(self._expected.values())
        for name in list(to_put_to_sleep(self._occupants(), room)):
            self.put_to_sleep += 1
            self._sleepers[name].put_to_sleep()
