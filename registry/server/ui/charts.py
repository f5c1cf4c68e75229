"""Lines of metrics: read in pages, thinned to what a screen can show, and drawn as SVG where no script runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from registry.tracking import Metric, Tracking

MOST_POINTS = 100_000
PAGE = 10_000
SHOWN_POINTS = 500
WIDTH, HEIGHT = 320, 120
MARGIN = 6


@dataclass(frozen=True, slots=True)
class Line:
    """One metric of one run: what is on the x axis, in `unit`, and the values there; None where there is a gap."""

    label: str
    unit: str
    x: Sequence[float]
    y: Sequence[float | None]
    is_cut: bool = False

    @property
    def json(self) -> str:
        """For the script that draws it."""
        return msgspec.json.encode({"label": self.label, "unit": self.unit, "x": self.x, "y": self.y}).decode()

    @property
    def has_history(self) -> bool:
        return len(self.x) > 1

    @property
    def points(self) -> list[tuple[float, float | None]]:
        return list(zip(self.x, self.y, strict=True))

    @property
    def finite(self) -> list[float]:
        return [each for each in self.y if each is not None]

    @property
    def lowest(self) -> float:
        return min(self.finite, default=0.0)

    @property
    def highest(self) -> float:
        return max(self.finite, default=0.0)

    @property
    def polylines(self) -> list[str]:
        """The points of each unbroken piece, in a box of `WIDTH` by `HEIGHT`."""
        return list(_polylines(self))


def read_line(tracking: Tracking, run_id: str, key: str, label: str, most: int = MOST_POINTS) -> Line:
    """The metric's history, thinned. Longer ones than *most* points are cut."""
    found: list[Metric] = []
    token: str | None = None
    while len(found) < most:
        page = tracking.get_metric_history(run_id, key, min(PAGE, most - len(found)), token)
        found += page
        token = page.token
        if token is None:
            break
    return line_of(found, label, token is not None)


def line_of(metrics: Sequence[Metric], label: str, is_cut: bool = False) -> Line:
    """Against the step, or where nobody gave steps, against the seconds since the first value."""
    has_steps = len({each.step for each in metrics}) > 1
    ordered = sorted(metrics, key=lambda each: (each.step, each.timestamp))
    began = ordered[0].timestamp if ordered else 0
    xs = [float(each.step) if has_steps else (each.timestamp - began) / 1000 for each in ordered]
    points = list(zip(xs, [each.value if math.isfinite(each.value) else None for each in ordered], strict=True))
    x, y = zip(*_thinned(points), strict=True) if points else ((), ())
    return Line(label, "step" if has_steps else "seconds", x, y, is_cut)


def _thinned(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most `SHOWN_POINTS`: of each stretch the lowest and the highest, so that no peak is lost."""
    if len(points) <= SHOWN_POINTS:
        return list(points)
    kept: list[tuple[float, float | None]] = []
    edges = [round(number * len(points) / (SHOWN_POINTS // 2)) for number in range(SHOWN_POINTS // 2 + 1)]
    for start, stop in pairwise(edges):
        stretch = [each for each in points[start:stop] if each[1] is not None] or points[start : start + 1]
        kept += sorted({min(stretch, key=_value), max(stretch, key=_value)})
    return kept


def _value(point: tuple[float, float | None]) -> float:
    return point[1] or 0.0


def _polylines(line: Line) -> Iterator[str]:
    if not line.finite:
        return
    left, right = min(line.x), max(line.x)
    piece: list[str] = []
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            if piece:
                yield " ".join(piece)
            piece = []
            continue
        across = MARGIN + _share(x, left, right) * (WIDTH - 2 * MARGIN)
        down = HEIGHT - MARGIN - _share(y, line.lowest, line.highest) * (HEIGHT - 2 * MARGIN)
        piece.append(f"{across:.1f},{down:.1f}")
    if piece:
        yield " ".join(piece)


def _share(value: float, low: float, high: float) -> float:
    """Where it lies between both, from 0 to 1; halves first, for numbers whose difference is too large."""
    return 0.5 if low == high else (value / 2 - low / 2) / (high / 2 - low / 2)
