"""Gateways that report in: what each of their endpoints serves, and an hour of its counters, in memory.

The processes of one server hand each other what they are told; servers on several hosts do not.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from registry.core import ServedRegistry
from registry.errors import InvalidParameter
from registry.names import shown
from registry.server.fields import Fields
from registry.server.history import KEPT_MINUTES, MINUTE_S, MOST, Count, History, Place, Slot
from registry.server.reports import Endpoint, read_endpoints, served_by
from registry.server.served import Served
from registry.server.transport import Handler

MAX_GATEWAYS = 1_000
MAX_REPORT_BYTES = 512 << 10
MAX_KEPT_BYTES = 64 << 20
MAX_BOUNDS = 40
PARSED_BYTES = 500  # about what an endpoint or a version takes once it is read
MISSED_BEATS = 3
DEFAULT_INTERVAL_S = 5.0
LONGEST_INTERVAL_S = 300.0

_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:@\[\]-]{1,200}")

Counters = dict[str, dict[str, dict[str, int | float]]]


class Report(msgspec.Struct, frozen=True):
    """What a gateway says of itself; `counters` and `latencies` by endpoint and version, counted since it started.

    A version's latencies are how many predictions took as long as each of `latency_bounds_s` and no longer, one by
    one, and then how many took longer.
    """

    address: str = ""
    interval_s: float = DEFAULT_INTERVAL_S
    endpoints: list[dict[str, Any]] = []
    endpoints_left_out: int = 0
    counters: Counters = {}
    latency_bounds_s: list[float] = []
    latencies: dict[str, dict[str, list[int]]] = {}


@dataclass(frozen=True, slots=True)
class Gateway:
    """One gateway as it was last heard of."""

    id: str
    address: str
    last_seen: datetime
    is_gone: bool
    endpoints: tuple[Endpoint, ...]
    left_out: int
    bounds_s: tuple[float, ...]

    def endpoint(self, name: str) -> Endpoint | None:
        return next((each for each in self.endpoints if each.name == name), None)


@dataclass(slots=True)
class _Minute:
    number: int
    at: float
    counters: bytes


@dataclass(slots=True)
class _Known:
    last_seen: float = 0.0
    interval_s: float = DEFAULT_INTERVAL_S
    address: str = ""
    left_out: int = 0
    bounds_s: tuple[float, ...] = ()
    described: bytes = b"{}"
    endpoints: tuple[Endpoint, ...] = ()
    minutes: deque[_Minute] = field(default_factory=deque)
    history: History = field(default_factory=History)
    size: int = 0

    def update(self, now: float, report: Report, described: bytes, counters: bytes) -> None:
        """Replace the report, and this minute's counters; older ones than an hour go."""
        self.last_seen, self.interval_s, self.address = now, report.interval_s, report.address
        self.left_out, self.bounds_s = report.endpoints_left_out, tuple(report.latency_bounds_s)
        if self.described != described:
            self.described, self.endpoints = described, read_endpoints(report.endpoints)
        number = int(now // MINUTE_S)
        if self.minutes and self.minutes[-1].number == number:
            self.minutes.pop()
        self.minutes.append(_Minute(number, now, counters))
        while self.minutes[0].number <= number - KEPT_MINUTES:
            self.minutes.popleft()
        self.history.take(now, _totals(report))
        parsed = sum(1 + len(each.versions) for each in self.endpoints) * PARSED_BYTES
        counters_kept = sum(len(each.counters) for each in self.minutes)
        self.size = len(described) + parsed + counters_kept + self.history.size

    def is_gone(self, now: float) -> bool:
        return now - self.last_seen > self.interval_s * MISSED_BEATS


class Gateways:
    """Written by the handlers, which run on any thread; *clock* gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._noticed: Callable[[], None] = _nobody
        self._told: Callable[[bytes], None] = _nobody

    def follow(self, noticed: Callable[[], None]) -> None:
        """Have *noticed* called, on any thread, whenever a gateway reports something else than before."""
        self._noticed = noticed

    def share(self, tell: Callable[[bytes], None]) -> None:
        """Have *tell* called with every report; what it is given is for another process's `hear`."""
        self._told = tell

    def put(self, _registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
        """Take a heartbeat. It stands until three more are missed."""
        gateway_id = fields.text("id")
        if not _ID.fullmatch(gateway_id):
            raise InvalidParameter(f"invalid gateway id {shown(gateway_id)}: 1 to 200 letters, digits and . _ : @ -")
        report = _read(fields)
        self._keep(gateway_id, report)
        self._told(msgspec.json.encode((gateway_id, report)))
        return {"expires_in_s": report.interval_s * MISSED_BEATS}

    def hear(self, message: bytes) -> None:
        """Take a heartbeat that another process of this server was given, unless it is too much here."""
        with contextlib.suppress(InvalidParameter):
            self._keep(*msgspec.json.decode(message, type=tuple[str, Report]))

    def list(self, _registry: ServedRegistry, _fields: Fields) -> Mapping[str, Any]:
        """Every gateway that reported in lately, by id."""
        with self._lock:
            now = self._clock()
            return {
                "gateways": [_described(id, each) for id, each in sorted(self._known.items()) if not each.is_gone(now)]
            }

    def seen(self) -> Sequence[Gateway]:
        """Every gateway of the last hour, by id; those that stopped reporting are marked."""
        with self._lock:
            now = self._clock()
            self._forget_the_old(now)
            return [_view(id, each, now) for id, each in sorted(self._known.items())]

    def get(self, gateway_id: str) -> Gateway | None:
        with self._lock:
            known = self._known.get(gateway_id)
            return None if known is None else _view(gateway_id, known, self._clock())

    def slots(self, gateway_id: str, endpoint: str) -> Sequence[Slot]:
        """The endpoint's last hour, oldest first."""
        with self._lock:
            known = self._known.get(gateway_id)
            return [] if known is None else known.history.slots(endpoint)

    def serving(self, model: str) -> tuple[Served, ...]:
        """Each version of the model that a gateway serves, is bringing up or is letting go."""
        with self._lock:
            now = self._clock()
            return tuple(
                one
                for id, known in self._known.items()
                if not known.is_gone(now)
                for one in served_by(id, known.address, (each for each in known.endpoints if each.model == model))
            )

    def _keep(self, gateway_id: str, report: Report) -> None:
        described = msgspec.json.encode({"address": report.address, "endpoints": report.endpoints})
        counters = msgspec.json.encode(report.counters)
        if len(described) + len(counters) + len(msgspec.json.encode(report.latencies)) > MAX_REPORT_BYTES:
            raise InvalidParameter(f"a gateway's report may have {MAX_REPORT_BYTES} bytes, and this one has more")
        with self._lock:
            now = self._clock()
            self._forget_the_old(now)
            known = self._room_for(gateway_id, len(described) + len(counters), now)
            is_news = known.described != described or known.is_gone(now)
            known.update(now, report, described, counters)
        if is_news:
            self._noticed()

    def _forget_the_old(self, now: float) -> None:
        old = [id for id, each in self._known.items() if now - each.last_seen > KEPT_MINUTES * MINUTE_S]
        for each in old:
            del self._known[each]

    def _room_for(self, gateway_id: str, size: int, now: float) -> _Known:
        """Where the gateway's report goes. Those that are gone make room for those that report."""
        gone = sorted(
            (id for id, each in self._known.items() if each.is_gone(now)), key=lambda id: self._known[id].last_seen
        )
        is_new = gateway_id not in self._known
        kept = sum(each.size for each in self._known.values())
        while (len(self._known) + is_new > MAX_GATEWAYS or kept + size > MAX_KEPT_BYTES) and gone:
            if gone[0] != gateway_id:
                kept -= self._known.pop(gone[0]).size
            del gone[0]
        if len(self._known) + is_new > MAX_GATEWAYS:
            raise InvalidParameter(f"{MAX_GATEWAYS} gateways have reported in, which is the most this server keeps")
        if kept + size > MAX_KEPT_BYTES:
            raise InvalidParameter(f"the reports of {len(self._known)} gateways fill what this server keeps of them")
        return self._known.setdefault(gateway_id, _Known())


def routes(gateways: Gateways) -> Mapping[tuple[str, str], Handler]:
    """The two routes, below `/api/turnout/v1/`."""
    return {("PUT", "gateways/{id}"): gateways.put, ("GET", "gateways"): gateways.list}


def _nobody(*_: object) -> None:
    pass


def _read(fields: Fields) -> Report:
    given = {name: fields.raw(name) for name in Report.__struct_fields__ if fields.has(name)}
    try:
        report = msgspec.convert(given, Report)
    except msgspec.ValidationError as problem:
        raise InvalidParameter(f"this is no gateway's report: {problem}") from None
    if not 1 <= report.interval_s <= LONGEST_INTERVAL_S:
        raise InvalidParameter(f"interval_s must be between 1 and {LONGEST_INTERVAL_S:g}, got {report.interval_s:g}")
    if not 0 <= report.endpoints_left_out <= MOST:
        raise InvalidParameter(f"endpoints_left_out must be a count, got {report.endpoints_left_out}")
    _check_latencies(report)
    return report


def _check_latencies(report: Report) -> None:
    bounds = report.latency_bounds_s
    if len(bounds) > MAX_BOUNDS or not all(0 < each < math.inf for each in bounds) or sorted(set(bounds)) != bounds:
        raise InvalidParameter(f"latency_bounds_s must be up to {MAX_BOUNDS} growing numbers of seconds")
    for counts in (counts for versions in report.latencies.values() for counts in versions.values()):
        if len(counts) != len(bounds) + 1:
            raise InvalidParameter(
                f"{len(bounds)} latency_bounds_s make {len(bounds) + 1} latencies of a version, got {len(counts)}"
            )


def _totals(report: Report) -> dict[Place, Count]:
    found: dict[Place, Count] = {}
    for endpoint, versions in report.counters.items():
        for version, counters in versions.items():
            latencies = report.latencies.get(endpoint, {}).get(version, ())
            requests, errors = _whole(counters.get("requests", 0)), _whole(counters.get("errors", 0))
            found[endpoint, version] = Count(requests, errors, tuple(map(_whole, latencies)))
    return found


def _whole(given: float) -> int:
    """A count as it can be: whatever stands there, charts can be drawn of it."""
    return int(min(max(given, 0), MOST)) if math.isfinite(given) else 0


def _view(gateway_id: str, known: _Known, now: float) -> Gateway:
    last_seen = datetime.fromtimestamp(known.last_seen, UTC)
    return Gateway(
        gateway_id, known.address, last_seen, known.is_gone(now), known.endpoints, known.left_out, known.bounds_s
    )


def _described(gateway_id: str, known: _Known) -> dict[str, Any]:
    return {
        "id": gateway_id,
        **msgspec.json.decode(known.described),
        "last_seen": _moment(known.last_seen),
        "interval_s": known.interval_s,
        "counters": [
            {"at": _moment(each.at), "counters": msgspec.json.decode(each.counters)} for each in known.minutes
        ],
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
