"""Gateways that report in: what each of their endpoints serves, and an hour of its counters, in memory.

Each server process knows the gateways that reported to it: behind a balancer, send a gateway to one process.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry.core import ServedRegistry
from registry.errors import InvalidParameter
from registry.names import shown
from registry.server.served import Served, served_by
from registry.server.transport import Fields, Handler

MAX_GATEWAYS = 1_000
MAX_REPORT_BYTES = 256 << 10
MAX_KEPT_BYTES = 64 << 20
KEPT_MINUTES = 60
MISSED_BEATS = 3
DEFAULT_INTERVAL_S = 5.0
LONGEST_INTERVAL_S = 300.0

_ID = re.compile(r"[A-Za-z0-9._:@\[\]-]{1,200}")

Counters = dict[str, dict[str, dict[str, int | float]]]


class Report(msgspec.Struct, frozen=True):
    """What a gateway says of itself; `counters` by endpoint and version, counted since it started."""

    address: str = ""
    interval_s: float = DEFAULT_INTERVAL_S
    endpoints: list[dict[str, Any]] = []
    counters: Counters = {}


@dataclass(slots=True)
class _Minute:
    number: int
    at: float
    counters: bytes


@dataclass(slots=True)
class _Known:
    last_seen: float = 0.0
    interval_s: float = DEFAULT_INTERVAL_S
    report: bytes = b"{}"
    minutes: deque[_Minute] = field(default_factory=deque)
    size: int = 0
    served: tuple[Served, ...] = ()

    def update(self, now: float, report: bytes, counters: bytes) -> None:
        """Replace the report, and this minute's counters; older ones than an hour go."""
        self.last_seen, self.report = now, report
        number = int(now // 60)
        if self.minutes and self.minutes[-1].number == number:
            self.minutes.pop()
        self.minutes.append(_Minute(number, now, counters))
        while self.minutes[0].number <= number - KEPT_MINUTES:
            self.minutes.popleft()
        self.size = len(report) + sum(len(each.counters) for each in self.minutes)


class Gateways:
    """Written by the handlers, which run on any thread; *clock* gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}

    def put(self, _registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
        """Take a heartbeat. It stands until three more are missed."""
        gateway_id = fields.text("id")
        if not _ID.fullmatch(gateway_id):
            raise InvalidParameter(f"invalid gateway id {shown(gateway_id)}: 1 to 200 letters, digits and . _ : @ -")
        report = _read(fields)
        endpoints = msgspec.json.encode({"address": report.address, "endpoints": report.endpoints})
        counters = msgspec.json.encode(report.counters)
        if len(endpoints) + len(counters) > MAX_REPORT_BYTES:
            raise InvalidParameter(f"a gateway's report may have {MAX_REPORT_BYTES} bytes, and this one has more")
        with self._lock:
            now = self._clock()
            self._forget_the_silent(now)
            known = self._room_for(gateway_id, len(endpoints) + len(counters))
            known.interval_s = report.interval_s
            known.update(now, endpoints, counters)
            known.served = served_by(gateway_id, report.address, report.endpoints)
        return {"expires_in_s": report.interval_s * MISSED_BEATS}

    def list(self, _registry: ServedRegistry, _fields: Fields) -> Mapping[str, Any]:
        """Every gateway that reported in lately, by id."""
        with self._lock:
            self._forget_the_silent(self._clock())
            return {"gateways": [_described(each, self._known[each]) for each in sorted(self._known)]}

    def serving(self, model: str) -> tuple[Served, ...]:
        """Each version of the model that a gateway serves, is bringing up or is letting go."""
        with self._lock:
            self._forget_the_silent(self._clock())
            return tuple(each for known in self._known.values() for each in known.served if each.model == model)

    def _forget_the_silent(self, now: float) -> None:
        silent = [id for id, each in self._known.items() if now - each.last_seen > each.interval_s * MISSED_BEATS]
        for each in silent:
            del self._known[each]

    def _room_for(self, gateway_id: str, size: int) -> _Known:
        known = self._known.get(gateway_id)
        if known is None and len(self._known) >= MAX_GATEWAYS:
            raise InvalidParameter(f"{MAX_GATEWAYS} gateways have reported in, which is the most this server keeps")
        kept = sum(each.size for each in self._known.values())
        if kept + size > MAX_KEPT_BYTES:
            raise InvalidParameter(f"the reports of {len(self._known)} gateways fill what this server keeps of them")
        return self._known.setdefault(gateway_id, _Known())


def routes(gateways: Gateways) -> Mapping[tuple[str, str], Handler]:
    """The two routes, below `/api/turnout/v1/`."""
    return {("PUT", "gateways/{id}"): gateways.put, ("GET", "gateways"): gateways.list}


def _read(fields: Fields) -> Report:
    given = {name: fields.raw(name) for name in Report.__struct_fields__ if fields.has(name)}
    try:
        report = msgspec.convert(given, Report)
    except msgspec.ValidationError as problem:
        raise InvalidParameter(f"this is no gateway's report: {problem}") from None
    if not 1 <= report.interval_s <= LONGEST_INTERVAL_S:
        raise InvalidParameter(f"interval_s must be between 1 and {LONGEST_INTERVAL_S:g}, got {report.interval_s:g}")
    return report


def _described(gateway_id: str, known: _Known) -> dict[str, Any]:
    return {
        "id": gateway_id,
        **msgspec.json.decode(known.report),
        "last_seen": _moment(known.last_seen),
        "interval_s": known.interval_s,
        "counters": [
            {"at": _moment(each.at), "counters": msgspec.json.decode(each.counters)} for each in known.minutes
        ],
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
