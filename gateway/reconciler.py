"""The control path: makes what is served match what the registry and the configuration say.

It looks, and aims a follower for each endpoint at what it saw; the follower does the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime
from functools import partial
from pathlib import Path

from gateway.config import EndpointConfig, Settings
from gateway.endpoints import Endpoint, EndpointTable, Failure, isoformat
from gateway.following import Follower, Goal
from gateway.knowngood import KnownGoodSet
from gateway.memory import Memory
from gateway.routing import Routing
from gateway.runtimes.base import Runtime
from gateway.source import Sighting, references, watch
from gateway.threads import in_thread
from registry import RegistryError

log = logging.getLogger("turnout.reconciler")


class Reconciler:
    """Owns every endpoint's follower. `run` until cancelled, then `retire_all`."""

    def __init__(self, settings: Settings, endpoints: EndpointTable, runtime: Runtime) -> None:
        self.routing = Routing()
        self.settings = settings
        self.memory = Memory(settings.models_memory_bytes)
        self.reachable: bool | None = None
        self.last_seen: datetime | None = None
        self.problem: str | None = None
        self._endpoints = endpoints
        self._runtime = runtime
        self._followers: dict[str, Follower] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._reconfigured = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._take(settings)

    @property
    def registry_uri(self) -> str:
        return self.settings.public_registry_uri

    async def run(self) -> None:
        """Follow the registry until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.memory.watch(), name="memory")
            while True:
                self._reconfigured.clear()
                self._run_followers(group)
                self._looking = group.create_task(self._look(), name="look")
                await self._reconfigured.wait()

    def reconfigure(self, settings: Settings) -> None:
        """Go on by other settings: endpoints come, go and change, and nothing that stays loses a request."""
        is_same_question = _question(settings) == _question(self.settings)
        self._take(settings)
        if is_same_question:
            return
        if self._looking is not None:
            self._looking.cancel()  # at once: what it sees from here on is an answer to another question
        self._reconfigured.set()

    async def retire_all(self) -> None:
        """Drain and close everything that serves."""
        await asyncio.gather(*(each.retire() for each in self._followers.values()), *self._retiring)

    def registry_status(self) -> dict[str, object]:
        """The `registry` entry of `/status`."""
        return {
            "uri": self.registry_uri,
            "reachable": self.reachable,
            "last_seen": isoformat(self.last_seen) if self.last_seen else None,
            "problem": self.problem,
        }

    # Configuring

    def _take(self, settings: Settings) -> None:
        if settings.registry_uri != self.settings.registry_uri:
            for follower in self._followers.values():
                follower.forget()
        self.settings = settings
        self.memory.limit_bytes = settings.models_memory_bytes
        self._known_good = KnownGoodSet(settings.cache, self.registry_uri)
        wanted = {config.name: config for config in settings.endpoints}
        for name in self._followers.keys() - wanted.keys():
            self._remove(name)
        for name, config in wanted.items():
            if name in self._followers:
                self._followers[name].reconfigure(config)
            else:
                self._add(config)
        self._endpoints.replace(self._followers[name].endpoint for name in wanted)
        if self.routing.members is not None:
            self.routing.members.configure(settings)

    def _add(self, config: EndpointConfig) -> None:
        endpoint = Endpoint(config)
        follower = Follower(endpoint, self._runtime, self.memory, self.settings.cache, self.routing)
        self._followers[config.name] = follower
        self.memory.add(follower)

    def _remove(self, name: str) -> None:
        self.memory.remove(name)
        task = asyncio.create_task(self._dismiss(self._followers.pop(name), self._tasks.pop(name, None)))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _dismiss(self, follower: Follower, work: asyncio.Task[None] | None) -> None:
        if work is not None:
            work.cancel()
            await asyncio.wait({work})  # it may be handing over to another version
        await follower.retire()

    def _run_followers(self, group: asyncio.TaskGroup) -> None:
        for name, follower in self._followers.items():
            if name not in self._tasks:
                self._tasks[name] = group.create_task(follower.run(), name=f"follow {name}")

    # Looking

    async def _look(self) -> None:
        for follower in self._followers.values():
            model = follower.endpoint.config.model
            if isinstance(model, Path):
                follower.aim(Goal(None, model))
        followed = references([(name, each.endpoint.config.model) for name, each in self._followers.items()])
        if followed:
            async for sighting in watch(self.settings.registry_uri, followed, self.settings.poll_interval_s):
                await self._see(sighting, followed)

    async def _see(self, sighting: Sighting, followed: Iterable[str]) -> None:
        self.reachable = sighting.client is not None
        self.problem = str(sighting.problem) if sighting.problem else None
        if sighting.client is None:
            await self._fall_back(sighting, followed)
            return
        self.last_seen = sighting.at
        for name, target in sighting.targets.items():
            follower = self._followers[name]
            if isinstance(target, RegistryError):
                follower.note(Failure(None, str(target), sighting.at))
            else:
                follower.endpoint.stale = False
                follower.aim(Goal(target.version, client=sighting.client, target=target, known_good=self._known_good))

    async def _fall_back(self, sighting: Sighting, followed: Iterable[str]) -> None:
        """The registry is away: what serves stays, and what never came up is taken from disk."""
        for name in followed:
            follower = self._followers[name]
            endpoint = follower.endpoint
            if endpoint.split is not None or follower.goal is not None:
                continue
            good = await in_thread(partial(self._known_good.read, str(endpoint.config.model)))
            if good is None:
                follower.note(Failure(None, str(sighting.problem), sighting.at))
            else:
                log.warning(
                    "registry away: starting from the last known good version",
                    extra={"endpoint": endpoint.name, "version": good.version.version},
                )
                endpoint.stale = True
                follower.aim(Goal(good.version, digest=good.digest))


def _question(settings: Settings) -> object:
    """What is asked of which registry."""
    models = {each.name: each.model for each in settings.endpoints}
    return settings.registry_uri, settings.poll_interval_s, models
