"""Looking at a registry: the thread that does it goes on, whatever happens to it."""

import asyncio
import contextlib
import threading
from queue import SimpleQueue

from gateway import source
from gateway.source import _Watcher
from registry import ModelUri, register_model
from registry.errors import NotFound

REFERENCES = {"wine": ModelUri.parse("models:/wine@champion")}
SOON_S = 1.0


@contextlib.asynccontextmanager
async def watching(uri):
    """Gives what waits for a sighting that is as meant, and gives that."""
    sightings = source.watch(uri, REFERENCES)

    async def sighting(is_meant):
        while not is_meant(found := await anext(sightings)):
            pass
        return found

    yield sighting
    await sightings.aclose()


def is_problem(sighting):
    return sighting.client is None


def is_seen(sighting):
    return sighting.client is not None


async def test_what_nobody_expected_is_told_and_it_looks_again(monkeypatch, our_server):
    """Here a proxy of the environment that is none, as nobody notices before the registry is a server."""
    monkeypatch.setattr(source, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("HTTP_PROXY", "nonsense://127.0.0.1")
    monkeypatch.delenv("NO_PROXY", raising=False)

    async with watching(our_server) as sighting:
        lost = await sighting(is_problem)
        monkeypatch.delenv("HTTP_PROXY")
        seen = await sighting(is_seen)

    assert "nonsense" in str(lost.problem)
    assert isinstance(seen.targets["wine"], NotFound)


async def test_a_second_absence_is_not_paid_for_by_the_first(monkeypatch, sqlite_registry, tmp_path):
    """The pauses between looks grow while a registry is away, and begin anew once it has been seen."""
    monkeypatch.setattr(source, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(source, "WAIT_S", 0.01)
    path, away = tmp_path / "registry.db", tmp_path / "away.db"

    async with watching(sqlite_registry.uri) as sighting:
        await sighting(is_seen)
        path.rename(away)
        for _ in range(11):
            await sighting(is_problem)
        away.rename(path)
        await sighting(is_seen)
        path.rename(away)
        await sighting(is_problem)
        async with asyncio.timeout(SOON_S):
            await sighting(is_problem)


class MovedAtOnce:
    """A registry whose alias moves on just after it was first resolved."""

    def __init__(self, registry):
        self._registry = registry
        self._has_moved = False

    def __getattr__(self, name):
        return getattr(self._registry, name)

    def resolve(self, uri):
        found = self._registry.resolve(uri)
        if not self._has_moved:
            self._has_moved = True
            self._registry.set_registered_model_alias("wine", "champion", 2, reason="second")
        return found


def test_a_version_comes_with_the_move_that_led_to_it(sqlite_registry, tmp_path):
    """Though the alias has moved on meanwhile: who moved it and why is told of each version."""
    (tmp_path / "MLmodel").write_text("flavors: {python_function: {}}")
    for _ in range(2):
        register_model(tmp_path, "wine", client=sqlite_registry)
    sqlite_registry.set_registered_model_alias("wine", "champion", 1, reason="first")
    sightings = SimpleQueue()
    watcher = _Watcher(lambda: MovedAtOnce(sqlite_registry), REFERENCES, sightings.put)

    thread = threading.Thread(target=watcher.run)
    thread.start()
    seen = [sightings.get(timeout=10).targets["wine"] for _ in range(2)]
    watcher.stop()
    thread.join()

    assert [(each.version.version, each.change.reason) for each in seen] == [("1", "first"), ("2", "second")]
