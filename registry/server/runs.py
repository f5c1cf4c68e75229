"""The routes of runs, their metrics and their artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.core import ServedRegistry
from registry.errors import InvalidParameter
from registry.server.experiments import page_of
from registry.server.listing import list_artifacts
from registry.server.transport import Fields, Handler
from registry.tracking import DatasetInput, Metric, ModelLink
from registry.wire.tracking import encode_measure, encode_run, encode_run_info

MAX_RESULTS = 1_000


def create(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    run = registry.tracking.create_run(
        fields.text("experiment_id"),
        fields.integer("start_time"),
        fields.tags("tags"),
        fields.optional_text("run_name") or None,
        fields.optional_text("user_id") or None,
    )
    answer = encode_run(run)
    # MLflow shows what a new run reads, and not what it makes.
    del answer["outputs"]
    return {"run": answer}


def get(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    return {"run": encode_run(registry.tracking.get_run(_run_id(fields)))}


def update(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    run = registry.tracking.update_run(
        _run_id(fields),
        fields.optional_text("status") or None,
        fields.optional_text("run_name") or None,
        fields.integer("end_time"),
    )
    return {"run_info": encode_run_info(run)}


def delete(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.delete_run(fields.text("run_id"))
    return {}


def restore(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.restore_run(fields.text("run_id"))
    return {}


def search(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    max_results = fields.integer("max_results", MAX_RESULTS)
    page = registry.tracking.search_runs(
        fields.texts("experiment_ids"),
        fields.optional_text("filter"),
        fields.optional_text("run_view_type") or "ACTIVE_ONLY",
        MAX_RESULTS if max_results is None else max_results,
        fields.texts("order_by"),
        fields.optional_text("page_token"),
    )
    return page_of("runs", [encode_run(each) for each in page], page.token)


def log_metric(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.log_batch(_run_id(fields), metrics=[_metric(fields)])
    return {}


def log_parameter(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    param = {fields.text("key"): fields.optional_text("value") or ""}
    registry.tracking.log_batch(_run_id(fields), params=param)
    return {}


def set_tag(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    tag = {fields.text("key"): fields.optional_text("value") or ""}
    registry.tracking.log_batch(_run_id(fields), tags=tag)
    return {}


def delete_tag(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.delete_tag(_run_id(fields), fields.text("key"))
    return {}


def log_batch(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.log_batch(
        fields.text("run_id"),
        [_metric(each) for each in fields.objects("metrics")],
        _params(fields.objects("params")),
        fields.tags("tags"),
    )
    return {}


def log_inputs(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.log_inputs(
        fields.text("run_id"),
        [_dataset(each) for each in fields.objects("datasets")],
        [ModelLink(each.text("model_id")) for each in fields.objects("models")],
    )
    return {}


def log_outputs(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    links = [ModelLink(each.text("model_id"), each.integer("step") or 0) for each in fields.objects("models")]
    registry.tracking.log_outputs(fields.text("run_id"), links)
    return {}


def log_model(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.record_logged_model(fields.text("run_id"), fields.text("model_json"))
    return {}


def get_history(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    page = registry.tracking.get_metric_history(
        _run_id(fields),
        fields.text("metric_key"),
        fields.integer("max_results"),
        fields.optional_text("page_token"),
    )
    return page_of("metrics", [encode_measure(each) for each in page], page.token)


def list_files(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    run = registry.tracking.get_run(_run_id(fields))
    return list_artifacts(registry.artifacts, run.artifact_uri, fields.optional_text("path"))


def _run_id(fields: Fields) -> str:
    """Clients before 1.0 know a run's id as `run_uuid`; today's send both."""
    return fields.optional_text("run_id") or fields.optional_text("run_uuid") or fields.text("run_id")


def _metric(fields: Fields) -> Metric:
    return Metric(
        fields.text("key"),
        fields.number("value"),
        _timestamp(fields),
        fields.integer("step") or 0,
        fields.optional_text("model_id") or None,
        fields.optional_text("dataset_name") or None,
        fields.optional_text("dataset_digest") or None,
    )


def _timestamp(fields: Fields) -> int:
    timestamp = fields.integer("timestamp")
    if timestamp is None:
        raise InvalidParameter("Missing value for required parameter 'timestamp': when was it measured?")
    return timestamp


def _params(pairs: list[Fields]) -> dict[str, str]:
    params: dict[str, str] = {}
    for each in pairs:
        key = each.text("key")
        if key in params:
            raise InvalidParameter(f"duplicate parameter keys have been submitted: {key!r}; send one value for each")
        params[key] = each.optional_text("value") or ""
    return params


def _dataset(fields: Fields) -> DatasetInput:
    dataset = fields.object("dataset")
    return DatasetInput(
        dataset.text("name"),
        dataset.text("digest"),
        dataset.text("source_type"),
        dataset.text("source"),
        dataset.optional_text("schema") or None,
        dataset.optional_text("profile") or None,
        fields.tags("tags"),
    )


ROUTES: Mapping[tuple[str, str], Handler] = {
    ("POST", "runs/create"): create,
    ("GET", "runs/get"): get,
    ("POST", "runs/update"): update,
    ("POST", "runs/delete"): delete,
    ("POST", "runs/restore"): restore,
    ("POST", "runs/search"): search,
    ("POST", "runs/log-metric"): log_metric,
    ("POST", "runs/log-parameter"): log_parameter,
    ("POST", "runs/set-tag"): set_tag,
    ("POST", "runs/delete-tag"): delete_tag,
    ("POST", "runs/log-batch"): log_batch,
    ("POST", "runs/log-inputs"): log_inputs,
    ("POST", "runs/log-model"): log_model,
    ("POST", "runs/outputs"): log_outputs,
    ("GET", "metrics/get-history"): get_history,
    ("GET", "artifacts/list"): list_files,
}
