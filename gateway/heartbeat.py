"""Tells a registry server of ours what this gateway serves, every few seconds and as soon as it changes.

It never disturbs serving: the event loop only describes, a daemon thread sends, and what cannot be sent is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import registry
from gateway.endpoints import Endpoint
from gateway.identity import gateway_id
from gateway.meters import BOUNDS_S, Meter
from registry import RegistryError, Reporting, public_uri

log = logging.getLogger("turnout.heartbeat")

INTERVAL_S = 5.0
SHORTEST_INTERVAL_S = 0.2  # however many models wake and sleep
MAX_ENDPOINTS = 500  # that a report tells of: those that sleep are left out first
EVERY_ADDRESS = {"0.0.0.0", "::"}

NO_VERSION = ""

Report = dict[str, Any]


async def beat(
    registry_uri: Callable[[], str | None], address: tuple[str, int], endpoints: Iterable[Endpoint], news: asyncio.Event
) -> None:
    """Report until cancelled; to a registry that is a database, nothing. Never raises for what the registry does.

    *registry_uri* gives the address in force. *news* is set when an endpoint changes, and cleared here.
    """
    host, port = _public_address(address)
    while True:
        uri = registry_uri()
        with _sender(uri, gateway_id(port)) as sender:
            while registry_uri() == uri:
                news.clear()
                if sender is not None:
                    sender.send(describe(f"http://{host}:{port}", endpoints))
                await asyncio.sleep(SHORTEST_INTERVAL_S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL_S):
                        await news.wait()


def describe(address: str, endpoints: Iterable[Endpoint]) -> Report:
    """One report: the endpoints as `/status` has them, and what each version has done since this process started."""
    everything = sorted(endpoints, key=lambda each: each.state == "idle")
    found = everything[:MAX_ENDPOINTS]
    meters = {each.name: _meters(each) for each in found}
    return {
        "address": address,
        "interval_s": INTERVAL_S,
        "endpoints": [each.as_json() for each in found],
        "endpoints_left_out": len(everything) - len(found),
        "counters": {name: {version: _counters(each) for version, each in of.items()} for name, of in meters.items()},
        "latency_bounds_s": list(BOUNDS_S),
        "latencies": {name: {version: _latencies(each) for version, each in of.items()} for name, of in meters.items()},
    }


def _meters(endpoint: Endpoint) -> dict[str, list[Meter]]:
    """By version, in whatever role: of those that serve or finish, and of none, for requests that found none."""
    known = {servable.resolved.label for servable, _ in endpoint.servables()} | {NO_VERSION}
    meters: dict[str, list[Meter]] = {}
    for version, _, meter in endpoint.meters:
        if version in known:
            meters.setdefault(version, []).append(meter)
    return meters


def _counters(meters: list[Meter]) -> dict[str, int]:
    requests = sum(sum(each.outcomes.values()) for each in meters)
    return {"requests": requests, "errors": requests - sum(each.outcomes.get("ok", 0) for each in meters)}


def _latencies(meters: list[Meter]) -> list[int]:
    return [sum(counts) for counts in zip(*(each.counts for each in meters), strict=True)]


def _public_address(address: tuple[str, int]) -> tuple[str, int]:
    host, port = address
    if host in EVERY_ADDRESS:
        return socket.gethostname(), port
    return (f"[{host}]" if ":" in host else host), port


@contextlib.contextmanager
def _sender(registry_uri: str | None, gateway_id: str) -> Iterator[_Sender | None]:
    """One whose thread runs while the block does; None for a database, which takes no reports."""
    if not public_uri(registry_uri).startswith(("http://", "https://")):
        yield None
        return
    sender = _Sender(registry_uri, gateway_id)
    threading.Thread(target=sender.run, name="heartbeat", daemon=True).start()
    try:
        yield sender
    finally:
        sender.send(None)


class _Sender:
    """The thread's side: sends the newest report there is, one at a time."""

    def __init__(self, registry_uri: str | None, gateway_id: str) -> None:
        self._registry_uri = registry_uri
        self._id = gateway_id
        self._reports: queue.Queue[Report | None] = queue.Queue(maxsize=1)
        self._client: registry.Registry | None = None
        self._problem = ""

    def send(self, report: Report | None) -> None:
        """Have this sent, instead of one that still waits; None ends the thread. Never blocks."""
        with contextlib.suppress(queue.Empty):
            self._reports.get_nowait()
        with contextlib.suppress(queue.Full):
            self._reports.put_nowait(report)

    def run(self) -> None:
        while (report := self._reports.get()) is not None:
            try:
                self._deliver(report)
                self._problem = ""
            except Exception as problem:  # also a stock MLflow server's refusal; whatever it is, the next may arrive
                if str(problem) != self._problem:
                    unexpected = None if isinstance(problem, RegistryError) else problem
                    log.info("no heartbeat: %s", problem, exc_info=unexpected)
                self._problem = str(problem)
        if self._client is not None:
            self._client.close()

    def _deliver(self, report: Report) -> None:
        if self._client is None:
            self._client = registry.connect(self._registry_uri, create=False)
        if isinstance(self._client, Reporting):
            self._client.report_gateway(self._id, report)
