"""Searches among runs, on every implementation of `Tracking`."""

from __future__ import annotations

import math

import pytest

from registry.errors import InvalidParameter
from registry.tracking import DatasetInput, Metric

START = 1700000000000
RUNS = {
    "ant": {"metrics": {"acc": 0.9, "m/x": 1.0}, "params": {"depth": "2"}, "tags": {"team": "red"}},
    "Bee": {"metrics": {"acc": 0.5}, "params": {"depth": "10", "a b": "x"}, "tags": {"team": "Red", "u.v": "1"}},
    "cat": {"metrics": {"acc": math.nan}, "params": {}, "tags": {}},
    "dog": {"metrics": {}, "params": {"depth": "2"}, "tags": {"team": ""}},
}


@pytest.fixture
def tracking(registry):
    """The tracking side of a registry with four runs, each a second younger than the one before."""
    tracking = registry.tracking
    for number, (name, logged) in enumerate(RUNS.items()):
        run_id = tracking.create_run("0", START + number * 1000, logged["tags"], name, "ana").run_id
        metrics = [Metric(key, value, 1) for key, value in logged["metrics"].items()]
        tracking.log_batch(run_id, metrics, logged["params"])
        if name in {"ant", "dog"}:
            tracking.update_run(run_id, "FINISHED", end_time=START + 10_000 - number)
    tracking.log_inputs(run_id, [DatasetInput("wine.csv", "d1", "code", "none", tags={"mlflow.data.context": "train"})])
    return tracking


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "ant Bee cat dog"),
        ("metrics.acc > 0.5", "ant"),
        ("metric.acc >= 5e-1 and metrics.acc < .9", "Bee"),
        ("metrics.acc != 0.5", "ant cat"),
        ("metrics.acc = 0", ""),
        ("metrics.acc <= 1", "ant Bee"),
        ("metrics.`m/x` = 1", "ant"),
        ("metrics.m/x > -1", "ant"),
        ("params.depth = '2'", "ant dog"),
        ("parameter.depth != '2'", "Bee"),
        ("params.depth LIKE '1%'", "Bee"),
        ("params.`a b` = 'x'", "Bee"),
        ('param."a b" ILIKE "X"', "Bee"),
        ("params.depth IS NULL", "cat"),
        ("params.depth is not null AND tags.team IS NOT NULL", "ant Bee dog"),
        ("tags.team = 'red'", "ant"),
        ("tags.team ILIKE 'R_D'", "ant Bee"),
        ("tag.team LIKE '%e%'", "ant Bee"),
        ("tags.team = ''", "dog"),
        ("tags.u.v = '1'", "Bee"),
        ("attributes.status = 'FINISHED'", "ant dog"),
        ("status != 'FINISHED'", "Bee cat"),
        ("run_name = 'Bee'", "Bee"),
        ("attributes.run_name ILIKE 'b%'", "Bee"),
        ("attribute.`Run name` LIKE '_a_'", "cat"),
        ("tags.mlflow.runName = 'cat'", "cat"),
        (f"start_time > {START}", "Bee cat dog"),
        (f"attributes.end_time = {START + 10_000}", "ant"),
        (f"created <= {START}", "ant"),
        ("user_id = 'ana'", "ant Bee cat dog"),
        ("artifact_uri LIKE 'mlflow-artifacts:/0/%'", "ant Bee cat dog"),
        ("run_id IN ('a', 'b')", ""),
        ("attributes.run_id NOT IN ('a')", "ant Bee cat dog"),
        ("dataset.name = 'wine.csv'", "dog"),
        ("datasets.digest LIKE 'd%' AND dataset.context = 'train'", "dog"),
        ("dataset.context != 'train'", ""),
        ("dataset.name IN ('a', 'wine.csv')", "dog"),
    ],
)
def test_filters(tracking, text, names):
    """A filter finds exactly the runs for which all of its comparisons hold."""
    found = tracking.search_runs(["0"], text, order_by=["start_time"])

    assert [each.run_name for each in found] == names.split()


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (None, "dog cat Bee ant"),
        (["start_time ASC"], "ant Bee cat dog"),
        (["metrics.acc DESC"], "ant Bee cat dog"),
        (["metrics.acc"], "Bee ant cat dog"),
        (["params.depth", "attributes.start_time"], "Bee ant dog cat"),
        (["tags.team desc"], "ant Bee dog cat"),
        (["attribute.run_name"], "Bee ant cat dog"),
        (["end_time"], "dog ant cat Bee"),
        (["metrics.`m/x`", "tags.`u.v`", "Created"], "ant Bee cat dog"),
    ],
)
def test_orders(tracking, order, names):
    """Runs come in the order asked for, those without the value last; the youngest first decides between equals."""
    assert [each.run_name for each in tracking.search_runs(["0"], order_by=order)] == names.split()


