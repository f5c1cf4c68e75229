"""The change feed of a real `turnout server`, across its end and a new beginning."""

import contextlib
import json
import time

import pytest

from tests.e2e.servers import RegistryServer

CHANGES = "/api/turnout/v1/changes"
STREAM = {"accept": "text/event-stream"}


@pytest.fixture
def server(client, tmp_path):
    """A server on the registry of `client`."""
    with contextlib.closing(RegistryServer(tmp_path, f"sqlite:///{tmp_path}/turnout.db")) as server:
        yield server.ready()


@contextlib.contextmanager
def stream(server, headers=STREAM):
    with server.client.stream("GET", CHANGES, headers=headers) as answer:
        yield answer.iter_lines()


def value(lines, field):
    return next(line for line in lines if line.startswith(f"{field}: ")).partition(": ")[2]


def test_stop_is_not_held_by_streams(server, client):
    """A SIGTERM ends the server gracefully, and soon, though somebody listens; the stream ends as a whole answer."""
    with stream(server) as lines:
        value(lines, "id")
        began = time.monotonic()

        assert server.stop() == 0

        assert time.monotonic() - began < 10
        list(lines)


def test_stream_goes_on_after_a_restart(server, client, tmp_path):
    """What happened while the server was down, killed at that, is told to who resumes at the next one."""
    with stream(server) as lines:
        place = value(lines, "id")
    server.kill()
    client.create_registered_model("grape")

    resumed = STREAM | {"last-event-id": place}
    again = RegistryServer(tmp_path, client.uri, port=server.port)
    with contextlib.closing(again), stream(again.ready(), resumed) as lines:
        told = json.loads(value(lines, "data"))

    assert told == {"kind": "model", "name": "grape", "action": "created"}


def test_two_servers_on_one_registry(server, client, tmp_path):
    """A change that one server makes is told by another, and their cursors are the same."""
    with contextlib.closing(RegistryServer(tmp_path, client.uri)) as other, stream(other.ready()) as lines:
        value(lines, "id")
        body = {"name": "grape"}
        server.client.post("/api/2.0/mlflow/registered-models/create", json=body).raise_for_status()
        answered = time.monotonic()

        value(lines, "data")
        assert time.monotonic() - answered < 1
        assert value(lines, "id") == server.client.get(CHANGES).json()["cursor"]
