"""What a replica says of its own time, believed as far as it can be true."""

import time

import pytest

from gateway.runtimes.timings import Timings
from gateway.worker.frames import Timing


@pytest.mark.parametrize("said", [(0, 0), (10**30, 10**30), (float("nan"), float("inf")), (10**30, 0)])
def test_nothing_lies_before_the_request_or_ahead(said):
    """A clock that is wrong, or a replica that lies, makes no span that ends before it began."""
    timings, timing = Timings(), Timing()
    timings.sent(1, (timing,))

    timings.heard({"op": "answer", "id": 1, "begun_ns": said[0], "ended_ns": said[1]})

    assert timing.sent_ns <= timing.begun_ns <= timing.ended_ns <= time.time_ns()


def test_what_was_not_begun_was_not_sent():
    """A request that the replica dropped is as if it had never gone there; others are not touched."""
    timings, dropped, other = Timings(), Timing(), Timing()
    timings.sent(1, (dropped,))
    timings.sent(2, (other,))

    timings.heard({"op": "dropped", "id": 1})

    assert dropped.sent_ns == 0 < other.sent_ns
