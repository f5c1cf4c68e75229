"""The number of what is served, and whoever has to hear of a change before this process goes by it."""

from __future__ import annotations

import asyncio
import gc
from typing import Protocol

from gateway.config import Settings
from gateway.endpoints import Endpoint
from gateway.servable import Servable

YOUNG_OBJECTS = 50_000  # far more than the requests consist of that are under way by the usual limits


class Members(Protocol):
    """Other processes that take requests for the same endpoints. They look nothing up themselves."""

    def announce(self, epoch: int, endpoint: Endpoint, servable: Servable | None) -> asyncio.Future[None]:
        """Have all send what they get to *servable* from here on; for None, have it wait until there is one.

        Done when each has confirmed it, or is gone. Never fails.
        """

    def configure(self, settings: Settings) -> None:
        """These endpoints and limits are in force from here on."""


class Routing:
    """Counts the changes. The epoch is that of the last one that every process goes by; followers write it."""

    def __init__(self) -> None:
        self.epoch = 0
        self.news = asyncio.Event()  # set when an endpoint changes; its one reader, the heartbeat, clears it
        self.members: Members | None = None
        self._announced = 0

    def announce(self, endpoint: Endpoint, servable: Servable | None) -> tuple[int, asyncio.Future[None] | None]:
        """Number a change, and tell those who go by it first; a future where somebody has to confirm it."""
        self._announced += 1
        confirmed = self.members.announce(self._announced, endpoint, servable) if self.members else None
        return self._announced, confirmed

    def reached(self, epoch: int) -> None:
        """This process goes by it too."""
        if not self.epoch:
            spare_the_collector()
        self.epoch = max(self.epoch, epoch)
        self.news.set()


def spare_the_collector() -> None:
    """Keep what is alive now, libraries above all, out of later collections: going through it stops every request.

    Requests leave no rings of references behind, so a collection finds next to nothing; it should not come because
    many requests are under way together.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
