"""Heartbeats of gateways: what is kept of them, and for how long."""

from __future__ import annotations

import httpx2
import pytest

from registry.errors import InvalidParameter
from registry.server import gateways
from registry.server.fields import Fields
from registry.server.gateways import Gateways
from tests.registry.serving import served

API = "/api/turnout/v1/gateways"
REPORT = {
    "address": "http://10.0.0.5:8080",
    "interval_s": 5,
    "endpoints": [{"name": "wine", "state": "serving", "versions": [{"version": "4", "share": 1.0}]}],
    "counters": {"wine": {"4": {"requests": 10, "errors": 1}}},
}


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 1_000_000_020.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def known(clock, sqlite_registry):
    """Puts and lists, without a socket."""
    kept = Gateways(clock)

    class Known:
        def put(self, name="a", **changes):
            return kept.put(sqlite_registry, Fields(REPORT | changes, path={"id": name}))

        def list(self):
            return kept.list(sqlite_registry, Fields({}))["gateways"]

    return Known()


@pytest.fixture
def client(sqlite_registry):
    with served(sqlite_registry) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}") as client:
        yield client


def test_a_heartbeat_is_listed(client):
    """What a gateway reports is listed with when it was last seen."""
    assert client.put(f"{API}/box:8080", json=REPORT).json() == {"expires_in_s": 15.0}

    (found,) = client.get(API).json()["gateways"]

    assert found["id"] == "box:8080"
    assert found["address"] == REPORT["address"]
    assert found["endpoints"] == REPORT["endpoints"]
    assert [each["counters"] for each in found["counters"]] == [REPORT["counters"]]
    assert found["last_seen"].endswith("Z")


def test_expires_after_three_missed_intervals(known, clock):
    """A gateway is listed for three intervals after its last report, and gone then."""
    known.put("quick", interval_s=1)
    known.put("slow", interval_s=20)

    clock.now += 3
    both = known.list()
    clock.now += 0.1
    one = known.list()

    assert [each["id"] for each in both] == ["quick", "slow"]
    assert [each["id"] for each in one] == ["slow"]


def test_newest_report_stands(known):
    """A second report replaces the first, and the counters of its minute."""
    known.put()
    known.put(address="http://other", counters={"wine": {"4": {"requests": 20}}})

    (found,) = known.list()

    assert found["address"] == "http://other"
    assert [each["counters"]["wine"]["4"] for each in found["counters"]] == [{"requests": 20}]


def test_an_hour_of_counters(known, clock):
    """Counters are kept once a minute, for an hour; a silence leaves a gap."""
    for number in range(90):
        known.put(counters={"wine": {"4": {"requests": number}}}, interval_s=60)
        clock.now += 60

    (found,) = known.list()
    kept = [each["counters"]["wine"]["4"]["requests"] for each in found["counters"]]

    assert kept == list(range(30, 90))


def test_bounds(known, monkeypatch):
    """Neither the number of gateways nor the memory for them grows without end; those that are known go on."""
    monkeypatch.setattr(gateways, "MAX_GATEWAYS", 2)
    known.put("a")
    known.put("b")

    with pytest.raises(InvalidParameter, match="the most"):
        known.put("c")
    known.put("a")

    monkeypatch.setattr(gateways, "MAX_KEPT_BYTES", 300)
    with pytest.raises(InvalidParameter, match="fill"):
        known.put("a")
    assert len(known.list()) == 2


@pytest.mark.parametrize(
    ("gateway_id", "changes"),
    [
        ("a%20b", {}),
        ("x" * 201, {}),
        ("a", {"interval_s": 0}),
        ("a", {"interval_s": 1e9}),
        ("a", {"interval_s": "5"}),
        ("a", {"endpoints": {}}),
        ("a", {"endpoints": ["wine"]}),
        ("a", {"counters": {"wine": {"4": {"requests": "many"}}}}),
        ("a", {"counters": []}),
        ("a", {"address": 7}),
        ("a", {"endpoints": [{"name": "x" * gateways.MAX_REPORT_BYTES}]}),
        ("a", {"endpoints_left_out": -1}),
        ("a", {"latency_bounds_s": [0.1, 0.1]}),
        ("a", {"latency_bounds_s": [-1.0]}),
        ("a", {"latency_bounds_s": [float(each) for each in range(1, 60)]}),
        ("a", {"latency_bounds_s": [0.1], "latencies": {"wine": {"4": [1]}}}),
        ("a", {"latency_bounds_s": [0.1], "latencies": {"wine": {"4": [1, 0.5]}}}),
    ],
)
def test_refusals(client, gateway_id, changes):
    """A report that is none, or too large, is refused as such and leaves nothing."""
    answer = client.put(f"{API}/{gateway_id}", json=REPORT | changes)

    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert client.get(API).json() == {"gateways": []}
