"""Which models go to sleep when memory is short."""

import contextlib
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from gateway.config import EndpointConfig
from gateway.endpoints import Endpoint
from gateway.memory import Memory, Occupant, to_put_to_sleep
from gateway.split import Split

OCCUPANTS = st.lists(
    st.builds(Occupant, st.uuids().map(str), st.integers(0, 100), st.floats(0, 100), st.booleans()),
    unique_by=lambda occupant: occupant.name,
)


def test_the_least_recently_used_goes_first():
    """No more go than must."""
    occupants = [Occupant("b", 10, 2.0, True), Occupant("a", 10, 1.0, True), Occupant("c", 10, 3.0, True)]

    assert list(to_put_to_sleep(occupants, 20)) == ["a"]
    assert list(to_put_to_sleep(occupants, 19)) == ["a", "b"]
    assert list(to_put_to_sleep(occupants, 30)) == []


def test_what_may_not_go_is_passed_over():
    """A model in use stays, and the next one goes for it."""
    occupants = [Occupant("busy", 10, 1.0, False), Occupant("idle", 10, 2.0, True)]

    assert list(to_put_to_sleep(occupants, 10)) == ["idle"]


@given(OCCUPANTS, st.integers(0, 500))
def test_what_stays_is_within_the_limit_or_may_not_go(occupants, limit):
    """Whoever goes had to, and each of them may."""
    going = list(to_put_to_sleep(occupants, limit))
    staying = [each for each in occupants if each.name not in going]
    gone = [each for each in occupants if each.name in going]

    assert all(each.may_go for each in gone)
    assert sum(each.size for each in staying) <= limit or not any(each.may_go for each in staying)
    if gone:
        last = next(each for each in gone if each.name == going[-1])
        assert sum(each.size for each in staying) + last.size > limit
        assert all(each.last_used_s >= last.last_used_s for each in staying if each.may_go)


def endpoint(name):
    return Endpoint(EndpointConfig(name, Path("model"), keep_warm=False))


async def test_an_endpoint_may_come_again_before_the_one_before_has_gone():
    """A configuration file took it out and brought it back while it was being loaded."""
    memory = Memory(1)

    async with contextlib.AsyncExitStack() as again, memory.loading(endpoint("m")):
        await again.enter_async_context(memory.loading(endpoint("m")))


async def test_a_limit_that_is_lifted_during_a_load_puts_nobody_to_sleep():
    """There is room for all then."""
    memory, idle, asleep = Memory(10), endpoint("idle"), []
    replica = SimpleNamespace(memory_bytes=lambda: 1)
    idle.split = Split(SimpleNamespace(leases=0, replicas_up=(replica,)))
    memory.add(SimpleNamespace(endpoint=idle, put_to_sleep=lambda: asleep.append(idle)))
    async with memory.loading(idle):
        pass

    async with memory.loading(endpoint("m")):
        memory.limit_bytes = 0

    assert asleep == []
