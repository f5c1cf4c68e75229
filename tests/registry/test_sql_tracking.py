"""Tracking in the database: what a typed caller cannot give, and what a batch costs."""

from __future__ import annotations

import json
import re
import threading

import pytest

from registry.connection import connect
from registry.errors import InvalidParameter
from registry.sql.run_names import make_name
from registry.tracking import DatasetInput, Metric, ModelLink


@pytest.mark.parametrize(
    "metric",
    [
        Metric("a", "1", 1),
        Metric("a", None, 1),
        Metric("a", True, 1),
        Metric("a", 10**400, 1),
        Metric("a", 1, "1"),
        Metric("a", 1, 1, "0"),
        Metric("a", 1, 1, None),
        Metric(None, 1, 1),
        Metric("a", 1, 1, 0, 7),
        Metric("a", 1, 1, 0, None, 7),
    ],
    ids=str,
)
def test_metrics_of_the_wrong_type(sqlite_registry, metric):
    """A metric whose parts are of another type is refused by name, not by the database."""
    run_id = sqlite_registry.tracking.create_run().run_id

    with pytest.raises(InvalidParameter):
        sqlite_registry.tracking.log_batch(run_id, [metric])


def test_other_things_of_the_wrong_type(sqlite_registry):
    """So is everything else that is logged."""
    tracking = sqlite_registry.tracking
    run_id = tracking.create_run().run_id
    model_id = tracking.create_logged_model("model").model_id

    for refused in (
        lambda: tracking.get_run(None),
        lambda: tracking.get_experiment(True),
        lambda: tracking.create_run(start_time="now"),
        lambda: tracking.create_run(run_name=7),
        lambda: tracking.log_outputs(run_id, [ModelLink(model_id, "1")]),
        lambda: tracking.log_inputs(run_id, [DatasetInput(7, "1", "code", "x")]),
        lambda: tracking.log_batch(run_id, params={7: "1"}),
        lambda: tracking.record_logged_model(run_id, None),
        lambda: tracking.search_runs([run_id]),
        lambda: tracking.search_logged_models("0"),
        lambda: tracking.search_logged_models(["0"], order_by=["name"]),
    ):
        with pytest.raises(InvalidParameter):
            refused()


def test_made_up_names():
    """A name is an adjective, an animal and a number, and mostly a new one."""
    names = {make_name() for _ in range(100)}

    assert all(re.fullmatch(r"[a-z]+-[a-z]+-\d{1,3}", each) for each in names)
    assert len(names) > 90


def test_model_history_that_is_no_list(sqlite_registry):
    """A tag that a user wrote over the list of logged models does not stand in the way of the next one."""
    tracking = sqlite_registry.tracking
    run_id = tracking.create_run().run_id
    model = {"run_id": run_id, "artifact_path": "model", "utc_time_created": "now", "flavors": {}}

    for text in ("nonsense", "{}", "7"):
        tracking.log_batch(run_id, tags={"mlflow.log-model.history": text})
        tracking.record_logged_model(run_id, json.dumps(model))
        assert json.loads(tracking.get_run(run_id).tags["mlflow.log-model.history"]) == [model]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_writers_of_one_run(request, tmp_path, kind):
    """Writers of one run lose nothing: every metric, every entry of the list, and the latest value are there."""
    uri = f"sqlite:///{tmp_path}/r.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")()
    with connect(uri, actor="ana", artifacts_destination=str(tmp_path / "artifacts")) as registry:
        tracking = registry.tracking
        run_id = tracking.create_run().run_id
        model = {"run_id": run_id, "artifact_path": "model", "utc_time_created": "now", "flavors": {}}
        failures = []

        def write(writer):
            try:
                for step in range(5):
                    order = range(20) if writer % 2 else reversed(range(20))
                    tracking.log_batch(
                        run_id, [Metric(f"m{key}", writer, step, step) for key in order], {"shared": "1"}, {"t": "1"}
                    )
                    tracking.record_logged_model(run_id, json.dumps(model))
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert failures == []
        found = tracking.get_run(run_id)
        assert {each.value for each in found.metrics} == {5.0}
        assert {each.step for each in found.metrics} == {4}
        assert len(tracking.get_metric_history(run_id, "m7")) == 30
        assert len(json.loads(found.tags["mlflow.log-model.history"])) == 30


def test_two_values_of_one_param(sqlite_registry):
    """Of two writers of one param, one is refused."""
    tracking = sqlite_registry.tracking
    run_id = tracking.create_run().run_id
    refused = []

    def write(value):
        try:
            tracking.log_batch(run_id, params={"p": value})
        except InvalidParameter:
            refused.append(value)

    threads = [threading.Thread(target=write, args=(str(number),)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert len(refused) == 3
    assert tracking.get_run(run_id).params["p"] not in refused
