"""Experiments, their runs, and runs compared."""

from __future__ import annotations

import pytest

from registry.tracking import Metric


@pytest.fixture
def experiment(registry):
    """The id of an experiment with three runs, each worse than the one before."""
    made = registry.tracking.create_experiment("diabetes", tags={"team": "risk"})
    for number in range(3):
        run = registry.tracking.create_run(made, start_time=1_000 + number, run_name=f"ridge-{number}")
        metrics = [Metric("loss", number + step, 1_000, step) for step in range(3)]
        registry.tracking.log_batch(run.run_id, metrics, {"alpha": str(number), "solver": "auto"})
    return made


def runs(page):
    return page.texts("#runs tbody th")


def test_list(reader, experiment):
    """Experiments are listed, the newest first."""
    page = reader.open("/experiments")

    assert page.texts("#experiments tbody th") == ["diabetes", "Default"]
    assert page.attribute("#experiments tbody a", "href") == f"/experiments/{experiment}"


@pytest.mark.parametrize(
    ("search", "found"), [("diab", ["diabetes"]), ("tags.team = 'risk'", ["diabetes"]), ("none", [])]
)
def test_search(reader, experiment, search, found):
    """They are found by a part of a name or by a filter."""
    assert reader.open("/experiments", params={"q": search}).texts("#experiments tbody th") == found


def test_search_that_cannot_be(reader, experiment):
    """A mistake is told where it was made."""
    for path in ("/experiments", f"/experiments/{experiment}"):
        page = reader.open(path, params={"q": "colour = 'red'"})

        assert page.status == 400
        assert page.text("#search-problem")
        assert page.attribute("#q", "value") == "colour = 'red'"


def test_runs(reader, experiment):
    """Each run has its metrics and params in columns; the newest comes first."""
    page = reader.open(f"/experiments/{experiment}")

    assert runs(page) == ["ridge-2", "ridge-1", "ridge-0"]
    assert page.texts("thead th")[4:] == ["loss", "alpha", "solver"]
    assert page.texts("#runs tbody tr:first-child td")[-3:] == ["4", "2", "auto"]


@pytest.mark.parametrize(
    ("search", "found"),
    [("ridge-1", ["ridge-1"]), ("metrics.loss < 4", ["ridge-1", "ridge-0"]), ("params.alpha = '2'", ["ridge-2"])],
)
def test_search_runs(reader, experiment, search, found):
    """Runs are found by a part of a name or by a filter."""
    assert runs(reader.open(f"/experiments/{experiment}", params={"q": search})) == found


def test_order_runs(reader, experiment):
    """A metric's heading orders by it."""
    page = reader.open(f"/experiments/{experiment}")

    page = reader.open(page.attribute("thead a[href*=metrics]", "href"))

    assert runs(page) == ["ridge-2", "ridge-1", "ridge-0"]
    assert page.has("th[aria-sort=descending]")


def test_empty_experiment(reader):
    """An experiment without runs says how to log one."""
    page = reader.open("/experiments/0")

    assert "mlflow.set_experiment(experiment_id=" in page.text(".command")


def test_deleted(reader, registry, experiment):
    """Deleted runs are one link away."""
    deleted = registry.tracking.search_runs([experiment])[0]
    registry.tracking.delete_run(deleted.run_id)
    page = reader.open(f"/experiments/{experiment}")
    assert runs(page) == ["ridge-1", "ridge-0"]

    page = reader.open(page.attribute("a[href*=deleted]", "href"))

    assert runs(page) == [deleted.run_name]
    assert "was deleted" in reader.open(f"/runs/{deleted.run_id}").text(".warning")


def test_compare(reader, experiment, registry):
    """Several runs stand side by side, with one metric of all in one chart."""
    ids = [each.run_id for each in registry.tracking.search_runs([experiment])]

    page = reader.open("/compare-runs", params=[("run", each) for each in ids])

    assert len(page.document.css(".plot [data-line]")) == 3
    assert page.text("tr.differs th") == "alpha"
    assert page.text("option[selected]") == "loss"


@pytest.mark.parametrize("count", [0, 1, 11])
def test_compare_refused(reader, count):
    """One run is no comparison, and too many are no chart."""
    page = reader.open("/compare-runs", params=[("run", f"{number:032}") for number in range(count)])

    assert page.status == 400
    assert "two to 10 runs" in page.text(".error")


@pytest.mark.parametrize(
    "path", ["/experiments?stage=x", "/experiments/0?stage=x", "/experiments?page=x", "/experiments/0?sort=%60"]
)
def test_strange_addresses(reader, path):
    """An address that somebody made up is refused on a page."""
    assert reader.open(path).status == 400
