"""Runs and what is logged to them, on every implementation of `Tracking`."""

from __future__ import annotations

import json
import re

import pytest

from registry.errors import InvalidParameter, NotFound
from registry.tracking import DatasetInput, Metric, ModelLink

RUN_NAME = "mlflow.runName"
HISTORY = "mlflow.log-model.history"
DATASET = DatasetInput(
    "wine.csv", "abc123", "local", "/data/wine.csv", '{"a": 1}', "{}", {"mlflow.data.context": "train"}
)


@pytest.fixture
def tracking(registry):
    """The tracking side of an empty registry."""
    return registry.tracking


def test_create(tracking):
    """A new run is running, has a name, an id of 32 hex digits and a place for its files."""
    made = tracking.create_run(start_time=1700000000000, tags={"k": "v"}, user_id="bo")

    assert re.fullmatch("[0-9a-f]{32}", made.run_id)
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d+", made.run_name)
    assert (made.experiment_id, made.status, made.lifecycle_stage) == ("0", "RUNNING", "active")
    assert (made.start_time, made.end_time, made.user_id) == (1700000000000, None, "bo")
    assert made.artifact_uri == f"mlflow-artifacts:/0/{made.run_id}/artifacts"
    assert made.tags == {"k": "v", RUN_NAME: made.run_name}
    assert tracking.get_run(made.run_id) == made


def test_name_and_its_tag_agree(tracking):
    """A run's name and its tag are one thing, whichever of them is set."""
    by_name = tracking.create_run(run_name="first")
    by_tag = tracking.create_run(tags={RUN_NAME: "second"})
    same = tracking.create_run(run_name="third", tags={RUN_NAME: "third"})
    with pytest.raises(InvalidParameter, match="different values"):
        tracking.create_run(run_name="a", tags={RUN_NAME: "b"})

    tracking.log_batch(by_name.run_id, tags={RUN_NAME: "renamed"})
    tracking.update_run(by_tag.run_id, name="changed")

    for run_id, name in ((by_name.run_id, "renamed"), (by_tag.run_id, "changed"), (same.run_id, "third")):
        found = tracking.get_run(run_id)
        assert (found.run_name, found.tags[RUN_NAME]) == (name, name)


def test_update(tracking):
    """A status and an end are set; what is not given stays."""
    made = tracking.create_run(run_name="x")

    ended = tracking.update_run(made.run_id, "FINISHED", end_time=made.start_time + 5)

    assert (ended.status, ended.end_time, ended.run_name) == ("FINISHED", made.start_time + 5, "x")
    assert tracking.update_run(made.run_id) == ended
    assert tracking.update_run(made.run_id, "RUNNING").end_time == made.start_time + 5
    for refused in ({"status": "DONE"}, {"status": "finished"}, {"end_time": -1}, {"end_time": 2**70}):
        with pytest.raises(InvalidParameter):
            tracking.update_run(made.run_id, **refused)


def test_delete_and_restore(tracking):
    """A deleted run can be read, but nothing more is logged to it until it is restored."""
    run_id = tracking.create_run().run_id
    model_id = tracking.create_logged_model("model").model_id

    tracking.delete_run(run_id)
    tracking.delete_run(run_id)

    assert tracking.get_run(run_id).lifecycle_stage == "deleted"
    for refused in (
        lambda: tracking.log_batch(run_id, [Metric("a", 1, 1)]),
        lambda: tracking.log_batch(run_id),
        lambda: tracking.update_run(run_id, "FINISHED"),
        lambda: tracking.delete_tag(run_id, RUN_NAME),
        lambda: tracking.log_inputs(run_id, [DATASET]),
        lambda: tracking.log_outputs(run_id, [ModelLink(model_id)]),
    ):
        with pytest.raises(InvalidParameter, match="must be in the 'active' state"):
            refused()
    tracking.restore_run(run_id)
    tracking.log_batch(run_id, [Metric("a", 1, 1)])
    assert tracking.get_run(run_id).lifecycle_stage == "active"


