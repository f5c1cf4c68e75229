"""The stream that pages listen to: every change of the registry, and word that gateways report something new."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from registry.errors import Unavailable
from registry.server.changes import EVENT_STREAM, ChangeFeed, written
from registry.server.gateways import Gateways
from registry.server.metrics import Metrics

PATH = "/deployments/events"
REFRESH_S = 5.0  # charts, and gateways that fell silent
BREATH_S = 0.1  # after news of gateways, of which many may come at once

GATEWAYS = "event: gateways\ndata: {}\n\n"


class Bell:
    """Rung on any thread, heard by everybody who waits on one event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()

    def start(self) -> None:
        """Call it on the event loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._wake)

    @property
    def next_ring(self) -> asyncio.Event:
        """Set when it is rung next."""
        return self._rung

    def _wake(self) -> None:
        rung, self._rung = self._rung, asyncio.Event()
        rung.set()


class LiveStream:
    """What every open page is told. `start` it on the event loop; it ends with the *feed*."""

    def __init__(self, feed: ChangeFeed, gateways: Gateways, metrics: Metrics) -> None:
        self._feed = feed
        self._metrics = metrics
        self._bell = Bell()
        gateways.follow(self._bell.ring)

    def start(self) -> None:
        self._bell.start()

    def routes(self) -> list[Route]:
        return [Route(PATH, self._answer, methods=["GET"])]

    async def _answer(self, request: Request) -> Response:
        cursor = request.headers.get("last-event-id") or request.query_params.get("cursor")
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(cursor), media_type=EVENT_STREAM, headers=headers)

    async def _events(self, given: str | None) -> AsyncIterator[str]:
        """The first event comes at once: whoever begins to listen has missed something."""
        self._metrics.streams += 1
        feeding: asyncio.Task[tuple[str, str]] | None = None
        try:
            cursor = given or await self._feed.recent_cursor()
            ring = self._bell.next_ring
            yield GATEWAYS if given else f"id: {cursor}\n{GATEWAYS}"
            while not self._feed.is_stopped:
                feeding = feeding or asyncio.create_task(self._next(cursor))
                heard = asyncio.create_task(ring.wait())
                either: set[asyncio.Task[Any]] = {feeding, heard}
                await asyncio.wait(either, timeout=REFRESH_S, return_when=asyncio.FIRST_COMPLETED)
                heard.cancel()
                if feeding.done():
                    cursor, text = feeding.result()
                    feeding = None
                    yield text
                else:
                    ring = self._bell.next_ring  # before they look: what comes after that, they are told again
                    yield GATEWAYS
                    await asyncio.wait({feeding}, timeout=BREATH_S)
        finally:
            self._metrics.streams -= 1
            if feeding is not None:
                feeding.cancel()

    async def _next(self, cursor: str) -> tuple[str, str]:
        """Where the log of changes stands after what came next, and that as events."""
        try:
            found = await self._feed.after(cursor, REFRESH_S)
        except Unavailable:
            await asyncio.sleep(REFRESH_S)
            return cursor, GATEWAYS
        return found.cursor, GATEWAYS if found.is_complete and found.cursor == cursor else written(found)
