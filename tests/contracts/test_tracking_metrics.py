"""Metrics of runs and of logged models, on every implementation of `Tracking`."""

from __future__ import annotations

import math

import pytest

from registry.errors import InvalidParameter, NotFound
from registry.tracking import Metric

LARGEST = 1.7976931348623157e308


@pytest.fixture
def tracking(registry):
    """The tracking side of an empty registry."""
    return registry.tracking


@pytest.fixture
def run_id(tracking):
    """A run."""
    return tracking.create_run().run_id


def latest(tracking, run_id):
    return {each.key: each.value for each in tracking.get_run(run_id).metrics}


def test_latest_value(tracking, run_id):
    """The latest value is that of the highest step, then of the latest time, then the largest."""
    tracking.log_batch(run_id, [Metric("a", 1, 10, 5), Metric("a", 2, 99, 4), Metric("b", 1, 1), Metric("b", 2, 2)])
    assert latest(tracking, run_id) == {"a": 1, "b": 2}

    tracking.log_batch(run_id, [Metric("a", 9, 9, 5), Metric("b", 1.5, 2), Metric("c", -1, 0, -1)])
    assert latest(tracking, run_id) == {"a": 1, "b": 2, "c": -1}

    tracking.log_batch(run_id, [Metric("a", 7, 10, 6), Metric("b", 3, 2), Metric("c", -2, 0)])
    assert latest(tracking, run_id) == {"a": 7, "b": 3, "c": -2}


def test_latest_carries_its_moment(tracking, run_id):
    """A run's metric says when and at which step it was measured."""
    tracking.log_batch(run_id, [Metric("a", 0.1, 1700000000001, 3)])

    assert list(tracking.get_run(run_id).metrics) == [Metric("a", 0.1, 1700000000001, 3)]


def test_history(tracking, run_id):
    """The history holds every value, by time, step and value."""
    given = [Metric("a", 3, 30, 1), Metric("a", 1, 10, 2), Metric("a", 2, 20, 0), Metric("a", 9, 10, 1)]
    tracking.log_batch(run_id, given)
    tracking.log_batch(run_id, [Metric("b", 5, 1)])

    assert [each.value for each in tracking.get_metric_history(run_id, "a")] == [9, 1, 2, 3]
    assert list(tracking.get_metric_history(run_id, "b")) == [Metric("b", 5, 1)]
    assert list(tracking.get_metric_history(run_id, "none")) == []


def test_same_value_again(tracking, run_id):
    """The very same value is kept once, in one batch or in two."""
    same = Metric("a", 1, 10, 2)

    tracking.log_batch(run_id, [same, same, Metric("a", math.nan, 10, 2), Metric("a", math.nan, 10, 2)])
    tracking.log_batch(run_id, [same])

    history = tracking.get_metric_history(run_id, "a")
    assert sorted(math.isnan(each.value) for each in history) == [False, True]


def test_values_that_are_no_numbers(tracking, run_id):
    """What is not a number comes back so; infinite values come back as the largest doubles."""
    tracking.log_batch(
        run_id, [Metric("n", math.nan, 1), Metric("p", math.inf, 1), Metric("m", -math.inf, 1), Metric("z", -0.0, 1)]
    )

    found = latest(tracking, run_id)
    assert math.isnan(found["n"])
    assert (found["p"], found["m"], found["z"]) == (LARGEST, -LARGEST, 0)
    assert math.isnan(tracking.get_metric_history(run_id, "n")[0].value)


@pytest.mark.parametrize("value", [0.1, 1 / 3, 5e-324, 123456789.123456789, 2**53, -1e-17])
def test_values_are_exact(tracking, run_id, value):
    """Every double comes back as it was."""
    tracking.log_batch(run_id, [Metric("a", value, 1)])

    assert latest(tracking, run_id) == {"a": value}
    assert tracking.get_metric_history(run_id, "a")[0].value == value


def test_history_by_pages(tracking, run_id):
    """Pages hold each value once, and the last one has no token."""
    tracking.log_batch(run_id, [Metric("a", number, number) for number in range(5)])
    found, token = [], None

    while True:
        page = tracking.get_metric_history(run_id, "a", max_results=2, page_token=token)
        found += [each.value for each in page]
        token = page.token
        if token is None:
            break

    assert found == [0, 1, 2, 3, 4]
    for refused in ({"max_results": 0}, {"page_token": "nonsense"}):
        with pytest.raises(InvalidParameter):
            tracking.get_metric_history(run_id, "a", **refused)


def test_metric_of_a_logged_model(tracking, run_id):
    """A value that names a logged model shows in the run and in that model, with what it was measured on."""
    first, second = (tracking.create_logged_model("model", run_id).model_id for _ in range(2))
    tracking.log_batch(run_id, [Metric("mse", 2.5, 10, 1)])

    for model_id in (first, second):
        tracking.log_batch(run_id, [Metric("mse", 2.5, 10, 1, model_id, "wine.csv", "abc")])
        tracking.log_batch(run_id, [Metric("mse", 2.5, 10, 1, model_id, "wine.csv", "abc")])

    wanted = Metric("mse", 2.5, 10, 1, first, "wine.csv", "abc", run_id)
    assert list(tracking.get_logged_model(first).metrics) == [wanted]
    assert [each.model_id for each in tracking.get_logged_model(second).metrics] == [second]
    assert list(tracking.get_metric_history(run_id, "mse")) == [Metric("mse", 2.5, 10, 1)]


def test_metric_of_an_unknown_model(tracking, run_id):
    """A value that names a logged model that is not there is refused, with the whole batch."""
    unknown = "m-" + "0" * 32

    with pytest.raises(NotFound):
        tracking.log_batch(run_id, [Metric("a", 1, 1), Metric("b", 1, 1, 0, unknown)])
    assert latest(tracking, run_id) == {}


def test_large_batch(tracking, run_id):
    """A batch takes a thousand values."""
    tracking.log_batch(run_id, [Metric(f"m{number % 20}", number, number, number) for number in range(1000)])

    assert len(latest(tracking, run_id)) == 20
    assert latest(tracking, run_id)["m19"] == 999
    assert len(tracking.get_metric_history(run_id, "m7")) == 50
