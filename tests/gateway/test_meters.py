"""What is counted of predictions, and under which name."""

import asyncio
import time

import pytest

from gateway.errors import BadRequest, DeadlineExceeded, GatewayError, ModelError, NotReady, Overloaded, ReplicaDied
from gateway.meters import BOUNDS_S, MAX_METERS, LoopLag, Meter, Meters, outcome_of


@pytest.mark.parametrize(
    ("problem", "outcome"),
    [
        (ModelError("", "BAD_REQUEST", 400), "refused"),
        (ModelError("", "INTERNAL_ERROR", 500), "failed"),
        (BadRequest(""), "refused"),
        (Overloaded(""), "overloaded"),
        (NotReady(""), "unavailable"),
        (ReplicaDied("", started=True), "unavailable"),
        (DeadlineExceeded(""), "deadline"),
        (GatewayError(""), "failed"),
        (ValueError(""), "failed"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_outcomes(problem, outcome):
    """Each way for a prediction to fail has a name that tells who is to look into it."""
    assert outcome_of(problem) == outcome


def test_only_answers_are_timed():
    """A refusal is quick and would make everything look well."""
    meter = Meter()
    meter.count("ok", BOUNDS_S[2])
    meter.count("ok", 1e9)
    meter.count("refused", 0.0)

    assert meter.outcomes == {"ok": 2, "refused": 1}
    assert (meter.counts[2], meter.counts[-1], sum(meter.counts)) == (1, 1, 2)


def test_versions_without_number_are_forgotten():
    """However often an alias moves, a gateway keeps so many versions' counts."""
    meters = Meters()
    for version in range(MAX_METERS + 3):
        meters.of(str(version), "primary").count("ok", 0.1)

    kept = [version for version, _, _ in meters]
    assert kept == [str(version) for version in range(3, MAX_METERS + 3)]
    assert meters.of(kept[0], "primary").outcomes == {"ok": 1}


def test_lag_is_the_worst_since_the_last_look():
    """A loop that is blocked was late by about so much; looking forgets it."""

    async def scenario():
        lag = LoopLag()
        watching = asyncio.create_task(lag.watch())
        await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        time.sleep(0.3)
        await asyncio.sleep(0.1)
        watching.cancel()
        return lag.take(), lag.take()

    worst_s, then_s = asyncio.run(scenario())
    assert 0.1 < worst_s < 30
    assert then_s == 0.0
