"""What is counted of predictions, where it costs least: plain numbers, written on the event loop, read by anybody."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from gateway.errors import DeadlineExceeded, GatewayError, NotReady, Overloaded, ReplicaDied

BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_METERS = 64
LAG_INTERVAL_S = 0.25

_OUTCOMES: dict[type[GatewayError], str] = {
    Overloaded: "overloaded",
    NotReady: "unavailable",
    ReplicaDied: "unavailable",
    DeadlineExceeded: "deadline",
}


def outcome_of(problem: BaseException) -> str:
    """What a prediction came to that raised: overloaded, unavailable, deadline, refused, failed or cancelled."""
    if isinstance(problem, asyncio.CancelledError):
        return "cancelled"
    if not isinstance(problem, GatewayError):
        return "failed"
    known = _OUTCOMES.get(type(problem))
    return known or ("refused" if problem.http_status < 500 else "failed")


class Meter:
    """Predictions of one version in one role: how many came to what, and how long the answered ones took."""

    __slots__ = ("counts", "outcomes", "sum_s")

    def __init__(self) -> None:
        self.outcomes: dict[str, int] = {}
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def count(self, outcome: str, seconds: float) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome == "ok":
            self.counts[bisect_left(BOUNDS_S, seconds)] += 1
            self.sum_s += seconds

    def take(self) -> tuple[dict[str, int], list[int], float]:
        """What was counted since this was last called, to be added up elsewhere."""
        taken = self.outcomes, self.counts, self.sum_s
        Meter.__init__(self)
        return taken

    def add(self, outcomes: Mapping[str, int], counts: Sequence[int], sum_s: float) -> None:
        """Count what another process has taken."""
        for outcome, count in outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        self.counts = [own + other for own, other in zip(self.counts, counts, strict=True)]
        self.sum_s += sum_s


class Meters:
    """Of one endpoint, by version and role; they outlive the versions, and the oldest goes first."""

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], Meter] = {}

    def of(self, version: str, role: str) -> Meter:
        key = version, role
        meter = self._meters.get(key)
        if meter is None:
            if len(self._meters) >= MAX_METERS:
                del self._meters[next(iter(self._meters))]
            meter = self._meters[key] = Meter()
        return meter

    def __iter__(self) -> Iterator[tuple[str, str, Meter]]:
        for (version, role), meter in self._meters.items():
            yield version, role, meter


class LoopLag:
    """How late the event loop is: the worst of what was seen since it was last asked."""

    def __init__(self) -> None:
        self._worst_s = 0.0

    def take(self) -> float:
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    def saw(self, lag_s: float) -> None:
        """Another process's counts too."""
        self._worst_s = max(self._worst_s, lag_s)

    async def watch(self) -> None:
        """Look at the clock again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            self.saw(loop.time() - due_s)
