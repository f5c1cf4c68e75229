"""Experiments, runs and logged models as MLflow's JSON, in both directions.

What was never set is left out; a reader takes what is absent as empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from registry.artifacts import Entry
from registry.tracking import DatasetInput, Experiment, LoggedModel, Metric, ModelLink, Run

Json = dict[str, Any]

# Protobuf's JSON has no numbers for these.
_NAMES_OF_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode_pairs(pairs: Mapping[str, str]) -> list[Json]:
    """Tags or params."""
    return [{"key": key, "value": value} for key, value in pairs.items()]


def decode_pairs(pairs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {each["key"]: each.get("value", "") for each in pairs}


def encode_number(value: float) -> float | str:
    """A metric's value: what JSON cannot write as a number is written as its name."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def decode_number(value: Any) -> float:
    """A number, the name of one, or its digits in a string; `ValueError` for anything else."""
    if isinstance(value, str):
        return _NAMES_OF_NUMBERS[value] if value in _NAMES_OF_NUMBERS else _finite(float(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _finite(value: float) -> float:
    # float() also reads "nan", "inf" and "1e999", which are no spellings of JSON's.
    if not math.isfinite(value):
        raise ValueError("neither a number nor one of NaN, Infinity, -Infinity")
    return value


def encode_experiment(experiment: Experiment) -> Json:
    return {
        "experiment_id": experiment.experiment_id,
        "name": experiment.name,
        "artifact_location": experiment.artifact_location,
        "lifecycle_stage": experiment.lifecycle_stage,
        "last_update_time": experiment.last_update_time,
        "creation_time": experiment.creation_time,
        **_if_any("tags", encode_pairs(experiment.tags)),
        "workspace": "default",
    }


def decode_experiment(found: Mapping[str, Any]) -> Experiment:
    return Experiment(
        experiment_id=found["experiment_id"],
        name=found["name"],
        artifact_location=found.get("artifact_location", ""),
        lifecycle_stage=found.get("lifecycle_stage", "active"),
        creation_time=found.get("creation_time", 0),
        last_update_time=found.get("last_update_time", 0),
        tags=decode_pairs(found.get("tags", ())),
    )


def encode_metric(metric: Metric) -> Json:
    """Everything about it: what is sent to a server, and what a logged model shows."""
    return {
        **encode_measure(metric),
        **_if_any("dataset_name", metric.dataset_name),
        **_if_any("dataset_digest", metric.dataset_digest),
        **_if_any("model_id", metric.model_id),
        **_if_any("run_id", metric.run_id),
    }


def encode_measure(metric: Metric) -> Json:
    """What a run and its history show: the run is known there, and MLflow tells nothing else."""
    return {
        "key": metric.key,
        "value": encode_number(metric.value),
        "timestamp": metric.timestamp,
        "step": metric.step,
    }


def decode_metric(found: Mapping[str, Any]) -> Metric:
    return Metric(
        key=found["key"],
        value=decode_number(found.get("value", 0.0)),
        timestamp=found.get("timestamp", 0),
        step=found.get("step", 0),
        model_id=found.get("model_id") or None,
        dataset_name=found.get("dataset_name") or None,
        dataset_digest=found.get("dataset_digest") or None,
        run_id=found.get("run_id") or None,
    )


def encode_run(run: Run) -> Json:
    data = {
        **_if_any("metrics", [encode_measure(each) for each in run.metrics]),
        **_if_any("params", encode_pairs(run.params)),
        **_if_any("tags", encode_pairs(run.tags)),
    }
    inputs = {
        **_if_any("dataset_inputs", [encode_dataset_input(each) for each in run.dataset_inputs]),
        **_if_any("model_inputs", [{"model_id": each.model_id} for each in run.model_inputs]),
    }
    outputs = _if_any("model_outputs", encode_links(run.model_outputs))
    return {"info": encode_run_info(run), "data": data, "inputs": inputs, "outputs": outputs}


def encode_run_info(run: Run) -> Json:
    return {
        "run_uuid": run.run_id,
        "experiment_id": run.experiment_id,
        "run_name": run.run_name,
        "user_id": run.user_id,
        "status": run.status,
        **({} if run.start_time is None else {"start_time": run.start_time}),
        **({} if run.end_time is None else {"end_time": run.end_time}),
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": run.lifecycle_stage,
        "run_id": run.run_id,
    }


def decode_run(found: Mapping[str, Any]) -> Run:
    """From a whole run, or from one that has only its `info`."""
    info, data = found["info"], found.get("data", {})
    inputs, outputs = found.get("inputs", {}), found.get("outputs", {})
    tags = decode_pairs(data.get("tags", ()))
    return Run(
        run_id=info.get("run_id") or info["run_uuid"],
        run_name=info.get("run_name") or tags.get("mlflow.runName", ""),
        experiment_id=info["experiment_id"],
        user_id=info.get("user_id", ""),
        status=info.get("status", "RUNNING"),
        artifact_uri=info.get("artifact_uri", ""),
        lifecycle_stage=info.get("lifecycle_stage", "active"),
        start_time=info.get("start_time"),
        end_time=info.get("end_time"),
        metrics=tuple(decode_metric(each) for each in data.get("metrics", ())),
        params=decode_pairs(data.get("params", ())),
        tags=tags,
        dataset_inputs=tuple(decode_dataset_input(each) for each in inputs.get("dataset_inputs", ())),
        model_inputs=decode_links(inputs.get("model_inputs", ())),
        model_outputs=decode_links(outputs.get("model_outputs", ())),
    )


def encode_links(links: Sequence[ModelLink]) -> list[Json]:
    return [{"model_id": each.model_id, "step": each.step} for each in links]


def decode_links(links: Sequence[Mapping[str, Any]]) -> tuple[ModelLink, ...]:
    return tuple(ModelLink(each["model_id"], each.get("step", 0)) for each in links)


def encode_dataset_input(dataset: DatasetInput) -> Json:
    return {
        **_if_any("tags", encode_pairs(dataset.tags)),
        "dataset": {
            "name": dataset.name,
            "digest": dataset.digest,
            "source_type": dataset.source_type,
            "source": dataset.source,
            **_if_any("schema", dataset.schema),
            **_if_any("profile", dataset.profile),
        },
    }


def decode_dataset_input(found: Mapping[str, Any]) -> DatasetInput:
    dataset = found["dataset"]
    return DatasetInput(
        name=dataset["name"],
        digest=dataset["digest"],
        source_type=dataset.get("source_type", ""),
        source=dataset.get("source", ""),
        schema=dataset.get("schema") or None,
        profile=dataset.get("profile") or None,
        tags=decode_pairs(found.get("tags", ())),
    )


def encode_logged_model(model: LoggedModel) -> Json:
    info = {
        "model_id": model.model_id,
        "experiment_id": model.experiment_id,
        "name": model.name,
        "creation_timestamp_ms": model.creation_timestamp,
        "last_updated_timestamp_ms": model.last_updated_timestamp,
        "artifact_uri": model.artifact_uri,
        "status": model.status,
        "model_type": model.model_type or "",
        "source_run_id": model.source_run_id or "",
        **_if_any("status_message", model.status_message),
        **_if_any("tags", encode_pairs(model.tags)),
    }
    data = {
        **_if_any("params", encode_pairs(model.params)),
        **_if_any("metrics", [encode_metric(each) for each in model.metrics]),
    }
    return {"info": info, "data": data}


def decode_logged_model(found: Mapping[str, Any]) -> LoggedModel:
    info, data = found["info"], found.get("data", {})
    return LoggedModel(
        model_id=info["model_id"],
        name=info.get("name", ""),
        artifact_uri=info.get("artifact_uri", ""),
        status=info.get("status", "LOGGED_MODEL_STATUS_UNSPECIFIED"),
        creation_timestamp=info.get("creation_timestamp_ms", 0),
        last_updated_timestamp=info.get("last_updated_timestamp_ms", 0),
        source_run_id=info.get("source_run_id") or None,
        tags=decode_pairs(info.get("tags", ())),
        experiment_id=info.get("experiment_id", ""),
        model_type=info.get("model_type") or None,
        status_message=info.get("status_message") or None,
        params=decode_pairs(data.get("params", ())),
        metrics=tuple(decode_metric(each) for each in data.get("metrics", ())),
    )


def encode_listing(root_uri: str, folder: str, entries: Sequence[Entry], next_page_token: str | None = None) -> Json:
    """What lies in *folder* of the artifacts at *root_uri*; paths count from that root."""
    above = f"{folder}/" if folder else ""
    files = [
        {"path": above + each.name, "is_dir": True}
        if each.is_folder
        else {"path": above + each.name, "is_dir": False, **_if_any("file_size", each.size)}
        for each in entries
    ]
    return {"root_uri": root_uri, **_if_any("files", files), **_if_any("next_page_token", next_page_token)}


def _if_any(name: str, value: Any) -> Json:
    return {name: value} if value else {}
