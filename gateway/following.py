"""One endpoint's way to its goal: fetch, load, swap, retire, sleep. The only writer of `Endpoint.split`.

Whatever fails on the way leaves what is served as it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from gateway.config import EndpointConfig
from gateway.endpoints import Change, Endpoint, Failure, Incoming
from gateway.errors import GatewayError
from gateway.knowngood import KnownGood, KnownGoodSet
from gateway.memory import Memory
from gateway.routing import Routing
from gateway.runtimes.base import Resolved, Runtime
from gateway.servable import Servable
from gateway.source import Target
from gateway.split import Split
from gateway.threads import in_thread
from registry import ModelUri, ModelVersion, Registry, RegistryError

log = logging.getLogger("turnout.reconciler")

FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Goal:
    """One thing to bring up, and where its files come from."""

    version: ModelVersion | None  # None: a directory, served as it is
    path: Path | None = None
    client: Registry | None = None
    digest: str | None = None  # known from disk, while the registry is away
    target: Target | None = None
    known_good: KnownGoodSet | None = None  # where to remember it once it serves

    @property
    def key(self) -> object:
        return self.version.key if self.version else self.path

    @property
    def label(self) -> str:
        return self.version.version if self.version else str(self.path)


class Follower:
    """Brings up every new goal of one endpoint; a newer one supersedes one that is still on its way.

    `aim` it, `run` it until cancelled, then `retire` what it serves. An endpoint that is not kept warm sleeps until a
    request asks for it, and again when it is told to. *routing* hears of every change of the split; *memory* is asked
    for room before a version is loaded.
    """

    def __init__(self, endpoint: Endpoint, runtime: Runtime, memory: Memory, cache: Path, routing: Routing) -> None:
        self.endpoint = endpoint
        self.goal: Goal | None = None
        self._runtime = runtime
        self._memory = memory
        self._cache = cache / "models"
        self._routing = routing
        self._changed = endpoint.changed
        self._serving: object = None  # what the split was made from
        self._built: object = None  # what has been installed, so that it can sleep until a request asks
        self._following_up: set[asyncio.Task[None]] = set()
        self._remembering = asyncio.Lock()  # in the order of the swaps

    def aim(self, goal: Goal) -> None:
        """What should be served from here on."""
        before, self.goal = self.goal, goal
        if self._is_served(goal):
            self.endpoint.last_error = None  # what is wanted is served: what failed is not wanted any more
        # The same version again, now from the registry itself, replaces a start from disk that has failed.
        if before is None or before.key != goal.key or (before.digest and not goal.digest):
            self._changed.set()

    def reconfigure(self, config: EndpointConfig) -> None:
        """What asks for other replicas brings them up beside those that serve; another model waits to be aimed at."""
        before, self.endpoint.config = self.endpoint.config, config
        if config.model != before.model:
            self.goal = None
        if config != before:
            self._changed.set()

    def forget(self) -> None:
        """Another registry is asked from here on: what serves goes on until that one has said what should."""
        if not isinstance(self.endpoint.config.model, Path):
            self.goal = None

    def put_to_sleep(self) -> None:
        """Take what is served out of memory until a request asks for it."""
        split, self.endpoint.split = self.endpoint.split, None
        self.endpoint.is_asleep = True
        self._serving = None
        epoch, _ = self._routing.announce(self.endpoint, None)  # what others have in flight keeps it open
        self._routing.reached(epoch)
        if split is not None:
            log.info("put to sleep", extra={"endpoint": self.endpoint.name, "version": split.primary.resolved.label})
            self._begin_to_retire(split.primary)

    def note(self, failure: Failure) -> None:
        """Keep why a look or a load came to nothing, and log it once."""
        if self.goal is None:
            self.endpoint.came_to_nothing()
        before = self.endpoint.last_error
        if before is not None and (before.message, before.version, failure.retry_in_s) == (failure.message, None, None):
            return  # still the same, since then
        if before is None or before.message != failure.message:
            version = failure.version or "-"
            log.warning("%s", failure.message, extra={"endpoint": self.endpoint.name, "version": version})
        self.endpoint.last_error = failure
        self._routing.news.set()

    async def run(self) -> None:
        """Follow the goal until cancelled."""
        retry = FIRST_RETRY_S
        while True:
            if self.goal is not None and self.endpoint.is_asleep and self.endpoint.is_awaited:
                self._changed.set()  # it was put to sleep, and asked for, before the work on it was over
            await self._changed.wait()
            self._changed.clear()
            goal = self.goal
            if goal is None or self._is_served(goal):
                continue
            if self._may_sleep() and self._is_built(goal):
                self.endpoint.is_asleep = True
                continue
            pause = retry * random.uniform(0.75, 1.25)
            if await self._superseded(goal, pause) or self._is_served(goal) or self.endpoint.is_asleep:
                retry = FIRST_RETRY_S
            else:
                retry = await self._pause(pause, retry)

    async def retire(self) -> None:
        """Drain and close everything that serves, and the endpoint with it."""
        split = self.endpoint.close()
        serving = [] if split is None else [servable.retire() for servable, _, _ in split.shares()]
        await asyncio.gather(*serving, *self._following_up)

    def _may_sleep(self) -> bool:
        endpoint = self.endpoint
        return endpoint.split is None and not endpoint.config.keep_warm and not endpoint.is_awaited

    def _is_served(self, goal: Goal) -> bool:
        return self._serving == self._key(goal)

    def _is_built(self, goal: Goal) -> bool:
        return self.endpoint.config.env_manager == "local" or self._built == self._key(goal)

    def _key(self, goal: Goal) -> object:
        return goal.key, _of_servables(self.endpoint.config)

    async def _pause(self, pause: float, retry: float) -> float:
        """Wait before the same goal is tried again, or until there is another; gives the next retry's length."""
        try:
            async with asyncio.timeout(pause):
                await self._changed.wait()
            return FIRST_RETRY_S
        except TimeoutError:
            self._changed.set()
            return min(retry * 2, LONGEST_RETRY_S)

    async def _superseded(self, goal: Goal, pause: float) -> bool:
        """Work on *goal* until it serves or fails; True when it was given up for a newer one."""
        key = self._key(goal)
        work = asyncio.create_task(self._bring_up(goal, pause))
        try:
            while not work.done():
                news = asyncio.create_task(self._changed.wait())
                await asyncio.wait({work, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if self.goal is None or self._key(self.goal) != key:
                    return not work.done()
                if not work.done():
                    self._changed.clear()
            return False
        finally:
            work.cancel()
            await _end_of(work)
            self.endpoint.incoming = None

    async def _bring_up(self, goal: Goal, pause: float) -> None:
        loop, endpoint = asyncio.get_running_loop(), self.endpoint
        begun, key, sleeps = loop.time(), self._key(goal), self._may_sleep()
        endpoint.incoming = Incoming(goal.label, goal.version.digest if goal.version else None)
        self._routing.news.set()
        try:
            resolved = await self._fetch(goal)
            incoming = endpoint.incoming = Incoming(resolved.label, resolved.digest)
            incoming.state = "starting"
            await self._runtime.build(resolved, endpoint.config)  # it takes long, and no place among the loads
            self._built = key
            if sleeps and self._may_sleep():
                endpoint.is_asleep = True
                return
            async with self._memory.loading(endpoint):
                servable = await Servable.start(
                    self._runtime,
                    resolved,
                    endpoint.config,
                    lambda state: setattr(incoming, "state", state),
                    is_awaited=endpoint.split is None,
                )
                await self._hand_over(servable, goal, key, begun)
        except Exception as problem:  # whatever it is, what serves goes on, and the cause can be read
            if not isinstance(problem, RegistryError | GatewayError | OSError):
                log.exception("unexpected", extra={"endpoint": endpoint.name, "version": goal.label})
            self.note(Failure(goal.label, str(problem), datetime.now(UTC), pause))
            endpoint.came_to_nothing()

    async def _fetch(self, goal: Goal) -> Resolved:
        """Verified files in the cache."""
        cache = self._cache
        reference = self.endpoint.config.model
        alias = reference.alias if isinstance(reference, ModelUri) else None

        def fetch() -> Resolved:
            if goal.path is not None:
                return Resolved.of_directory(goal.path, cache)
            assert goal.version is not None
            if goal.digest is not None:
                return Resolved.of_cache(goal.version, goal.digest, alias, cache)
            assert goal.client is not None
            return Resolved.of_version(goal.version, alias, cache, goal.client)

        return await in_thread(fetch)

    async def _hand_over(self, servable: Servable, goal: Goal, key: object, begun_s: float) -> None:
        """Swap everywhere, here last: whoever reads here that it serves gets it from any process."""
        epoch, confirmed = self._routing.announce(self.endpoint, servable)
        try:
            if confirmed is not None:
                await _end_of(confirmed)
        finally:  # what others serve is served, also when another goal comes meanwhile
            self._swap(servable, goal, int((asyncio.get_running_loop().time() - begun_s) * 1000))
            self._routing.reached(epoch)
            self._serving = key

    def _swap(self, servable: Servable, goal: Goal, took_ms: int) -> None:
        endpoint, old = self.endpoint, self.endpoint.split
        endpoint.serve(Split(servable))  # the swap: every request that comes from here on goes to the new version
        endpoint.incoming = None
        endpoint.last_error = None
        move = goal.target.change if goal.target else None
        endpoint.last_change = Change(
            old.primary.resolved.label if old else None,
            servable.resolved.label,
            datetime.now(UTC),
            move.by if move else None,
            move.reason if move else None,
            took_ms,
        )
        labels = {"endpoint": endpoint.name, "version": servable.resolved.label}
        log.info("serving", extra={**labels, "took_ms": took_ms})
        self._begin(self._remember(goal, servable.resolved))
        if old is not None:
            self._begin_to_retire(old.primary)

    async def _remember(self, goal: Goal, resolved: Resolved) -> None:
        if goal.version is None or goal.known_good is None:
            return
        good = KnownGood(goal.version, resolved.digest)
        async with self._remembering:
            try:
                await in_thread(partial(goal.known_good.write, str(self.endpoint.config.model), good))
            except OSError as problem:
                log.warning("the last known good set could not be written: %s", problem)

    def _begin_to_retire(self, servable: Servable) -> None:
        self.endpoint.draining.append(servable)
        self._begin(self._retire(servable))

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        """What follows from a swap goes on whatever the next goal is."""
        task = asyncio.create_task(work)
        self._following_up.add(task)
        task.add_done_callback(self._following_up.discard)

    async def _retire(self, servable: Servable) -> None:
        await servable.retire()
        self.endpoint.draining.remove(servable)
        self._routing.news.set()
        log.info("retired", extra={"endpoint": self.endpoint.name, "version": servable.resolved.label})


async def _end_of(work: asyncio.Future[None]) -> None:
    """Return once it is done. Being cancelled before that comes after it."""
    is_cancelled = False
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError


def _of_servables(config: EndpointConfig) -> EndpointConfig:
    """What of an endpoint's configuration its replicas were made by."""
    return replace(config, keep_warm=True, is_default=False)
