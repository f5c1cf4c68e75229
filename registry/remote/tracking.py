"""`RemoteTracking`: experiments, runs and logged models behind a server's REST API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time
from typing import Any
from urllib.parse import quote

from registry.names import check_model_id
from registry.page import Page
from registry.remote.client import RestClient, decoding
from registry.remote.fields import objects, optional_text, page_limit, search_fields, tag_pairs, text, texts
from registry.tracking import DEFAULT_EXPERIMENT, DatasetInput, Experiment, LoggedModel, Metric, ModelLink, Run
from registry.wire.tracking import (
    decode_experiment,
    decode_logged_model,
    decode_metric,
    decode_run,
    encode_dataset_input,
    encode_links,
    encode_metric,
)

# What a server gives at most of a metric's history in one page.
HISTORY_PAGE = 25_000


class RemoteTracking:
    """`Tracking` over HTTP."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    # Experiments

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        location = optional_text(artifact_location, "artifact location")
        fields = {"name": text(name, "experiment name"), "artifact_location": location, "tags": tag_pairs(tags)}
        found = self._rest.call("POST", "experiments/create", fields)
        with decoding("an experiment"):
            return str(found["experiment_id"])

    def get_experiment(self, experiment_id: str) -> Experiment:
        return self._experiment("experiments/get", {"experiment_id": text(experiment_id, "experiment id")})

    def get_experiment_by_name(self, name: str) -> Experiment:
        return self._experiment("experiments/get-by-name", {"experiment_name": text(name, "experiment name")})

    def search_experiments(
        self,
        view_type: str = "ACTIVE_ONLY",
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[Experiment]:
        fields = search_fields(filter_string, max_results, order_by, page_token)
        fields["view_type"] = text(view_type, "view type")
        found = self._rest.call("POST", "experiments/search", fields, is_safe=True)
        with decoding("experiments"):
            experiments = [decode_experiment(each) for each in found.get("experiments", ())]
            return Page(experiments, found.get("next_page_token") or None)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        self._change_experiment("update", experiment_id, new_name=text(new_name, "experiment name"))

    def delete_experiment(self, experiment_id: str) -> None:
        self._change_experiment("delete", experiment_id)

    def restore_experiment(self, experiment_id: str) -> None:
        self._change_experiment("restore", experiment_id)

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self._change_experiment("set-experiment-tag", experiment_id, key=text(key, "tag key"), value=str(value))

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self._change_experiment("delete-experiment-tag", experiment_id, key=text(key, "tag key"))

    # Runs

    def create_run(
        self,
        experiment_id: str = DEFAULT_EXPERIMENT,
        start_time: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_name: str | None = None,
        user_id: str | None = None,
    ) -> Run:
        fields = {
            "experiment_id": text(experiment_id, "experiment id"),
            "start_time": round(time() * 1000) if start_time is None else start_time,
            "tags": tag_pairs(tags),
            "run_name": optional_text(run_name, "run name"),
            "user_id": optional_text(user_id, "user id"),
        }
        found = self._rest.call("POST", "runs/create", fields)
        with decoding("a run"):
            return decode_run(found["run"])

    def get_run(self, run_id: str) -> Run:
        found = self._rest.call("GET", "runs/get", _run(run_id))
        with decoding("a run"):
            return decode_run(found["run"])

    def update_run(
        self, run_id: str, status: str | None = None, name: str | None = None, end_time: int | None = None
    ) -> Run:
        fields = {
            **_run(run_id),
            "status": optional_text(status, "status"),
            "run_name": optional_text(name, "run name"),
            "end_time": end_time,
        }
        self._rest.call("POST", "runs/update", fields)
        return self.get_run(run_id)  # the answer has no params, metrics and tags

    def delete_run(self, run_id: str) -> None:
        self._rest.call("POST", "runs/delete", {"run_id": text(run_id, "run id")})

    def restore_run(self, run_id: str) -> None:
        self._rest.call("POST", "runs/restore", {"run_id": text(run_id, "run id")})

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        run_view_type: str = "ACTIVE_ONLY",
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[Run]:
        fields = search_fields(filter_string, max_results, order_by, page_token)
        fields["experiment_ids"] = texts(experiment_ids, "experiment_ids", "experiment id")
        fields["run_view_type"] = text(run_view_type, "view type")
        found = self._rest.call("POST", "runs/search", fields, is_safe=True)
        with decoding("runs"):
            runs = [decode_run(each) for each in found.get("runs", ())]
            return Page(runs, found.get("next_page_token") or None)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        fields = {
            "run_id": text(run_id, "run id"),
            "metrics": [encode_metric(each) for each in metrics],
            "params": tag_pairs(params or {}),
            "tags": tag_pairs(tags or {}),
        }
        self._rest.call("POST", "runs/log-batch", fields)

    def delete_tag(self, run_id: str, key: str) -> None:
        self._rest.call("POST", "runs/delete-tag", {"run_id": text(run_id, "run id"), "key": text(key, "tag key")})

    def get_metric_history(
        self, run_id: str, key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Metric]:
        """Without *max_results* all of it, also from a server that gives a page at a time."""
        token, all_of_it = optional_text(page_token, "page token"), max_results is None
        limit = HISTORY_PAGE if max_results is None else page_limit(max_results)
        metrics: list[Metric] = []
        while True:
            fields = {**_run(run_id), "metric_key": text(key, "metric key"), "max_results": limit, "page_token": token}
            found = self._rest.call("GET", "metrics/get-history", fields)
            with decoding("a metric's history"):
                metrics += [decode_metric(each) for each in found.get("metrics", ())]
                token = found.get("next_page_token") or None
            if token is None or not all_of_it:
                return Page(metrics, token)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput] = (), models: Sequence[ModelLink] = ()) -> None:
        fields = {
            "run_id": text(run_id, "run id"),
            "datasets": [encode_dataset_input(each) for each in datasets],
            "models": [{"model_id": each.model_id} for each in models],
        }
        self._rest.call("POST", "runs/log-inputs", fields)

    def log_outputs(self, run_id: str, models: Sequence[ModelLink]) -> None:
        self._rest.call("POST", "runs/outputs", {"run_id": text(run_id, "run id"), "models": encode_links(models)})

    def record_logged_model(self, run_id: str, model_json: str) -> None:
        fields = {"run_id": text(run_id, "run id"), "model_json": text(model_json, "model")}
        self._rest.call("POST", "runs/log-model", fields)

    # Logged models

    def create_logged_model(
        self,
        name: str | None,
        source_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        experiment_id: str | None = None,
        params: Mapping[str, str] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        if experiment_id is None:
            experiment_id = DEFAULT_EXPERIMENT if source_run_id is None else self.get_run(source_run_id).experiment_id
        fields = {
            "experiment_id": text(experiment_id, "experiment id"),
            "name": optional_text(name, "logged model's name"),
            "source_run_id": optional_text(source_run_id, "run id"),
            "tags": tag_pairs(tags),
            "params": tag_pairs(params),
            "model_type": optional_text(model_type, "model type"),
        }
        return self._logged(self._rest.call("POST", "logged-models", fields))

    def finalize_logged_model(self, model_id: str, status: str = "LOGGED_MODEL_READY") -> LoggedModel:
        fields = {"model_id": text(model_id, "model id"), "status": text(status, "status")}
        return self._logged(self._rest.call("PATCH", _logged_route(model_id), fields))

    def get_logged_model(self, model_id: str) -> LoggedModel:
        return self._logged(self._rest.call("GET", _logged_route(model_id)))

    def search_logged_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        max_results: int = 100,
        order_by: Sequence[Mapping[str, object]] | None = None,
        page_token: str | None = None,
        datasets: Sequence[Mapping[str, object]] | None = None,
    ) -> Page[LoggedModel]:
        fields = search_fields(filter_string, max_results, None, page_token)
        fields["experiment_ids"] = texts(experiment_ids, "experiment_ids", "experiment id")
        fields["order_by"] = objects(order_by, "order_by")
        fields["datasets"] = objects(datasets, "datasets")
        found = self._rest.call("POST", "logged-models/search", fields, is_safe=True)
        with decoding("logged models"):
            models = [decode_logged_model(each) for each in found.get("models", ())]
            return Page(models, found.get("next_page_token") or None)

    def set_logged_model_tags(self, model_id: str, tags: Mapping[str, str]) -> None:
        self._rest.call("PATCH", f"{_logged_route(model_id)}/tags", {"tags": tag_pairs(tags)})

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self._rest.call("DELETE", f"{_logged_route(model_id)}/tags/{quote(text(key, 'tag key'), safe='')}")

    def log_logged_model_params(self, model_id: str, params: Mapping[str, str]) -> None:
        self._rest.call("POST", f"{_logged_route(model_id)}/params", {"params": tag_pairs(params)})

    def delete_logged_model(self, model_id: str) -> None:
        self._rest.call("DELETE", _logged_route(model_id))

    # Shared

    def _experiment(self, route: str, fields: Mapping[str, Any]) -> Experiment:
        found = self._rest.call("GET", route, fields)
        with decoding("an experiment"):
            return decode_experiment(found["experiment"])

    def _change_experiment(self, action: str, experiment_id: str, **fields: str) -> None:
        sent = {"experiment_id": text(experiment_id, "experiment id"), **fields}
        self._rest.call("POST", f"experiments/{action}", sent)

    def _logged(self, found: Mapping[str, Any]) -> LoggedModel:
        with decoding("a logged model"):
            return decode_logged_model(found["model"])


def _run(run_id: object) -> dict[str, str]:
    return {"run_id": text(run_id, "run id")}


def _logged_route(model_id: object) -> str:
    return f"logged-models/{check_model_id(model_id)}"