def test_unknown_run(tracking):
    """What names no run is not found, whatever is asked of it."""
    for run_id in ("0" * 32, "nonsense", "'; DROP TABLE turnout_runs; --"):
        for asked in (
            lambda run_id=run_id: tracking.get_run(run_id),
            lambda run_id=run_id: tracking.update_run(run_id, "FINISHED"),
            lambda run_id=run_id: tracking.delete_run(run_id),
            lambda run_id=run_id: tracking.restore_run(run_id),
            lambda run_id=run_id: tracking.log_batch(run_id, tags={"a": "b"}),
            lambda run_id=run_id: tracking.delete_tag(run_id, "a"),
            lambda run_id=run_id: tracking.get_metric_history(run_id, "a"),
            lambda run_id=run_id: tracking.log_inputs(run_id, [DATASET]),
            lambda run_id=run_id: tracking.log_outputs(run_id, []),
        ):
            with pytest.raises(NotFound):
                asked()


def test_params(tracking):
    """A param is written once: the same value again is fine, another one is refused, and then nothing is kept."""
    run_id = tracking.create_run().run_id
    tracking.log_batch(run_id, params={"depth": "2", "empty": "", "a/b c.d:e-f": "é"})

    tracking.log_batch(run_id, params={"depth": "2", "new": "1"})
    with pytest.raises(InvalidParameter, match=r"(?s)depth.*'2'.*'3'"):
        tracking.log_batch(run_id, [Metric("m", 1, 1)], {"depth": "3", "newer": "1"}, {"t": "1"})

    found = tracking.get_run(run_id)
    assert found.params == {"depth": "2", "empty": "", "a/b c.d:e-f": "é", "new": "1"}
    assert list(found.metrics) == []
    assert "t" not in found.tags


def test_long_params_are_cut(tracking):
    """A param's value keeps its first 6,000 characters, and is then the same one again."""
    run_id = tracking.create_run().run_id

    tracking.log_batch(run_id, params={"long": "x" * 7000})
    tracking.log_batch(run_id, params={"long": "x" * 7000})

    assert tracking.get_run(run_id).params == {"long": "x" * 6000}


def test_tags(tracking):
    """A tag is set, replaced and deleted; one that is not there cannot be deleted."""
    run_id = tracking.create_run(run_name="x").run_id

    tracking.log_batch(run_id, tags={"a": "1", "b": "2"})
    tracking.log_batch(run_id, tags={"a": "3"})
    tracking.delete_tag(run_id, "b")

    assert tracking.get_run(run_id).tags == {"a": "3", RUN_NAME: "x"}
    with pytest.raises(NotFound):
        tracking.delete_tag(run_id, "b")


@pytest.mark.parametrize(
    "batch",
    [
        {"metrics": [Metric(f"m{number}", 1, 1) for number in range(1001)]},
        {"params": {f"p{number}": "1" for number in range(101)}},
        {"tags": {f"t{number}": "1" for number in range(101)}},
        {"metrics": [Metric(f"m{number}", 1, 1) for number in range(950)], "tags": {f"t{n}": "1" for n in range(51)}},
        {"params": {"": "1"}},
        {"params": {"a?b": "1"}},
        {"params": {"../x": "1"}},
        {"params": {"x" * 251: "1"}},
        {"params": {"a": "b\0c"}},
        {"tags": {"/a": "1"}},
        {"tags": {"a": "\ud800"}},
        {"metrics": [Metric("", 1, 1)]},
        {"metrics": [Metric("a", 1, -1)]},
        {"metrics": [Metric("a", 1, None)]},
        {"metrics": [Metric("a", 1, 2**64)]},
        {"metrics": [Metric("a", 1, 1, 2**64)]},
        {"metrics": [Metric("a", 1, 1, 0, "nonsense")]},
    ],
    ids=str,
)
def test_refused_batches(tracking, batch):
    """A batch that is too large, or holds what no run can have, is refused as a whole."""
    made = tracking.create_run()

    with pytest.raises(InvalidParameter):
        tracking.log_batch(made.run_id, **batch)
    assert tracking.get_run(made.run_id) == made


