"""More than a gateway can do: what it takes, what it refuses at once, and that it is heard meanwhile."""

import asyncio
import contextlib
import json
import select
import socket
import threading

import pytest
import uvloop

from gateway.http import ACCEPTS_A_TURN, several
from tests.e2e.gateways import eventually
from tests.e2e.sockets import Client

HEAD = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def connect(gateway):
    return contextlib.closing(Client((gateway.client.base_url.host, gateway.client.base_url.port)))


@pytest.fixture
def busy():
    """Let so many requests sleep at a gateway; they are waited for in the end."""
    threads = []

    def busy(gateway, requests, seconds=2):
        for _ in range(requests):
            threads.append(threading.Thread(target=gateway.ask, args=(f"sleep {seconds}",)))
            threads[-1].start()
        metric = f'turnout_requests_in_flight{{endpoint="m"}} {requests}.0'
        eventually(lambda: metric in gateway.client.get("/metrics").text, "they are under way")

    yield busy
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("path", [b"/invocations", b"/endpoints/m/invocations?x=1", b"/v2/models/m/infer"])
def test_tf113_a_full_line_is_refused_without_its_body(champion, serve, busy, path):
    """429 in the protocol's own shape, with a time that means something, and counted; other routes answer."""
    gateway = serve("--max-queue", "0").ready()
    gateway.ask("sleep 0.5")  # it is known to be slow: nothing is sent ahead to its replica
    busy(gateway, 1)

    with connect(gateway) as client:
        problem = json.loads(client.ask(HEAD % (path, 100)))

    assert problem["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert "has 0 requests waiting, of max_queue 0; it would take about" in problem["message"]
    assert ("error" in problem) is path.startswith(b"/v2")
    assert gateway.client.get("/ping").status_code == 200
    assert 'outcome="overloaded",role="primary",version="1"} 1.0' in gateway.client.get("/metrics").text
    assert gateway.client.get("/metrics").text.count("about 0 ms") == 0


def test_no_more_predictions_than_the_gateway_may_have(champion, serve, busy):
    """Over all its endpoints; health, status and metrics are not counted, and afterwards everything is as before."""
    gateway = serve("--max-concurrency", "3", models=("models:/m@champion", "other=models:/m/1")).ready()
    ask = [threading.Thread(target=gateway.ask, args=("sleep 2", "/endpoints/m/invocations")) for _ in range(3)]
    for each in ask:
        each.start()
    eventually(lambda: 'requests_in_flight{endpoint="m"} 3.0' in gateway.client.get("/metrics").text, "three")

    answers = [gateway.ask(path=f"/endpoints/{name}/invocations") for name in ("m", "other", "%6f%74her")]

    assert [each.status_code for each in answers] == [429] * 3
    assert all("3 predictions are under way, of max_concurrency 3" in each.json()["message"] for each in answers)
    assert all(each.headers["Retry-After"] == "1" for each in answers)
    assert [gateway.client.get(path).status_code for path in ("/ping", "/status", "/version")] == [200] * 3
    for each in ask:
        each.join()
    assert gateway.ask(path="/endpoints/other/invocations").status_code == 200


def test_bodies_have_a_bound_together(champion, serve):
    """Of senders that never finish, one too many is refused; when they are gone, there is room again."""
    gateway = serve("--max-body", "1KiB").ready()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(gateway)) for _ in range(17)]
        for client in clients:
            client.send(HEAD % (b"/invocations", 1024) + b" " * 1000)

        heard, _, _ = select.select([client.socket for client in clients], [], [], 20)

        answer = next(client for client in clients if client.socket in heard).rest()
        assert len(heard) == 1
        assert answer.startswith(b"HTTP/1.1 429")
        assert b"connection: close" in answer
        assert b"may have 16384 bytes together" in answer
        assert gateway.client.get("/ping").status_code == 200
    eventually(lambda: gateway.ask("x" * 500).status_code == 200, "they are gone")


def test_tf113_a_flood_of_requests_is_answered_or_refused(champion, serve):
    """Each of many at once gets a prediction or a 429 with Retry-After, and probes beside them all succeed."""
    gateway = serve("--max-queue", "20").ready()
    body = json.dumps({"dataframe_records": [{"do": "sleep 0.01"}]}).encode()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(gateway)) for _ in range(200)]
        for client in clients:
            client.send(HEAD % (b"/invocations", len(body)) + body)
        probes = [gateway.client.get(path).status_code for path in ("/ping", "/status", "/metrics")]
        heads = [client.head() for client in clients]

    statuses = [int(head.split()[1]) for head in heads]
    assert probes == [200] * 3
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 20
    assert all(b"retry-after: 1\r\n" in head for head in heads if head.split()[1] == b"429")
    assert gateway.ask().status_code == 200


def test_tf083_new_connections_are_accepted_many_at_a_time():
    """A probe behind hundreds of new connections does not wait for a turn of the loop for each of them."""
    turns, accepted = 0, []

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.append(turns)
            transport.abort()

    async def scenario():
        nonlocal turns
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=500))
            servers = [await loop.create_server(Accepting, sock=each, backlog=500) for each in several(listener)]
            for _ in range(320):
                stack.enter_context(socket.create_connection(listener.getsockname()))
            while len(accepted) < 320:
                turns += 1
                await asyncio.sleep(0)
            for server in servers:
                server.close()
                await server.wait_closed()

    uvloop.run(scenario())
    assert accepted[-1] - accepted[0] <= 2 * 320 / ACCEPTS_A_TURN
