"""Heartbeats: what a gateway tells a registry server of itself, and that nothing of it can hurt."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import threading
import time
from pathlib import Path
from typing import ClassVar

import httpx2
import pytest

from gateway import heartbeat
from gateway.config import EndpointConfig
from gateway.endpoints import Endpoint
from tests.registry.serving import served

SOON_S = 2.0  # well below the interval
ADDRESS = ("127.0.0.1", 8080)


@pytest.fixture
def url(sqlite_registry):
    with served(sqlite_registry) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture
def endpoint():
    return Endpoint(EndpointConfig("wine", Path("model")))


@contextlib.asynccontextmanager
async def beating(uri, endpoint):
    """Beats while the block runs; gives what to set at a swap. No thread is left over from another test."""
    assert await ended(senders())
    swapped = asyncio.Event()
    task = asyncio.create_task(heartbeat.beat(lambda: uri, ADDRESS, [endpoint], swapped))
    try:
        yield swapped
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()


async def known(url, is_meant=bool):
    """The gateways that a server knows, as soon as they are as meant."""
    give_up = time.monotonic() + SOON_S
    async with httpx2.AsyncClient(base_url=url) as client:
        while time.monotonic() < give_up:
            found = (await client.get("/api/turnout/v1/gateways")).json()["gateways"]
            if is_meant(found):
                return found
            await asyncio.sleep(0.02)
    raise AssertionError(found)


def senders():
    return [each for each in threading.enumerate() if each.name == "heartbeat"]


async def ended(threads):
    await asyncio.to_thread(lambda: [each.join(10) for each in threads])
    return not any(each.is_alive() for each in threads)


def test_reports_at_once_and_at_a_swap(url, endpoint):
    """A gateway is known as soon as it runs, and what it serves soon after a swap, not at the next interval."""

    async def scenario():
        async with beating(url, endpoint) as swapped:
            (first,) = await known(url)
            endpoint.stale = True
            swapped.set()
            (second,) = await known(url, lambda found: found[0]["endpoints"][0]["stale"])
            return first, second

    first, second = asyncio.run(scenario())

    assert first["address"] == "http://127.0.0.1:8080"
    assert first["interval_s"] == heartbeat.INTERVAL_S
    assert first["endpoints"] == [endpoint.as_json() | {"stale": False}]
    assert first["counters"][0]["counters"] == {"wine": {}}
    assert second["id"] == first["id"]


def test_ends_with_its_gateway(url, endpoint):
    """The sending thread ends when the heartbeat is cancelled."""

    async def scenario():
        async with beating(url, endpoint):
            await known(url)
            threads = senders()
        return threads, await ended(threads)

    threads, has_ended = asyncio.run(scenario())

    assert len(threads) == 1
    assert has_ended


def test_database_is_told_nothing(sqlite_registry, endpoint):
    """A registry that is a file has nobody to report to, and no thread tries."""

    async def scenario():
        async with beating(sqlite_registry.uri, endpoint):
            await asyncio.sleep(0)
            return senders()

    assert asyncio.run(scenario()) == []


def test_goes_on_after_what_nobody_expected(monkeypatch, url, endpoint, caplog):
    """As a proxy of the environment that is none: the next report is sent all the same."""
    monkeypatch.setenv("HTTP_PROXY", "nonsense://127.0.0.1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    caplog.set_level("INFO", "turnout.heartbeat")

    async def scenario():
        async with beating(url, endpoint) as swapped:
            while not caplog.messages:
                await asyncio.sleep(0.01)
            monkeypatch.delenv("HTTP_PROXY")
            swapped.set()
            return await known(url)

    assert len(asyncio.run(scenario())) == 1
    assert "nonsense" in caplog.messages[0]


class _NotOurs(http.server.BaseHTTPRequestHandler):
    """Answers as a server of MLflow's would, and keeps what it was asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self):
        self.asked.append(f"{self.command} {self.path.partition('?')[0]}")
        if self.path.startswith("/api/2.0/mlflow/"):
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
        else:
            self.send_error(404)

    do_PUT = do_GET

    def log_message(self, *_):
        pass


def test_a_server_of_mlflow_is_told_nothing(endpoint, monkeypatch):
    """A server that is not ours is asked once whether it is, and is sent nothing."""
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.05)

    async def scenario(uri):
        async with beating(uri, endpoint):
            while len(_NotOurs.asked) < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NotOurs) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asyncio.run(scenario(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()

    assert _NotOurs.asked == ["GET /api/turnout/v1/", "GET /api/2.0/mlflow/registered-models/search"]


def test_goes_on_when_nobody_answers(endpoint, monkeypatch, unused_port):
    """Without a server the heart beats on, and nothing is raised."""
    monkeypatch.setattr(heartbeat, "INTERVAL_S", 0.05)

    async def scenario():
        async with beating(f"http://127.0.0.1:{unused_port}", endpoint):
            await asyncio.sleep(0.3)
            return senders()

    assert len(asyncio.run(scenario())) == 1


@pytest.fixture
def unused_port():
    with http.server.HTTPServer(("127.0.0.1", 0), _NotOurs) as server:
        return server.server_port
