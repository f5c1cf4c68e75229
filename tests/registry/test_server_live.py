"""The stream that pages listen to."""

import httpx2
import pytest

from registry.server import live
from tests.registry.serving import served

SOON_S = 10.0


@pytest.fixture
def client(sqlite_registry):
    with served(sqlite_registry) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}") as client:
        yield client


def test_who_reports_while_others_are_told_is_told_of_too(client, monkeypatch):
    """Pages look when they are told, and what comes after that look is no part of it."""
    monkeypatch.setattr(live, "REFRESH_S", 60.0)
    monkeypatch.setattr(live, "BREATH_S", 0.5)

    with client.stream("GET", live.PATH, timeout=SOON_S) as stream:
        told = (line for line in stream.iter_lines() if line == "event: gateways")
        next(told)
        for address in ("http://a:1", "http://b:1"):
            report = {"address": address, "interval_s": 5, "endpoints": [], "counters": {}}
            client.put("/api/turnout/v1/gateways/box:8080", json=report).raise_for_status()
            next(told)
