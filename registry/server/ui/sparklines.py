"""Small charts of an endpoint's last hour: lines for the page to draw, and the same in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.server.history import KEPT_MINUTES, MINUTE_S, Slot

WIDTH, HEIGHT = 600, 100
LABEL_WIDTH = 90
DASH = 8
ENOUGH_S = 5.0  # of a minute that has just begun, to call what is known of it a rate


@dataclass(frozen=True, slots=True)
class Mark:
    """Where something happened: *x* of `WIDTH`. Its label is empty where there is no room."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A line from an hour ago until now, drawn in a box of `WIDTH` by `HEIGHT`; *now* and *most* are words."""

    title: str
    path: str
    now: str
    most: str
    marks: tuple[Mark, ...] = ()

    @property
    def summary(self) -> str:
        """The chart, for who does not see it."""
        if not self.path:
            return f"{self.title}: nothing in the last hour"
        return f"{self.title}: {self.now} now, at most {self.most} in the last hour"


def charts_of(
    slots: Sequence[Slot], bounds_s: Sequence[float], now_s: float, marks: tuple[Mark, ...] = ()
) -> list[Chart]:
    """Requests, errors and latency."""
    return [
        _chart("Requests", slots, now_s, lambda each: each.rate, _rate),
        _chart("Errors", slots, now_s, lambda each: each.error_share, _percent, marks, least=0.01),
        _chart("Latency p99", slots, now_s, lambda each: each.latency(0.99, bounds_s), time_taken),
    ]


def marks_at(moments: Iterable[tuple[datetime, str]], now_s: float) -> tuple[Mark, ...]:
    """Those within the hour, given newest first. Where two would stand on each other, the newer one has the label."""
    marks: list[Mark] = []
    free: float = WIDTH + LABEL_WIDTH
    for moment, label in moments:
        x = _x(moment.timestamp(), now_s)
        if not 0 <= x <= WIDTH:
            continue
        has_room = x <= free - LABEL_WIDTH
        marks.append(Mark(x, label if has_room else ""))
        free = x if has_room else free
    return tuple(marks)


def time_taken(seconds: float) -> str:
    """A time as people say it: 12 ms, 1.4 s."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s" if seconds < 1000 else f"{seconds:.0f} s"


def _chart(
    title: str,
    slots: Sequence[Slot],
    now_s: float,
    value: Callable[[Slot], float | None],
    words: Callable[[float], str],
    marks: tuple[Mark, ...] = (),
    least: float = 0.0,
) -> Chart:
    enough = [each for each in slots if each.seconds >= ENOUGH_S] or slots
    points = [(_x(each.number * MINUTE_S + MINUTE_S / 2, now_s), each.number, value(each)) for each in enough]
    known = [height for _, _, height in points if height is not None]
    if not known:
        return Chart(title, "", "–", "–", marks)
    most = max(known)
    last = points[-1][2]
    return Chart(title, _path(points, max(most, least)), "–" if last is None else words(last), words(most), marks)


def _path(points: Iterable[tuple[float, int, float | None]], most: float) -> str:
    """Where minutes are missing the line is broken; one point alone is a short dash."""
    steps: list[str] = []
    before: int | None = None
    for x, number, height in points:
        if height is None:
            before = None
            continue
        y = HEIGHT - (HEIGHT * height / most if most else 0)
        steps.append(f"L{x:.1f} {y:.1f}" if before == number - 1 else f"M{x - DASH:.1f} {y:.1f}L{x:.1f} {y:.1f}")
        before = number
    return "".join(steps)


def _x(moment_s: float, now_s: float) -> float:
    return WIDTH * (1 - (now_s - moment_s) / (KEPT_MINUTES * MINUTE_S))


def _rate(value: float) -> str:
    for power, unit in ((1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:,.1f}{unit}/s"
    return f"{value:.2g}/s" if value < 10 else f"{value:.0f}/s"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"
