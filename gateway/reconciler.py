"""The control path: makes what is served match what the registry says. The only writer of `Endpoint.split`.

Each endpoint has one task. It looks at its target, brings the version up beside the one that serves, swaps by one
assignment, and retires the old. Whatever fails on the way leaves what is served as it is.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from gateway.config import Settings
from gateway.endpoints import Change, Endpoint, Failure, Incoming, isoformat
from gateway.errors import GatewayError
from gateway.knowngood import KnownGood, KnownGoodSet
from gateway.runtimes.base import Resolved, Runtime
from gateway.servable import Servable
from gateway.source import Sighting, Target, references, watch
from gateway.split import Split
from gateway.threads import in_thread
from registry import (
    ModelUri,
    ModelVersion,
    Registry,
    RegistryError,
    cached_model,
    fetch_model,
    read_mlmodel,
    snapshot_directory,
)

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

    @property
    def key(self) -> object:
        return self.version.key if self.version else self.path

    @property
    def label(self) -> str:
        return self.version.version if self.version else str(self.path)


class Reconciler:
    """Owns every endpoint's task. `run` until cancelled, then `retire_all`."""

    def __init__(self, settings: Settings, endpoints: list[Endpoint], runtime: Runtime) -> None:
        self.epoch = 0
        self.swapped = asyncio.Event()  # set at every swap; its one reader, the heartbeat, clears it
        self.registry_uri = settings.public_registry_uri
        self.reachable: bool | None = None
        self.last_seen: datetime | None = None
        self.problem: str | None = None
        self._settings = settings
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._runtime = runtime
        self._goals: dict[str, Goal] = {}
        self._changed = {name: asyncio.Event() for name in self._endpoints}
        self._serving: dict[str, object] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._known_good = KnownGoodSet(settings.cache, self.registry_uri)

    async def run(self) -> None:
        """Follow the registry until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for endpoint in self._endpoints.values():
                tasks.create_task(self._follow(endpoint), name=f"follow {endpoint.name}")
            tasks.create_task(self._look(), name="look")

    async def retire_all(self) -> None:
        """Drain and close everything that serves."""
        servables = [each.split.primary for each in self._endpoints.values() if each.split is not None]
        await asyncio.gather(*(each.retire() for each in servables), *self._retiring)

    def registry_status(self) -> dict[str, object]:
        """The `registry` entry of `/status`."""
        return {
            "uri": self.registry_uri,
            "reachable": self.reachable,
            "last_seen": isoformat(self.last_seen) if self.last_seen else None,
            "problem": self.problem,
        }

    # Looking

    async def _look(self) -> None:
        for endpoint in self._endpoints.values():
            if isinstance(endpoint.config.model, Path):
                self._aim(endpoint, Goal(None, endpoint.config.model))
        followed = references([(each.name, each.config.model) for each in self._endpoints.values()])
        if followed:
            async for sighting in watch(self._settings.registry_uri, followed):
                await self._see(sighting)

    async def _see(self, sighting: Sighting) -> None:
        self.reachable = sighting.client is not None
        self.problem = str(sighting.problem) if sighting.problem else None
        if sighting.client is None:
            await self._fall_back(sighting)
            return
        self.last_seen = sighting.at
        for name, target in sighting.targets.items():
            endpoint = self._endpoints[name]
            if isinstance(target, RegistryError):
                self._note(endpoint, Failure(None, str(target), sighting.at))
            else:
                endpoint.stale = False
                self._aim(endpoint, Goal(target.version, client=sighting.client, target=target))

    async def _fall_back(self, sighting: Sighting) -> None:
        """The registry is away: what serves stays, and what never came up is taken from disk."""
        for endpoint in self._endpoints.values():
            if endpoint.split is not None or endpoint.name in self._goals:
                continue
            good = await in_thread(partial(self._known_good.read, str(endpoint.config.model)))
            if good is None:
                self._note(endpoint, Failure(None, str(sighting.problem), sighting.at))
            else:
                log.warning(
                    "registry away: starting from the last known good version",
                    extra={"endpoint": endpoint.name, "version": good.version.version},
                )
                endpoint.stale = True
                self._aim(endpoint, Goal(good.version, digest=good.digest))

    def _aim(self, endpoint: Endpoint, goal: Goal) -> None:
        before = self._goals.get(endpoint.name)
        self._goals[endpoint.name] = goal
        if goal.key == self._serving.get(endpoint.name):
            endpoint.last_error = None  # what is wanted is served: what failed is not wanted any more
        # The same version again, now from the registry itself, replaces a start from disk that has failed.
        if before is None or before.key != goal.key or (before.digest and not goal.digest):
            self._changed[endpoint.name].set()

    def _note(self, endpoint: Endpoint, failure: Failure) -> None:
        before = endpoint.last_error
        if before is not None and (before.message, before.version, failure.retry_in_s) == (failure.message, None, None):
            return  # still the same, since then
        if before is None or before.message != failure.message:
            log.warning("%s", failure.message, extra={"endpoint": endpoint.name, "version": failure.version or "-"})
        endpoint.last_error = failure

    # Following

    async def _follow(self, endpoint: Endpoint) -> None:
        """Bring up every new goal; a newer one supersedes one that is still on its way."""
        changed = self._changed[endpoint.name]
        retry = FIRST_RETRY_S
        while True:
            await changed.wait()
            changed.clear()
            goal = self._goals[endpoint.name]
            if goal.key == self._serving.get(endpoint.name):
                continue
            pause = retry * random.uniform(0.75, 1.25)
            if await self._superseded(endpoint, goal, pause):
                retry = FIRST_RETRY_S
            elif goal.key != self._serving.get(endpoint.name):
                retry = await self._pause(changed, pause, retry)
            else:
                retry = FIRST_RETRY_S

    async def _pause(self, changed: asyncio.Event, pause: float, retry: float) -> float:
        """Wait before the same goal is tried again, or until there is another; gives the next retry's length."""
        try:
            async with asyncio.timeout(pause):
                await changed.wait()
            return FIRST_RETRY_S
        except TimeoutError:
            changed.set()
            return min(retry * 2, LONGEST_RETRY_S)

    async def _superseded(self, endpoint: Endpoint, goal: Goal, pause: float) -> bool:
        """Work on *goal* until it serves or fails; True when it was given up for a newer one."""
        changed = self._changed[endpoint.name]
        work = asyncio.create_task(self._bring_up(endpoint, goal, pause))
        try:
            while not work.done():
                news = asyncio.create_task(changed.wait())
                await asyncio.wait({work, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if self._goals[endpoint.name].key != goal.key:
                    return not work.done()
                if not work.done():
                    changed.clear()
            return False
        finally:
            work.cancel()
            await asyncio.wait({work})
            endpoint.incoming = None

    async def _bring_up(self, endpoint: Endpoint, goal: Goal, pause: float) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        endpoint.incoming = Incoming(goal.label, goal.version.digest if goal.version else None)
        try:
            resolved = await self._fetch(endpoint, goal)
            incoming = endpoint.incoming = Incoming(resolved.label, resolved.digest)
            servable = await Servable.start(
                self._runtime, resolved, endpoint.config, lambda state: setattr(incoming, "state", state)
            )
        except Exception as problem:  # whatever it is, what serves goes on, and the cause can be read
            if not isinstance(problem, RegistryError | GatewayError | OSError):
                log.exception("unexpected", extra={"endpoint": endpoint.name, "version": goal.label})
            self._note(endpoint, Failure(goal.label, str(problem), datetime.now(UTC), pause))
            return
        self._swap(endpoint, servable, goal, int((loop.time() - begun) * 1000))
        await self._remember(endpoint, goal, resolved)

    async def _remember(self, endpoint: Endpoint, goal: Goal, resolved: Resolved) -> None:
        if goal.version is None or goal.digest is not None:
            return
        good = KnownGood(goal.version, resolved.digest)
        try:
            await in_thread(partial(self._known_good.write, str(endpoint.config.model), good))
        except OSError as problem:
            log.warning("the last known good set could not be written: %s", problem)

    async def _fetch(self, endpoint: Endpoint, goal: Goal) -> Resolved:
        """Verified files in the cache."""
        cache = self._settings.cache / "models"
        reference = endpoint.config.model
        alias = reference.alias if isinstance(reference, ModelUri) else None

        def fetch() -> Resolved:
            if goal.path is not None:
                path, digest = snapshot_directory(goal.path, cache)
            elif goal.digest is not None:
                path, digest = cached_model(cache, goal.digest), goal.digest
            else:
                assert goal.version is not None
                assert goal.client is not None
                path = fetch_model(goal.version, cache, goal.client)
                digest = goal.version.digest or f"sha256:{path.name}"
            return Resolved(path, digest, read_mlmodel(path), goal.version, alias)

        return await in_thread(fetch)

    def _swap(self, endpoint: Endpoint, servable: Servable, goal: Goal, took_ms: int) -> None:
        old = endpoint.split
        endpoint.split = Split(servable)  # the swap: every request that comes from here on goes to the new version
        endpoint.incoming = None
        self.epoch += 1
        if self.epoch == 1:
            _spare_the_collector()
        self.swapped.set()
        self._serving[endpoint.name] = goal.key
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
        log.info(
            "serving",
            extra={"endpoint": endpoint.name, "version": servable.resolved.label, "took_ms": took_ms},
        )
        if old is not None:
            endpoint.draining.append(old.primary)
            task = asyncio.create_task(self._retire(endpoint, old.primary))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def _retire(self, endpoint: Endpoint, servable: Servable) -> None:
        await servable.retire()
        endpoint.draining.remove(servable)
        log.info("retired", extra={"endpoint": endpoint.name, "version": servable.resolved.label})


def _spare_the_collector() -> None:
    """Keep what is alive now, libraries above all, out of later collections: going through it stops every request."""
    gc.collect()
    gc.freeze()
