"""Requests that are refused when their headers are there, on real sockets: what else the connection can still do."""

import contextlib
import socket
import threading
import time

import pytest

from gateway.connections import PREDICTIONS_A_TURN, protocol_class
from gateway.errors import Overloaded
from gateway.wire import error_body
from tests.e2e.gateways import eventually
from tests.e2e.sockets import GET, SLOW, Server

POST = b"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
FULL = b"POST /full HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\nContent-Length: 5\r\n\r\n"


def refusal(url):
    return (Overloaded("it is full; try again", 7.5), error_body) if url == b"/full" else None


@pytest.fixture
def server():
    """Takes no POST to `/full`."""

    class Quick(protocol_class(1000, refusal)):
        HEADER_TIMEOUT_S = 1.0
        LINGER_S = 0.3
        SWEEP_S = 0.05

    with contextlib.closing(Server(Quick)) as server:
        yield server


def test_tf113_a_refusal_comes_before_the_body(server):
    """With the time to wait and the request's own id; the application hears nothing of it."""
    with server.connect() as client:
        client.send(FULL)

        found = client.head()

        assert found.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
        assert {b"retry-after: 8", b"x-request-id: mine", b"content-type: application/json"} <= set(
            found.split(b"\r\n")
        )
        assert b"connection: close" not in found
    assert server.application.asked == []


def test_a_refused_connection_goes_on_behind_the_body(server):
    """The bytes of the body are not taken for a request, come they late, in parts or together with the next."""
    with server.connect() as client:
        for parts in ([b"", b"12345"], [b"12", b"345"], [b"12345"], [b"", b"12345" + GET]):
            assert (
                client.ask(FULL + parts[0])
                == b'{"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "it is full; try again"}'
            )
            for part in parts[1:]:
                client.send(part)
        assert client.ask(b"") == b"hello"
        assert client.ask(POST % 3 + b"\r\nabc") == b"3"
    assert server.application.asked == ["GET /", "POST /count"]


@pytest.mark.parametrize("path", [b"/full", b"/answered-early"])
def test_a_connection_rests_as_long_after_a_refusal_as_after_an_answer(server, path):
    """Whoever comes back a little later must not meet its closing; of a next request's head the clock is its own."""
    with server.connect() as client:
        client.ask(FULL.replace(b"/full", path))
        client.send(b"12345")
        assert not client.is_closed_within(2.0)
        assert client.ask(GET) == b"hello"
        client.ask(FULL + b"12345")
        client.send(GET[:10])
        assert client.is_closed_within(3.0)


def test_a_refused_body_that_stays_away_or_is_large_ends_the_connection(server):
    """Late ones are not waited for, and reading large ones for nothing costs more than a connection."""
    with server.connect() as client:
        client.send(FULL)
        assert client.rest().startswith(b"HTTP/1.1 429")
    with server.connect() as client:
        client.send(FULL.replace(b"Length: 5", b"Length: 5000000") + b"a" * 1_000_000)
        answer = client.rest()
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"connection: close" in answer
        assert answer.endswith(b'"it is full; try again"}')


@pytest.mark.parametrize(
    "version", [b"HTTP/1.0", b"HTTP/1.1\r\nConnection: close", b"HTTP/1.1\r\nExpect: 100-continue"]
)
def test_a_refused_connection_that_cannot_go_on_is_closed(server, version):
    """One that asked for it, and one whose client may or may not send the body that it held back."""
    with server.connect() as client:
        client.send(FULL.replace(b"HTTP/1.1", version))

        answer = client.rest()

        assert answer.startswith(b"HTTP/1.1 429")
        assert b"connection: close" in answer


def test_behind_a_request_that_is_under_way_nothing_is_refused(server):
    """Answers keep the order of their requests, so the application decides in its turn."""
    with server.connect() as client:
        client.send(SLOW)
        eventually(lambda: server.application.slow == 1, "the first is under way")
        client.send(FULL + b"12345" + GET)
        assert not client.is_closed_within(0.5)
        server.loop.call_soon_threadsafe(server.application.go_on.set)
        assert [client.ask(b"") for _ in range(3)] == [b"hello"] * 3

    assert server.application.asked == ["GET /slow", "POST /full", "GET /"]


def test_tf113_a_probe_does_not_wait_for_a_flood(server):
    """What is ready together with hundreds of predictions, and came last, is among the first to be begun."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(300)]
        assert [client.ask() for client in clients] == [b"hello"] * 300
        probe = stack.enter_context(server.connect())
        probe.ask()
        server.application.asked.clear()
        server.loop.call_soon_threadsafe(time.sleep, 1.0)  # the loop is held up, and everything comes meanwhile
        for client in clients:
            client.send(POST % 3 + b"\r\nabc")
        assert probe.ask() == b"hello"
        assert [client.ask(b"") for client in clients] == [b"3"] * 300

    assert server.application.asked.count("POST /count") == 300
    assert server.application.asked.index("GET /") <= 2 * PREDICTIONS_A_TURN


def test_what_was_read_before_the_end_is_answered(server):
    """A graceful end asks every connection to close, also one that waits for its turn with a whole request."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(100)]
        assert [client.ask() for client in clients] == [b"hello"] * 100

        def end_all():
            for each in list(server.server_state.connections):
                each.shutdown()

        def hold_up():
            sent.wait(20)
            server.loop.call_soon(end_all)  # when all was read, and not yet begun

        sent = threading.Event()
        server.loop.call_soon_threadsafe(hold_up)
        for client in clients:
            client.send(POST % 3 + b"\r\nabc")
        sent.set()

        assert [client.ask(b"") for client in clients] == [b"3"] * 100
        assert all(client.is_closed_within(1.0) for client in clients)


def test_a_flood_that_leaves_while_it_waits_for_its_turn_harms_nobody(server):
    """Connections that are reset before they are heard are forgotten."""
    server.loop.call_soon_threadsafe(time.sleep, 0.5)
    for _ in range(200):
        with server.connect() as client:
            client.send(POST % 3 + b"\r\nabc")
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with server.connect() as client:
        assert client.ask() == b"hello"
        eventually(lambda: server.open_connections() == 1, "only this one is left")