def test_everything_comes_along(tracking):
    """A found run is the run that `get_run` gives."""
    found = tracking.search_runs(["0"], "tags.team IS NOT NULL")

    assert len(found) == 3
    for run in found:
        assert run == tracking.get_run(run.run_id)


def test_experiments_and_views(tracking):
    """Only runs of the named experiments are found, deleted ones when asked for."""
    other = tracking.create_experiment("other")
    run_id = tracking.create_run(other).run_id
    tracking.delete_run(run_id)

    def count(*arguments, **options):
        return len(tracking.search_runs(*arguments, **options))

    assert (count(["0"]), count([other]), count(["0", other]), count([]), count(["999"])) == (4, 0, 4, 0, 0)
    assert count([other], run_view_type="DELETED_ONLY") == 1
    assert count(["0", other, "0"], run_view_type="ALL") == 5


def test_pages(tracking):
    """Pages hold each run once, also among equals, and the last one has no token."""
    found, token = [], None
    while True:
        page = tracking.search_runs(["0"], None, "ALL", 3, ["attributes.user_id"], token)
        found += [each.run_name for each in page]
        token = page.token
        if token is None:
            break

    assert found == ["dog", "cat", "Bee", "ant"]


@pytest.mark.parametrize(
    "text",
    [
        "color = 'red'",
        "metrics.acc = 'x'",
        "metrics.acc LIKE 1",
        "metrics.acc IS NULL",
        "metrics.acc > nan",
        "params.depth = 2",
        "params.depth > '1'",
        "params.depth IN ('1')",
        "tags.team = red",
        "status IN ('FINISHED')",
        "start_time = 'x'",
        "start_time LIKE '1'",
        "dataset.color = 'red'",
        "dataset.name IS NULL",
        "other.x = 'y'",
        "metrics. > 1",
        "metrics.acc > 1 OR metrics.acc < 2",
        "(metrics.acc > 1)",
        "metrics.acc >",
        "metrics.acc > 1; DROP TABLE turnout_runs",
        "   ",
    ],
)
def test_impossible_filters(tracking, text):
    """A filter that cannot be understood is refused."""
    with pytest.raises(InvalidParameter):
        tracking.search_runs(["0"], text)


@pytest.mark.parametrize(
    "options",
    [
        {"order_by": ["color"]},
        {"order_by": ["metrics.acc sideways"]},
        {"order_by": ["metrics.acc ASC DESC"]},
        {"order_by": ["metrics.acc", "metrics.acc DESC"]},
        {"order_by": ["dataset.name"]},
        {"order_by": "metrics.acc"},
        {"order_by": [f"metrics.m{number}" for number in range(11)]},
        {"order_by": [""]},
        {"run_view_type": "SOME"},
        {"max_results": 0},
        {"max_results": 50_001},
        {"page_token": "nonsense"},
        {"page_token": "eyJvZmZzZXQiOiAtMX0="},
        {"experiment_ids": "0"},
        {"experiment_ids": [None]},
    ],
    ids=str,
)
def test_impossible_searches(tracking, options):
    """An order, a view, a page or an experiment that can be none is refused."""
    with pytest.raises(InvalidParameter):
        tracking.search_runs(**({"experiment_ids": ["0"]} | options))
