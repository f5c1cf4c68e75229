"""Bodies that come too slowly, or are too much together; the clock is moved by hand."""

import asyncio

import pytest

from gateway.admission import Admission
from gateway.bodies import IDLE_TIMEOUT_S, MIN_BYTES_PER_S, read_body
from gateway.config import EndpointConfig, Settings
from gateway.deadlines import own_deadline
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import BodyStalled, DeadlineExceeded, Overloaded, PayloadTooLarge

MAX_BYTES = 1 << 20


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time can be moved."""

    ahead_s = 0.0

    def time(self):
        return super().time() + self.ahead_s


class Sender:
    """Sends *parts*, each after a pause."""

    def __init__(self, parts, pause_s):
        self.parts, self.pause_s = list(parts), pause_s

    async def receive(self):
        asyncio.get_running_loop().ahead_s += self.pause_s
        for _ in range(3):
            await asyncio.sleep(0)  # timers have their turn
        part = self.parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(self.parts)}


def read(parts, pause_s, patience=None, max_bytes=MAX_BYTES):
    """The body and the admission that it was counted by."""
    admission = Admission(EndpointTable([]), lambda: Settings((), max_body_bytes=max_bytes))
    endpoint = Endpoint(EndpointConfig("m", None))

    async def scenario():
        own = own_deadline(patience, asyncio.get_running_loop().time())
        with admission.place(endpoint) as place:
            body = await read_body(Sender(parts, pause_s).receive, None, max_bytes, place, own)
            assert (admission.predictions, admission.held_bytes) == (1, len(body))
        return body

    try:
        with asyncio.Runner(loop_factory=Clock) as runner:
            return runner.run(scenario())
    finally:
        assert (admission.predictions, admission.held_bytes) == (0, 0)


def test_a_body_may_take_as_long_as_it_comes_at_a_pace():
    """Twenty pauses of nearly the time for silence, and enough behind each."""
    part = b"a" * int(IDLE_TIMEOUT_S * MIN_BYTES_PER_S)

    assert read([part] * 20, IDLE_TIMEOUT_S - 1) == part * 20


@pytest.mark.parametrize(("size", "pause_s"), [(1, 19.0), (100, 1.0), (1000, 1.0), (10_000, 21.0)])
def test_tf082_a_body_that_trickles_or_stalls_is_ended(size, pause_s):
    """A byte now and then is not enough, and no amount makes up for a long silence."""
    with pytest.raises(BodyStalled, match="slower than 1024 bytes a second"):
        read([b"a" * size] * 2000, pause_s)


def test_a_body_is_waited_for_no_longer_than_its_client_waits():
    """The request's own deadline is over before the body is there; the connection cannot be used again."""
    with pytest.raises(DeadlineExceeded) as raised:
        read([b"a" * 5000] * 10, 1.0, patience=b"5s")

    assert raised.value.closes_connection


def test_tf077_a_body_without_end_is_ended_at_the_limit():
    """Parts are counted, whatever was announced."""
    with pytest.raises(PayloadTooLarge):
        read([b"a" * 1000] * 2000, 0.0)


def test_bodies_are_bounded_together():
    """What would be too much is refused, and what was counted of it is given back."""
    admission = Admission(EndpointTable([]), lambda: Settings((), max_body_bytes=100))
    endpoint = Endpoint(EndpointConfig("m", None))
    with admission.place(endpoint) as first, admission.place(endpoint) as second:
        first.hold(1500)
        second.hold(100)
        with pytest.raises(Overloaded, match="1600 bytes together"):
            second.hold(1)
    assert admission.held_bytes == 0
