"""An hour of what one gateway counted, minute by minute: only what changed is kept.

Gateways report totals since they started. A total that shrank was counted anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

KEPT_MINUTES = 60
MINUTE_S = 60
MOST = 2**53
ENTRY_BYTES = 400  # about what one of the counts below takes, with its place in a dictionary

Place = tuple[str, str]  # endpoint and version


@dataclass(frozen=True, slots=True)
class Count:
    """Predictions, those that failed, and how many took how long: one number for each bound, one for what is above."""

    requests: int = 0
    errors: int = 0
    latencies: tuple[int, ...] = ()

    def since(self, before: Count) -> Count:
        return Count(
            _since(self.requests, before.requests),
            _since(self.errors, before.errors),
            _all_since(self.latencies, before.latencies),
        )

    def __add__(self, other: Count) -> Count:
        return Count(
            min(MOST, self.requests + other.requests),
            min(MOST, self.errors + other.errors),
            _sums(self.latencies, other.latencies),
        )

    def __bool__(self) -> bool:
        return bool(self.requests or self.errors or any(self.latencies))


NOTHING = Count()


@dataclass(frozen=True, slots=True)
class Slot:
    """What one endpoint did in a minute, of which *seconds* are known."""

    number: int
    seconds: float
    count: Count

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return self.count.requests / self.seconds

    @property
    def error_share(self) -> float | None:
        """How many of them failed; None where there were none."""
        requests = max(self.count.requests, self.count.errors)
        return self.count.errors / requests if requests else None

    def latency(self, share: float, bounds_s: Sequence[float]) -> float | None:
        """The time within which that share of them was answered; None where none was."""
        return quantile(share, self.count.latencies, bounds_s)


@dataclass(slots=True)
class _Minute:
    number: int
    seconds: float = 0.0
    counts: dict[str, Count] = field(default_factory=dict)  # by endpoint


class History:
    """Of one gateway. Every total that it ever reported is remembered for an hour, to tell what came since."""

    def __init__(self) -> None:
        self._minutes: deque[_Minute] = deque()
        self._totals: dict[Place, tuple[int, Count]] = {}
        self._last_s: float | None = None

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return ENTRY_BYTES * (len(self._totals) + sum(len(each.counts) for each in self._minutes))

    def take(self, now: float, totals: Mapping[Place, Count]) -> None:
        """Count what came since the last report. Before the first one nobody knows when it came."""
        number = int(now // MINUTE_S)
        if self._last_s is not None and now > self._last_s:
            minute = self._minute(number)
            minute.seconds += min(now - self._last_s, MINUTE_S)
            for place, total in totals.items():
                _, before = self._totals.get(place, (0, NOTHING))
                if came := total.since(before):
                    minute.counts[place[0]] = minute.counts.get(place[0], NOTHING) + came
        if self._last_s is None or now > self._last_s:
            self._totals.update((place, (number, total)) for place, total in totals.items())
            self._last_s = now
        self._forget(number)

    def slots(self, endpoint: str) -> list[Slot]:
        """The minutes of which something is known, oldest first; all versions together."""
        return [
            Slot(each.number, each.seconds, each.counts.get(endpoint, NOTHING))
            for each in self._minutes
            if each.seconds
        ]

    def _minute(self, number: int) -> _Minute:
        if not self._minutes or self._minutes[-1].number != number:
            self._minutes.append(_Minute(number))
        return self._minutes[-1]

    def _forget(self, number: int) -> None:
        while self._minutes and self._minutes[0].number <= number - KEPT_MINUTES:
            self._minutes.popleft()
        old = [place for place, (seen, _) in self._totals.items() if seen <= number - KEPT_MINUTES]
        for place in old:
            del self._totals[place]


def quantile(share: float, counts: Sequence[int], bounds: Sequence[float]) -> float | None:
    """As Prometheus estimates it: evenly spread within a bucket, and no more than the last bound."""
    below = list(accumulate(counts))
    if not below or not below[-1] or len(counts) != len(bounds) + 1:
        return None
    wanted = share * below[-1]
    index = next(number for number, reached in enumerate(below) if reached >= wanted)
    if index == len(bounds):
        return bounds[-1]
    low, inside = (bounds[index - 1], below[index - 1]) if index else (0.0, 0)
    return low + (bounds[index] - low) * (wanted - inside) / max(1, counts[index])


def _since(total: int, before: int) -> int:
    return total - before if total >= before else total


def _all_since(totals: tuple[int, ...], before: tuple[int, ...]) -> tuple[int, ...]:
    if len(totals) != len(before) or any(now < then for now, then in zip(totals, before, strict=True)):
        return totals
    return tuple(now - then for now, then in zip(totals, before, strict=True))


def _sums(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    if len(one) != len(other):  # the bounds were changed: the newer ones stand
        return other or one
    return tuple(min(MOST, each + more) for each, more in zip(one, other, strict=True))
