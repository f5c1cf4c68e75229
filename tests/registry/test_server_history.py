"""What a gateway counted, minute by minute."""

from __future__ import annotations

import pytest

from registry.server.history import ENTRY_BYTES, Count, History, quantile

START = 1_000_000_020.0  # the beginning of a minute
WINE = ("wine", "1")


def taken(*reports):
    """A history that took *reports*: each the seconds since the start, and the totals."""
    history = History()
    for seconds, totals in reports:
        history.take(START + seconds, totals)
    return history


def test_what_came_since():
    """What was counted before the first report belongs to no minute; what came since does, to the report's."""
    totals = {0: Count(1000, 10), 5: Count(1050, 11), 10: Count(1060, 12), 65: Count(1170, 12)}
    history = taken(*((seconds, {WINE: total}) for seconds, total in totals.items()))

    first, second = history.slots("wine")

    assert (first.count, first.seconds, first.rate) == (Count(60, 2), 10.0, 6.0)
    assert (second.count, second.seconds, second.rate) == (Count(110, 0), 55.0, 2.0)
    assert first.error_share == pytest.approx(2 / 60)


def test_versions_come_and_go():
    """A version that appears is counted from nothing, one that disappears and comes back from where it was."""
    old, new = WINE, ("wine", "2")
    history = taken((0, {old: Count(10)}), (5, {new: Count(7)}), (10, {old: Count(12), new: Count(8)}))

    (slot,) = history.slots("wine")

    assert slot.count.requests == 7 + 2 + 1


def test_a_restart():
    """Totals that shrank were counted anew."""
    history = taken((0, {WINE: Count(100, 50, (60, 40))}), (5, {WINE: Count(3, 1, (2, 1))}))

    (slot,) = history.slots("wine")

    assert slot.count == Count(3, 1, (2, 1))


def test_an_hour():
    """After an hour nothing is left of a minute, nor of a version that was reported no more."""
    history = taken((0, {WINE: Count(0)}), (5, {WINE: Count(9)}), (3700, {}))

    assert [each.count for each in history.slots("wine")] == [Count()]
    assert history.size == 0


def test_only_what_happens_takes_room():
    """An endpoint that nobody asks takes no room for its minutes."""
    history = taken(*((60 * minute, {WINE: Count(5)}) for minute in range(50)))

    assert history.size == ENTRY_BYTES
    assert {each.rate for each in history.slots("wine")} == {0.0}


def test_no_requests_have_no_share():
    """Where nothing was asked, nothing failed and nothing took time."""
    history = taken((0, {}), (5, {}))

    (slot,) = history.slots("wine")

    assert slot.error_share is None
    assert slot.latency(0.99, (0.1,)) is None


@pytest.mark.parametrize(
    ("share", "counts", "expected"),
    [
        (0.5, [10, 0, 0], 0.05),
        (0.5, [5, 5, 0], 0.1),
        (0.75, [5, 5, 0], 0.6),
        (0.99, [0, 0, 4], 1.1),
        (0.99, [0, 0, 0], None),
        (0.99, [1, 2], None),
        (0.99, [], None),
    ],
)
def test_quantile(share, counts, expected):
    """A quantile lies where an even spread within its bucket puts it, and never beyond the last bound."""
    found = quantile(share, counts, (0.1, 1.1))

    assert found == (None if expected is None else pytest.approx(expected))
