"""A gateway whose registry is a server: ours is followed by its change feed, MLflow's own by looking again."""

import contextlib
import time

import pytest

import registry
from tests.e2e.gateways import Gateway, behaving, eventually
from tests.e2e.servers import RegistryServer

SEEN_WITHIN_S = 0.1


@pytest.fixture
def server(tmp_path):
    """Our registry server as a process of its own."""
    with contextlib.closing(RegistryServer(tmp_path, f"sqlite:///{tmp_path}/turnout.db")) as server:
        yield server.ready()


@pytest.fixture
def client(server):
    """Its client, with two versions of `m`, the first of which is the champion."""
    with contextlib.closing(registry.connect(server.url, actor="ana")) as client:
        for number in (1, 2):
            registry.log_model(behaving(number), name="m", registered_model_name="m", client=client)
        client.set_registered_model_alias("m", "champion", 1)
        yield client


@pytest.fixture
def serve(tmp_path):
    """Start gateways on the champion of a server; all are gone at the end of the test."""
    started = []

    def serve(uri, **attributes):
        arguments = ["-m", "models:/m@champion", "--registry-uri", uri, "--cache", str(tmp_path / "cache")]
        started.append(Gateway(tmp_path, arguments, **attributes))
        return started[-1]

    yield serve
    for gateway in started:
        gateway.close()


def test_a_move_is_seen_within_100_ms(server, client, serve):
    """The gateway knows of a move at once, and says by whom it was made."""
    gateway = serve(server.url).ready()
    gateway.serves(1)
    delays = []

    for version in (2, 1, 2, 1, 2):
        client.set_registered_model_alias("m", "champion", version, reason="better")
        moved = time.monotonic()
        while not any(row["version"] == str(version) for row in gateway.status()["versions"]):
            assert time.monotonic() - moved < 10
        delays.append(time.monotonic() - moved)
        gateway.serves(version)
    assert "HTTP Request" not in gateway.log()  # one line for each look would bury what matters

    assert sorted(delays)[len(delays) // 2] < SEEN_WITHIN_S, delays
    assert gateway.ask().json() == {"predictions": [2]}
    assert gateway.status()["last_change"]["by"] == "ana"
    assert gateway.status()["last_change"]["reason"] == "better"


def test_a_gateway_outlives_its_server(tmp_path, server, client, serve):
    """While the server is away the gateway serves on; when it is back, moves are followed again."""
    gateway = serve(server.url).ready()
    server.kill()
    eventually(lambda: not gateway.client.get("/status").json()["registry"]["reachable"], "the server is missed")
    assert gateway.ask().json() == {"predictions": [1]}

    with contextlib.closing(RegistryServer(tmp_path, f"sqlite:///{tmp_path}/turnout.db", port=server.port)) as again:
        again.ready()
        client.set_registered_model_alias("m", "champion", 2)
        gateway.serves(2)

    assert gateway.ask().json() == {"predictions": [2]}
