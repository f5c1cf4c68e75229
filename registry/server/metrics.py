"""What the server counts of its requests, as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class _Times:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0


class Metrics:
    """Written on the event loop only. Labels are routes as they are declared, never what a client sends."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str, int], int] = {}
        self._times: dict[tuple[str, str], _Times] = {}
        self.streams = 0  # of pages, open

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        answer = (method, route, status)
        self._answers[answer] = self._answers.get(answer, 0) + 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = _Times()
        times.counts[bisect_left(BOUNDS_S, seconds)] += 1
        times.sum_s += seconds

    def text(self) -> str:
        lines = [
            "# HELP turnout_registry_requests_total Requests answered.",
            "# TYPE turnout_registry_requests_total counter",
        ]
        for (method, route, status), count in sorted(self._answers.items()):
            lines.append(f'turnout_registry_requests_total{{{_labels(method, route)},status="{status}"}} {count}')
        name = "turnout_registry_request_seconds"
        lines += [f"# HELP {name} Time to the end of an answer.", f"# TYPE {name} histogram"]
        for (method, route), times in sorted(self._times.items()):
            lines += _histogram(name, _labels(method, route), times)
        name = "turnout_registry_page_streams"
        lines += [
            f"# HELP {name} Browsers that listen to live pages.",
            f"# TYPE {name} gauge",
            f"{name} {self.streams}",
        ]
        return "\n".join([*lines, ""])


def _histogram(name: str, labels: str, times: _Times) -> list[str]:
    lines, below = [], 0
    for bound, count in zip((*BOUNDS_S, "+Inf"), times.counts, strict=True):
        below += count
        lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {below}')
    return [*lines, f"{name}_sum{{{labels}}} {times.sum_s:.6f}", f"{name}_count{{{labels}}} {below}"]


def _labels(method: str, route: str) -> str:
    return f'method="{method}",route="{route}"'
