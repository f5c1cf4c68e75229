"""One endpoint on its way from version to version, with real replicas."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

import registry
from gateway.config import EndpointConfig
from gateway.endpoints import Endpoint
from gateway.following import Follower, Goal
from gateway.knowngood import KnownGood, KnownGoodSet
from gateway.memory import Memory
from gateway.routing import Routing
from gateway.runtimes.local import LocalRuntime
from tests.e2e.gateways import behaving


class SlowMembers:
    """Other processes that are told of a version, and go by it when they are let."""

    def __init__(self):
        self.told = asyncio.Event()
        self.confirmed = asyncio.get_running_loop().create_future()

    def announce(self, _epoch, _endpoint, _servable):
        self.told.set()
        return self.confirmed

    def configure(self, _settings):
        pass


@pytest.fixture
def model(tmp_path):
    registry.save_model(tmp_path / "model", behaving(1))
    return Goal(None, tmp_path / "model")


@contextlib.asynccontextmanager
async def following(tmp_path, **options):
    """A follower, the task that it runs in, and the other processes; what it serves is retired in the end."""
    async with LocalRuntime(tmp_path) as runtime:
        routing, endpoint = Routing(), Endpoint(EndpointConfig("m", Path("model"), **options))
        routing.members = members = SlowMembers()
        follower = Follower(endpoint, runtime, Memory(0), tmp_path, routing)
        task = asyncio.create_task(follower.run())
        yield follower, task, members
        task.cancel()
        await asyncio.wait({task})
        await follower.retire()


async def ticks():
    """Let everybody take note who need not wait for anything else."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_others_serve_is_served_though_another_goal_comes_as_they_confirm(tmp_path, model):
    """At that very moment, too: else its replicas would belong to nobody."""
    async with following(tmp_path) as (follower, _, members):
        follower.aim(model)
        await members.told.wait()

        members.confirmed.set_result(None)
        follower.aim(Goal(None, tmp_path / "nothing"))
        while follower.endpoint.last_error is None:
            await asyncio.sleep(0.01)

        assert follower.endpoint.split is not None


async def test_what_others_serve_is_served_before_a_follower_ends(tmp_path, model):
    """Also when it was giving a goal up already: whoever retires what it serves has all of it."""
    async with following(tmp_path) as (follower, task, members):
        follower.aim(model)
        await members.told.wait()

        for give_up in (lambda: follower.aim(Goal(None, tmp_path / "nothing")), task.cancel):
            give_up()
            await ticks()
        has_ended_before = task.done()
        members.confirmed.set_result(None)
        await asyncio.wait({task})

        assert not has_ended_before
        assert follower.endpoint.split is not None


async def test_what_another_follows_at_once_is_remembered(tmp_path, sqlite_registry):
    """It is what served last, also when the alias moved on at once, to something that does not load."""
    registry.log_model(behaving(1), name="m", registered_model_name="m", client=sqlite_registry)
    version = sqlite_registry.get_model_version("m", 1)
    known_good = KnownGoodSet(tmp_path, sqlite_registry.uri)

    async with following(tmp_path) as (follower, _, members):
        follower.aim(Goal(version, client=sqlite_registry, known_good=known_good))
        await members.told.wait()
        follower.aim(Goal(None, tmp_path / "nothing"))
        await ticks()
        members.confirmed.set_result(None)
        while follower.endpoint.last_error is None:
            await asyncio.sleep(0.01)

    assert known_good.read(str(follower.endpoint.config.model)) == KnownGood(version, version.digest)


async def test_what_was_put_to_sleep_wakes_without_the_registry(tmp_path, sqlite_registry):
    """Its files are in the cache, and their digest is known: making room must not end what would have gone on."""
    registry.log_model(behaving(1), name="m", registered_model_name="m", client=sqlite_registry)
    version = sqlite_registry.get_model_version("m", 1)

    async with following(tmp_path, keep_warm=False) as (follower, _, members):
        members.confirmed.set_result(None)
        follower.aim(Goal(version, client=sqlite_registry))
        await ticks()
        await follower.endpoint.awakened()
        follower.put_to_sleep()
        (tmp_path / "registry.db").rename(tmp_path / "away.db")

        await follower.endpoint.awakened()

        assert follower.endpoint.split is not None


async def test_a_request_for_a_sleeping_endpoint_waits_until_there_is_a_goal(tmp_path, model):
    """Another model was named for it, and nobody has looked yet what that is."""
    async with following(tmp_path, keep_warm=False) as (follower, _, members):
        members.confirmed.set_result(None)
        follower.aim(model)
        await ticks()
        follower.reconfigure(replace(follower.endpoint.config, model=Path("another")))

        waiting = asyncio.create_task(follower.endpoint.awakened())
        await ticks()
        follower.aim(model)

        await waiting
        assert follower.endpoint.split is not None
