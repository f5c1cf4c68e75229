"""The change feed over HTTP: long polls and server-sent events, any number of them, fed by one waiting thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from registry.changes import Change, Changes
from registry.core import ServedRegistry
from registry.errors import InvalidParameter, RegistryError, Unavailable
from registry.server.crew import Crew

log = logging.getLogger("turnout.changes")

PATH = "/api/turnout/v1/changes"
DEFAULT_TIMEOUT_S = 30.0
LONGEST_TIMEOUT_S = 60.0
HEARTBEAT_S = 15.0
WAIT_S = 2.0
BREATH_S = 0.025  # after news: a burst of writes is read in few readings, whose cost then does not grow with it
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
REMEMBERED = 64  # the last readings of the log: who stands further back asks the registry once
EVENT_STREAM = "text/event-stream"


class ChangeFeed:
    """Follows one registry and tells listeners on one event loop.

    The thread waits in the registry and hands what it read to the loop; all else happens on the loop.
    """

    def __init__(self, registry: ServedRegistry, crew: Crew) -> None:
        self._registry = registry
        self._crew = crew
        self._stopped = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()
        self._cursor: str | None = None
        self._remembered: OrderedDict[str, Changes] = OrderedDict()
        self._problem: str | None = None

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    def start(self) -> None:
        """Begin to follow; call it on the event loop that the listeners run on."""
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._follow, name="changes", daemon=True).start()

    def stop(self) -> None:
        """Answer every listener now. Safe to call twice, and in a signal handler.

        The thread ends by itself, within its two seconds' wait or when the registry is closed.
        """
        self._stopped.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                self._loop.call_soon_threadsafe(self._wake)

    async def cursor(self) -> str:
        """Where the registry stands at this moment."""
        return await self._crew.run(self._registry.cursor)

    async def recent_cursor(self) -> str:
        """Where the registry stood a moment ago; it costs nothing."""
        return await self.cursor() if self._cursor is None or self._problem is not None else self._cursor

    async def after(self, cursor: str, timeout: float) -> Changes:
        """What follows *cursor*: as soon as there is something, and nothing at the timeout or at `stop`.

        A cursor that the registry does not know is answered at once. Raises `Unavailable` when the registry is
        away at the timeout.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            news = self._news  # before the look, so that no change falls between the look and the wait
            left_s = deadline - asyncio.get_running_loop().time()
            is_over = left_s <= 0 or self.is_stopped
            found = await self._look(cursor, is_fresh=timeout <= 0, may_be_away=not is_over)
            if is_over or found.cursor != cursor or not found.is_complete:
                return found
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await news.wait()

    async def _look(self, cursor: str, *, is_fresh: bool, may_be_away: bool) -> Changes:
        nothing = Changes(cursor)
        if self._problem is not None:
            if may_be_away:
                return nothing
            raise Unavailable(self._problem)
        if not is_fresh and (found := self._recall(cursor)) is not None:
            return found
        try:
            return await self._crew.run(partial(self._registry.changes_since, cursor))
        except Unavailable:
            if may_be_away:
                return nothing
            raise

    def _recall(self, cursor: str) -> Changes | None:
        """What follows *cursor*, when that is still in memory."""
        found: list[Change] = []
        while cursor != self._cursor:
            if cursor not in self._remembered:
                return None
            reading = self._remembered[cursor]
            found += reading.changes
            cursor = reading.cursor
        return Changes(cursor, found)

    # On the loop

    def _tell(self, before: str | None, changes: Changes) -> None:
        had_problem, self._problem = self._problem is not None, None
        self._cursor = changes.cursor
        if before is not None and changes.is_complete and changes.cursor != before:
            self._remembered[before] = changes
            if len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)
        if had_problem or changes.cursor != before:
            self._wake()

    def _lose(self, problem: str) -> None:
        if self._problem != problem:
            log.warning("change feed: %s", problem)
        self._problem = problem

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # In the thread

    def _follow(self) -> None:
        cursor: str | None = None
        pause_s = FIRST_PAUSE_S
        while not self._stopped.is_set():
            try:
                changes = self._next(cursor)
            except Exception as problem:
                if self._stopped.is_set():
                    return
                if not isinstance(problem, RegistryError):
                    log.exception("the change feed failed; it goes on")
                self._call(self._lose, str(problem))
                self._stopped.wait(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._call(self._tell, cursor, changes)
                if changes.cursor != cursor:
                    self._stopped.wait(BREATH_S)
                cursor = changes.cursor
                pause_s = FIRST_PAUSE_S

    def _next(self, cursor: str | None) -> Changes:
        if cursor is None:
            return Changes(self._registry.cursor())
        if self._registry.wait(cursor, WAIT_S) == cursor:
            return Changes(cursor)
        return self._registry.changes_since(cursor)

    def _call(self, function: Any, *arguments: Any) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
            self._loop.call_soon_threadsafe(function, *arguments)


def routes(feed: ChangeFeed) -> list[Route]:
    """The one route: a long poll, or a stream for who accepts `text/event-stream`."""

    async def changes(request: Request) -> Response:
        if EVENT_STREAM in request.headers.get("accept", ""):
            return await _stream(feed, request)
        return await _poll(feed, request)

    return [Route(PATH, changes, methods=["GET"])]


async def _poll(feed: ChangeFeed, request: Request) -> Response:
    cursor = request.query_params.get("cursor")
    timeout_s = _read_timeout(request.query_params.get("timeout"))
    found = await feed.after(cursor, timeout_s) if cursor else Changes(await feed.cursor())
    body = {
        "cursor": found.cursor,
        "changes": [each.as_json() for each in found.changes],
        "reset": not found.is_complete,
    }
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(body), media_type="application/json", headers=headers)


async def _stream(feed: ChangeFeed, request: Request) -> Response:
    given = request.headers.get("last-event-id") or request.query_params.get("cursor")
    cursor = given or await feed.recent_cursor()
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(feed, cursor, not given), media_type=EVENT_STREAM, headers=headers)


async def _events(feed: ChangeFeed, cursor: str, is_new: bool) -> AsyncIterator[str]:
    """An event for each change. The cursor comes with the last one of a reading, so that none is lost by a cut."""
    yield f"id: {cursor}\n\n" if is_new else ":\n\n"
    while not feed.is_stopped:
        try:
            found = await feed.after(cursor, HEARTBEAT_S)
        except Unavailable:
            yield ":\n\n"
            continue
        yield ":\n\n" if found.is_complete and found.cursor == cursor else written(found)
        cursor = found.cursor


def written(found: Changes) -> str:
    """The changes as events, or one that says that some are missing."""
    if not found.is_complete:
        return f"event: reset\nid: {found.cursor}\ndata: {{}}\n\n"
    events = [f"event: {each.kind}\ndata: {msgspec.json.encode(each.as_json()).decode()}\n" for each in found.changes]
    return "\n".join([*events[:-1], "".join(events[-1:]) + f"id: {found.cursor}\n", ""])


def _read_timeout(text: str | None) -> float:
    try:
        timeout_s = DEFAULT_TIMEOUT_S if text is None else float(text)
    except ValueError:
        timeout_s = math.nan
    if math.isnan(timeout_s):
        raise InvalidParameter(f"timeout must be a number of seconds, got {text!r}")
    return max(0.0, min(timeout_s, LONGEST_TIMEOUT_S))
