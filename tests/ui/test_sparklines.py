"""Charts of an hour, as lines and in words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from registry.server.history import Count, Slot
from registry.server.ui.sparklines import charts_of, marks_at, time_taken

MINUTE = 20_000_000
NOW_S = MINUTE * 60 + 30.0
BOUNDS = (0.1, 1.0)


def slot(ago, requests=60, errors=0, latencies=(60, 0, 0), seconds=60.0):
    return Slot(MINUTE - ago, seconds, Count(requests, errors, latencies))


def test_in_words():
    """Every chart says how things are and how they were at most."""
    requests, errors, latency = charts_of([slot(2, 600, 60), slot(1), slot(0, errors=3)], BOUNDS, NOW_S)

    assert requests.summary == "Requests: 1/s now, at most 10/s in the last hour"
    assert errors.summary == "Errors: 5 % now, at most 10 % in the last hour"
    assert latency.summary == "Latency p99: 99 ms now, at most 99 ms in the last hour"


def test_nothing():
    """Without a report there is no line, and it is said so."""
    for chart in charts_of([], BOUNDS, NOW_S):
        assert chart.path == ""
        assert chart.summary == f"{chart.title}: nothing in the last hour"


def test_a_gap_is_a_gap():
    """Minutes that nobody knows break the line."""
    requests, _, _ = charts_of([slot(20), slot(19), slot(5), slot(4)], BOUNDS, NOW_S)

    assert requests.path.count("M") == 2


def test_a_minute_just_begun():
    """A minute of which little is known yet is not called a rate while there are others."""
    requests, _, _ = charts_of([slot(1), slot(0, 100, seconds=0.2)], BOUNDS, NOW_S)

    assert requests.now == "1/s"


@pytest.mark.parametrize("count", [2**53, 10**9, 12345])
def test_large_numbers_stay_short(count):
    """However much is counted, the words beside a chart are few."""
    for chart in charts_of([slot(0, count, count, (count, 0, 0), 5.0)], BOUNDS, NOW_S):
        assert len(chart.now) < 40
        assert "inf" not in chart.path


def test_marks():
    """Moves of the last hour stand where they happened; of two at one place the newer one is named."""
    moments = [(datetime.fromtimestamp(NOW_S - ago, UTC), str(ago)) for ago in (60, 90, 1800, 7200)]

    assert [(round(each.x), each.label) for each in marks_at(moments, NOW_S)] == [(590, "60"), (585, ""), (300, "1800")]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0004, "0.4 ms"), (0.0123, "12.3 ms"), (1.84, "1.84 s"), (12345.6, "12346 s")]
)
def test_times(seconds, text):
    """Times are said in the unit that people use."""
    assert time_taken(seconds) == text
