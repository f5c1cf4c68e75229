"""What members count, added to what the leader counts: one gateway, one set of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.endpoints import Endpoint, EndpointTable
from gateway.servable import Servable

Json = dict[str, Any]


def taken(endpoints: Iterable[Endpoint], servables: Mapping[int, Servable], since_s: float) -> Json:
    """What was counted since the last time, which was at *since_s*, as the member says it."""
    return {
        "endpoints": {each.name: _of_endpoint(each) for each in endpoints if _is_news(each, since_s)},
        "servables": [
            [identity, *each.take_counts(), each.leases, each.waiting] for identity, each in servables.items()
        ],
    }


def _is_news(endpoint: Endpoint, since_s: float) -> bool:
    return endpoint.last_used_s >= since_s or any(meter.outcomes for _, _, meter in endpoint.meters)


def _of_endpoint(endpoint: Endpoint) -> Json:
    rows = [[version, role, *meter.take()] for version, role, meter in endpoint.meters if meter.outcomes]
    return {"last_used_s": endpoint.last_used_s, "meters": rows}


def add(used: Json, member: object, endpoints: EndpointTable, servables: Mapping[int, Servable]) -> None:
    """Count it here, as the leader hears it."""
    for name, row in used["endpoints"].items():
        endpoint = endpoints.find(name)
        if endpoint is not None:
            endpoint.last_used_s = max(endpoint.last_used_s, row["last_used_s"])
            for version, role, *numbers in row["meters"]:
                endpoint.meters.of(version, role).add(*numbers)
    for identity, requests, errors, calls, leases, waiting in used["servables"]:
        if identity in servables:
            servables[identity].add_counts(requests, errors, calls)
            servables[identity].elsewhere[member] = leases, waiting
