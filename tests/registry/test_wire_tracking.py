"""Experiments, runs and logged models as MLflow's JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from registry.artifacts import Entry
from registry.tracking import DatasetInput, Experiment, LoggedModel, Metric, ModelLink, Run
from registry.wire.tracking import (
    decode_experiment,
    decode_logged_model,
    decode_metric,
    decode_number,
    decode_run,
    encode_experiment,
    encode_listing,
    encode_logged_model,
    encode_metric,
    encode_number,
    encode_run,
    encode_run_info,
)

RUN_ID = "8e3f37bd60c6434e95cf77ba8454f55d"
MODEL_ID = "m-5948f045dc0245b788d10f786cb2c588"

BARE_RUN = Run(RUN_ID, "calm-owl-7", "0", "ana", "RUNNING", f"mlflow-artifacts:/0/{RUN_ID}/artifacts", "active")
FULL_RUN = Run(
    RUN_ID,
    "calm-owl-7",
    "3",
    "",
    "FINISHED",
    f"mlflow-artifacts:/3/{RUN_ID}/artifacts",
    "deleted",
    start_time=0,
    end_time=9,
    metrics=(Metric("acc", 0.5, 11, 1), Metric("loss", math.inf, 12)),
    params={"depth": "2", "empty": ""},
    tags={"mlflow.runName": "calm-owl-7"},
    dataset_inputs=(
        DatasetInput("d", "x1", "local", "{}", "columns", "many", {"mlflow.data.context": "training"}),
        DatasetInput("e", "x2", "http", "{}"),
    ),
    model_inputs=(ModelLink("m-1"),),
    model_outputs=(ModelLink(MODEL_ID, 2),),
)
BARE_MODEL = LoggedModel(MODEL_ID, "m", "mlflow-artifacts:/0/x", "LOGGED_MODEL_PENDING", 1, 2)
FULL_MODEL = LoggedModel(
    MODEL_ID,
    "m",
    "mlflow-artifacts:/7/x",
    "LOGGED_MODEL_UPLOAD_FAILED",
    1,
    2,
    source_run_id=RUN_ID,
    tags={"t": "1"},
    experiment_id="7",
    model_type="tree",
    status_message="cut",
    params={"a": "1"},
    metrics=(Metric("acc", 0.5, 11, 1, MODEL_ID, "d", "x", RUN_ID),),
)


def over_the_wire(value: Any) -> Any:
    return json.loads(json.dumps(value, allow_nan=False))


@pytest.mark.parametrize("run", [BARE_RUN, FULL_RUN])
def test_a_run_survives_the_wire(run: Run) -> None:
    """What a client decodes is what the server encoded."""
    assert decode_run(over_the_wire(encode_run(run))) == run


@pytest.mark.parametrize("model", [BARE_MODEL, FULL_MODEL])
def test_a_logged_model_survives_the_wire(model: LoggedModel) -> None:
    """What a client decodes is what the server encoded."""
    assert decode_logged_model(over_the_wire(encode_logged_model(model))) == model


@pytest.mark.parametrize("tags", [{}, {"team": "fraud", "empty": ""}])
def test_an_experiment_survives_the_wire(tags: dict[str, str]) -> None:
    """What a client decodes is what the server encoded."""
    experiment = Experiment("4", "wine", "mlflow-artifacts:/4", "active", 5, 6, tags)

    assert decode_experiment(over_the_wire(encode_experiment(experiment))) == experiment


def test_a_bare_run_has_only_the_fields_that_mlflow_writes() -> None:
    """Empty parts are empty objects, times that were never set are absent, and both ids are there."""
    assert encode_run(BARE_RUN) == {
        "info": {
            "run_uuid": RUN_ID,
            "experiment_id": "0",
            "run_name": "calm-owl-7",
            "user_id": "ana",
            "status": "RUNNING",
            "artifact_uri": f"mlflow-artifacts:/0/{RUN_ID}/artifacts",
            "lifecycle_stage": "active",
            "run_id": RUN_ID,
        },
        "data": {},
        "inputs": {},
        "outputs": {},
    }


def test_a_start_at_the_epoch_is_not_an_absent_one() -> None:
    """A start time of 0 is written."""
    assert encode_run_info(FULL_RUN)["start_time"] == 0


def test_a_run_shows_of_a_metric_only_what_mlflow_shows() -> None:
    """The latest metrics of a run have no ids: the run is known."""
    run = encode_run(FULL_RUN)

    assert run["data"]["metrics"][0] == {"key": "acc", "value": 0.5, "timestamp": 11, "step": 1}
    assert run["data"]["metrics"][1]["value"] == "Infinity"


def test_a_logged_models_metric_says_what_it_was_measured_on() -> None:
    """Run, model and dataset stand in it."""
    assert encode_logged_model(FULL_MODEL)["data"]["metrics"] == [
        {
            "key": "acc",
            "value": 0.5,
            "timestamp": 11,
            "step": 1,
            "dataset_name": "d",
            "dataset_digest": "x",
            "model_id": MODEL_ID,
            "run_id": RUN_ID,
        }
    ]


def test_a_logged_model_without_run_and_type_shows_them_empty() -> None:
    """MLflow writes these two as empty strings and leaves the rest out."""
    info = encode_logged_model(BARE_MODEL)["info"]

    assert (info["source_run_id"], info["model_type"]) == ("", "")
    assert not {"status_message", "tags"} & info.keys()


@pytest.mark.parametrize(("value", "written"), [(math.nan, "NaN"), (math.inf, "Infinity"), (-math.inf, "-Infinity")])
def test_numbers_that_json_lacks_travel_as_their_names(value: float, written: str) -> None:
    """NaN and the infinities are strings, as in protobuf's JSON."""
    metric = decode_metric(over_the_wire(encode_metric(Metric("m", value, 1))))

    assert encode_number(value) == written
    assert metric.value == value or (math.isnan(metric.value) and math.isnan(value))


@pytest.mark.parametrize("value", ["1e999", "nan", "inf", "x", "", True, None, [], {}])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """Only numbers, their digits, and the three names are read."""
    with pytest.raises(ValueError, match=r"number|float"):
        decode_number(value)


@pytest.mark.parametrize(("value", "read"), [(1, 1.0), ("0.5", 0.5), (-2.5e10, -2.5e10)])
def test_numbers_are_read_also_from_strings(value: Any, read: float) -> None:
    """A value in quotes counts as the number it spells."""
    assert decode_number(value) == read


def test_a_run_of_a_very_old_server_is_read() -> None:
    """`run_uuid` and the name's tag stand in for what such a server does not write."""
    tags = [{"key": "mlflow.runName", "value": "calm-owl-7"}]
    run = decode_run({"info": {"run_uuid": RUN_ID, "experiment_id": "0"}, "data": {"tags": tags}})

    assert (run.run_id, run.run_name, run.status) == (RUN_ID, "calm-owl-7", "RUNNING")


def test_a_listing_counts_its_paths_from_the_root() -> None:
    """Folders have no size, nor have empty files."""
    entries = [Entry("deep", True), Entry("empty", False, 0), Entry("f.txt", False, 5)]

    assert encode_listing("mlflow-artifacts:/0/r/artifacts", "d", entries) == {
        "root_uri": "mlflow-artifacts:/0/r/artifacts",
        "files": [
            {"path": "d/deep", "is_dir": True},
            {"path": "d/empty", "is_dir": False},
            {"path": "d/f.txt", "is_dir": False, "file_size": 5},
        ],
    }
