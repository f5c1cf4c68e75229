"""What each endpoint should serve, whenever it may have changed: the registry seen from the event loop.

The registry is synchronous, so one daemon thread looks at it, waits in it, and hands what it saw to the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import registry
from registry import AliasChange, ModelUri, ModelVersion, Registry, RegistryError

log = logging.getLogger("turnout.source")

WAIT_S = 2.0  # a wait ends at the latest then, so that a lost signal costs seconds, never correctness
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
RECENT_MOVES = 10


@dataclass(frozen=True, slots=True)
class Target:
    """What an endpoint should serve, and the alias's move that says so."""

    version: ModelVersion
    change: AliasChange | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One look at the registry. A target that is an error means: keep what is served, and say why."""

    at: datetime
    client: Registry | None = None  # None: the registry could not be reached
    problem: Exception | None = None
    targets: Mapping[str, Target | RegistryError] = field(default_factory=dict)


async def watch(
    uri: str | None, references: Mapping[str, ModelUri], poll_interval_s: float | None = None
) -> AsyncIterator[Sighting]:
    """Yield a sighting at once, and again whenever something may have changed.

    *poll_interval_s* is how often a registry is asked that can tell nobody of changes.
    """
    sightings: asyncio.Queue[Sighting] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def deliver(sighting: Sighting) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            loop.call_soon_threadsafe(sightings.put_nowait, sighting)

    watcher = _Watcher(
        partial(registry.connect, uri, create=False, poll_interval_s=poll_interval_s), references, deliver
    )
    threading.Thread(target=watcher.run, name="watch", daemon=True).start()
    try:
        while True:
            yield await sightings.get()
    finally:
        watcher.stop()


class _Watcher:
    """The thread's side."""

    def __init__(
        self,
        connect: Callable[[], Registry],
        references: Mapping[str, ModelUri],
        deliver: Callable[[Sighting], None],
    ) -> None:
        self._connect = connect
        self._references = references
        self._deliver = deliver
        self._stopped = threading.Event()
        self._client: Registry | None = None
        self._seen: dict[str, Target | RegistryError] = {}
        self._problem: str | None = None
        self._pause_s = FIRST_PAUSE_S

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                if self._client is None:
                    self._client = self._connect()
                self._follow(self._client)
            except Exception as problem:  # whatever it is, the next look may succeed, and nobody else looks
                self._lost(problem)
                self._stopped.wait(self._pause_s * random.uniform(0.5, 1.0))
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        if self._client is not None:
            self._client.close()

    def _follow(self, client: Registry) -> None:
        cursor = client.cursor()
        self._look(client)
        while not self._stopped.is_set():
            changed = client.wait(cursor, WAIT_S)
            if changed == cursor:
                self._tell(client)  # still there, nothing new
            else:
                cursor = changed
                self._look(client)

    def _look(self, client: Registry) -> None:
        self._seen = {name: self._resolve(client, name, uri) for name, uri in self._references.items()}
        self._tell(client)

    def _tell(self, client: Registry) -> None:
        if self._problem is not None:
            log.info("registry reachable again")
            self._problem = None
            self._pause_s = FIRST_PAUSE_S
        self._deliver(Sighting(datetime.now(UTC), client, None, self._seen))

    def _resolve(self, client: Registry, name: str, uri: ModelUri) -> Target | RegistryError:
        before = self._seen.get(name)
        if uri.alias is None and isinstance(before, Target):
            return before  # a number, or what was the latest at the start, is not followed
        try:
            version = client.resolve(uri)
        except registry.Unavailable:
            raise
        except RegistryError as problem:
            return problem
        if isinstance(before, Target) and before.version.key == version.key:
            return before
        if uri.alias is None:
            return Target(version)
        return Target(version, _move_to(client, version, uri.alias))

    def _lost(self, problem: Exception) -> None:
        if str(problem) != self._problem:
            unexpected = None if isinstance(problem, RegistryError) else problem
            log.warning("registry not reachable: %s", problem, exc_info=unexpected)
            self._problem = str(problem)
        self._deliver(Sighting(datetime.now(UTC), None, problem))


def _move_to(client: Registry, version: ModelVersion, alias: str) -> AliasChange | None:
    """The move that led to the version; the alias may have moved on since. None where no history is kept."""
    try:
        moves = client.get_alias_history(version.name, alias, max_results=RECENT_MOVES)
    except registry.Unavailable:
        raise
    except RegistryError:  # a stock MLflow server
        return None
    return next((each for each in moves if each.to_version == version.version), None)


def references(models: Sequence[tuple[str, object]]) -> dict[str, ModelUri]:
    """Of (endpoint, model) pairs those that a registry resolves."""
    return {name: model for name, model in models if isinstance(model, ModelUri)}
