"""What experiments, runs, metrics and params may be: limits and messages are MLflow's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from registry.artifacts import check_path
from registry.errors import InvalidParameter
from registry.names import check_model_id, check_tag_key, check_tag_value, check_text, shown
from registry.sql.locations import check_location, store_path
from registry.tracking import ACTIVE, DELETED, DatasetInput, Metric, ModelLink

MAX_EXPERIMENT_NAME_CHARS = 500
MAX_RUN_NAME_CHARS = 8_000
MAX_USER_CHARS = 256
MAX_PARAM_CHARS = 6_000
MAX_METRICS = 1_000
MAX_PARAMS = 100
MAX_TAGS = 100
MAX_ENTITIES = 1_000
MAX_DATASETS = 1_000
MAX_DATASET_NAME_CHARS = 500
MAX_DATASET_DIGEST_CHARS = 36
MAX_DATASET_SOURCE_CHARS = 65_535
MAX_DATASET_SCHEMA_CHARS = 1_048_575
MAX_DATASET_PROFILE_CHARS = 16_777_215
MAX_INTEGER = 2**63 - 1

RUN_STATUSES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
STAGES_OF_VIEW = {"ACTIVE_ONLY": (ACTIVE,), "DELETED_ONLY": (DELETED,), "ALL": (ACTIVE, DELETED)}


def check_experiment_name(name: object) -> str:
    text = check_text(name, "experiment name", MAX_EXPERIMENT_NAME_CHARS)
    if not text.strip():
        raise InvalidParameter(f"invalid experiment name {shown(text)}: it must not be blank")
    return text


def check_experiment_id(experiment_id: object) -> int:
    """An experiment's number, given as ASCII digits or as an int."""
    text = str(experiment_id) if isinstance(experiment_id, int) else experiment_id
    if isinstance(text, str) and 0 < len(text) <= 18 and text.isascii() and text.isdecimal():
        return int(text)
    raise InvalidParameter(f"invalid experiment ID {shown(experiment_id)}: it must be a whole number")


def check_experiment_ids(experiment_ids: object) -> list[int]:
    if isinstance(experiment_ids, str) or not isinstance(experiment_ids, Sequence):
        raise InvalidParameter(f"experiment_ids must be a list, such as ['0'], got {shown(experiment_ids)}")
    return list(dict.fromkeys(check_experiment_id(each) for each in experiment_ids))


def check_artifact_location(location: str | None) -> str | None:
    """A place in this registry's own store, or None for the one that an experiment gets by itself."""
    if location is None or location == "":
        return None
    text = check_text(location, "artifact location", 2_000)
    _, decoded = check_location(text, "artifact location")
    path = store_path(decoded)
    if path is None or decoded != text:
        raise InvalidParameter(
            f"artifact location {shown(text)} lies outside of this registry's artifacts: leave it out, "
            "or give mlflow-artifacts:/<path>"
        )
    return f"mlflow-artifacts:/{check_path(path)}"


def check_view_type(view_type: object) -> tuple[str, ...]:
    """The lifecycle stages that a view shows."""
    if not isinstance(view_type, str) or view_type not in STAGES_OF_VIEW:
        raise InvalidParameter(f"invalid view type {shown(view_type)}: it must be one of {', '.join(STAGES_OF_VIEW)}")
    return STAGES_OF_VIEW[view_type]


def check_status(status: str | None) -> str | None:
    if status is not None and status not in RUN_STATUSES:
        raise InvalidParameter(f"invalid run status {shown(status)}: it must be one of {', '.join(RUN_STATUSES)}")
    return status


def check_integer(value: object, what: str) -> int:
    """A number that a 64-bit column holds."""
    if isinstance(value, bool) or not isinstance(value, int) or not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise InvalidParameter(f"{what} must be a 64-bit integer, got {shown(value)}")
    return value


def check_time(value: object, what: str) -> int | None:
    """Milliseconds since the epoch."""
    if value is None:
        return None
    if check_integer(value, what) < 0:
        raise InvalidParameter(f"{what} must be a non-negative number of milliseconds since 1970, got {value}")
    return check_integer(value, what)


def check_metric(metric: Metric) -> Metric:
    """A metric whose value is a float. Infinite and undefined values are values too."""
    if isinstance(metric.value, bool) or not isinstance(metric.value, int | float):
        raise InvalidParameter(
            f"metric {shown(metric.key)} (timestamp={metric.timestamp}) has value {shown(metric.value)}: "
            "specify a valid double (64-bit floating point)"
        )
    try:
        value = float(metric.value)
    except OverflowError:
        raise InvalidParameter(f"the value of metric {shown(metric.key)} is larger than a double can be") from None
    check_tag_key(metric.key)
    check_time(metric.timestamp, f"the timestamp of metric {shown(metric.key)}")
    check_integer(metric.step, f"the step of metric {shown(metric.key)}")
    if metric.timestamp is None:
        raise InvalidParameter(f"metric {shown(metric.key)} has no timestamp")
    if metric.model_id is not None:
        check_model_id(metric.model_id)
    for each in (metric.dataset_name, metric.dataset_digest):
        if each is not None:
            check_text(each, "dataset of a metric", MAX_DATASET_NAME_CHARS)
    return replace(metric, value=value)


def check_params(params: Mapping[str, Any] | None) -> dict[str, str]:
    """Params to keep. A value longer than MAX_PARAM_CHARS is cut, as MLflow's server does."""
    return {
        check_tag_key(key): check_text(str(value)[:MAX_PARAM_CHARS], "param value", MAX_PARAM_CHARS)
        for key, value in (params or {}).items()
    }


def check_some_tags(tags: Mapping[str, Any] | None) -> dict[str, str]:
    return {check_tag_key(key): check_tag_value(value) for key, value in (tags or {}).items()}


def check_batch(metrics: Sequence[Metric], params: Mapping[str, Any], tags: Mapping[str, Any]) -> None:
    """What one call may hold."""
    total = len(metrics) + len(params) + len(tags)
    for count, limit, what in (
        (len(metrics), MAX_METRICS, "metrics"),
        (len(params), MAX_PARAMS, "params"),
        (len(tags), MAX_TAGS, "tags"),
        (total, MAX_ENTITIES, "metrics, params, and tags"),
    ):
        if count > limit:
            raise InvalidParameter(
                f"A batch logging request can contain at most {limit} {what}. Got {count} {what}: "
                "split them across several requests"
            )


def check_dataset(dataset: DatasetInput) -> DatasetInput:
    for value, what, limit in (
        (dataset.name, "dataset name", MAX_DATASET_NAME_CHARS),
        (dataset.digest, "dataset digest", MAX_DATASET_DIGEST_CHARS),
        (dataset.source_type, "dataset source type", MAX_DATASET_DIGEST_CHARS),
        (dataset.source, "dataset source", MAX_DATASET_SOURCE_CHARS),
        (dataset.schema or "", "dataset schema", MAX_DATASET_SCHEMA_CHARS),
        (dataset.profile or "", "dataset profile", MAX_DATASET_PROFILE_CHARS),
    ):
        check_text(value, what, limit)
    for value, what in ((dataset.name, "name"), (dataset.digest, "digest")):
        if not value:
            raise InvalidParameter(f"a dataset has no {what}")
    return replace(dataset, tags=check_some_tags(dataset.tags))


def check_link(link: ModelLink) -> ModelLink:
    check_integer(link.step, "the step of a logged model")
    return replace(link, model_id=check_model_id(link.model_id))