def test_inputs(tracking):
    """A dataset is kept once for each name and digest, as it first came; so is a model that was read."""
    run_id = tracking.create_run().run_id
    model_id = tracking.create_logged_model("model").model_id
    again = DatasetInput(DATASET.name, DATASET.digest, "other", "elsewhere")
    bare = DatasetInput("bare", "0", "code", "none")

    tracking.log_inputs(run_id, [DATASET, again, bare], [ModelLink(model_id)])
    tracking.log_inputs(run_id, [again], [ModelLink(model_id)])

    found = tracking.get_run(run_id)
    assert list(found.dataset_inputs) == [DATASET, bare]
    assert list(found.model_inputs) == [ModelLink(model_id)]
    assert list(found.model_outputs) == []


def test_outputs(tracking):
    """The models that a run made are kept with their step."""
    run_id = tracking.create_run().run_id
    first, second = (tracking.create_logged_model("model", run_id).model_id for _ in range(2))

    tracking.log_outputs(run_id, [ModelLink(first, 7), ModelLink(second)])

    assert {(each.model_id, each.step) for each in tracking.get_run(run_id).model_outputs} == {(first, 7), (second, 0)}
    with pytest.raises(NotFound):
        tracking.log_outputs(run_id, [ModelLink("m-" + "0" * 32)])
    for impossible in (ModelLink("x"), ModelLink(first, 2**70)):
        with pytest.raises(InvalidParameter):
            tracking.log_outputs(run_id, [impossible])


@pytest.mark.parametrize(
    "dataset",
    [
        DatasetInput("", "1", "code", ""),
        DatasetInput("a", "", "code", ""),
        DatasetInput("a", "x" * 37, "code", ""),
        DatasetInput("a" * 501, "1", "code", ""),
        DatasetInput("a", "1", "code", "\0"),
        DatasetInput("a", "1", None, ""),
        DatasetInput("a", "1", "code", "", tags={"": "x"}),
    ],
)
def test_refused_datasets(tracking, dataset):
    """A dataset without a name or a digest, or with an impossible text, is refused."""
    made = tracking.create_run()

    with pytest.raises(InvalidParameter):
        tracking.log_inputs(made.run_id, [DATASET, dataset])
    assert tracking.get_run(made.run_id) == made


def test_history_of_logged_models(tracking):
    """What a 2.x client logs is appended to a list in a tag, without configurations."""
    run_id = tracking.create_run().run_id
    model = {
        "run_id": run_id,
        "artifact_path": "model",
        "utc_time_created": "2026-11-23 17:29:29.212207",
        "model_uuid": "65146fe87f254802a4ea276725dbac3a",
        "flavors": {"python_function": {"loader_module": "mlflow.sklearn", "config": {"secret": 1}}},
        "signature": {"inputs": "[]"},
    }

    tracking.record_logged_model(run_id, json.dumps(model))
    tracking.record_logged_model(run_id, json.dumps({**model, "artifact_path": "other"}))

    first, second = json.loads(tracking.get_run(run_id).tags[HISTORY])
    assert first == {
        "run_id": run_id,
        "artifact_path": "model",
        "utc_time_created": "2026-11-23 17:29:29.212207",
        "model_uuid": "65146fe87f254802a4ea276725dbac3a",
        "flavors": {"python_function": {"loader_module": "mlflow.sklearn"}},
    }
    assert second["artifact_path"] == "other"
    for text in ("", "nonsense", "[]", "1", "{}", '{"flavors": 1}', "[" * 100_000):
        with pytest.raises(InvalidParameter):
            tracking.record_logged_model(run_id, text)
