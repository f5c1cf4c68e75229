"""`SqlTracking`: checks what it is given, then runs one function in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from registry.errors import InvalidParameter
from registry.names import (
    MAX_NAME_CHARS,
    MAX_RUN_ID_CHARS,
    check_model_id,
    check_optional_text,
    check_tag_key,
    check_tag_value,
    check_text,
    shown,
)
from registry.page import Page
from registry.sql import experiments, logged_models, runs
from registry.sql.checks import (
    MAX_DATASETS,
    MAX_RUN_NAME_CHARS,
    MAX_USER_CHARS,
    check_artifact_location,
    check_batch,
    check_dataset,
    check_experiment_id,
    check_experiment_ids,
    check_experiment_name,
    check_link,
    check_metric,
    check_params,
    check_some_tags,
    check_status,
    check_time,
    check_view_type,
)
from registry.sql.database import Database
from registry.sql.experiment_search import experiment_query, find_experiments
from registry.sql.logged_model_search import find_logged_models, logged_model_query
from registry.sql.paging import check_max_results, read_page_token
from registry.sql.run_search import find_runs, run_query
from registry.tracking import (
    ACTIVE,
    DEFAULT_EXPERIMENT,
    DELETED,
    DatasetInput,
    Experiment,
    LoggedModel,
    Metric,
    ModelLink,
    Run,
)

MAX_HISTORY_PAGE = 1_000_000
MAX_MODEL_JSON_CHARS = 10_000_000

_FORBIDDEN_IN_NAMES = "/:.%\"'"


class SqlTracking:
    """`Tracking` in the registry's own database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Experiments

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        checked = check_experiment_name(name), check_artifact_location(artifact_location), check_some_tags(tags)
        return self._database.write(experiments.create_experiment, *checked)

    def get_experiment(self, experiment_id: str) -> Experiment:
        return self._database.read(experiments.read_experiment, check_experiment_id(experiment_id))

    def get_experiment_by_name(self, name: str) -> Experiment:
        return self._database.read(experiments.read_experiment_by_name, check_experiment_name(name))

    def search_experiments(
        self,
        view_type: str = "ACTIVE_ONLY",
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[Experiment]:
        query = experiment_query(check_view_type(view_type), max_results, filter_string, order_by, page_token)
        return self._database.read(find_experiments, query)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        checked = check_experiment_id(experiment_id), check_experiment_name(new_name)
        self._database.write(experiments.rename_experiment, *checked)

    def delete_experiment(self, experiment_id: str) -> None:
        self._database.write(experiments.move_experiment, check_experiment_id(experiment_id), DELETED)

    def restore_experiment(self, experiment_id: str) -> None:
        self._database.write(experiments.move_experiment, check_experiment_id(experiment_id), ACTIVE)

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        checked = check_experiment_id(experiment_id), check_tag_key(key), check_tag_value(value)
        self._database.write(experiments.set_experiment_tag, *checked)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        checked = check_experiment_id(experiment_id), check_tag_key(key)
        self._database.write(experiments.delete_experiment_tag, *checked)

    # Runs

    def create_run(
        self,
        experiment_id: str = DEFAULT_EXPERIMENT,
        start_time: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_name: str | None = None,
        user_id: str | None = None,
    ) -> Run:
        return self._database.write(
            runs.create_run,
            check_experiment_id(experiment_id),
            check_time(start_time, "start_time"),
            check_some_tags(tags),
            check_optional_text(run_name, "run name", MAX_RUN_NAME_CHARS),
            check_optional_text(user_id, "user id", MAX_USER_CHARS),
        )

    def get_run(self, run_id: str) -> Run:
        return self._database.snapshot(runs.read_run, _check_run_id(run_id))

    def update_run(
        self, run_id: str, status: str | None = None, name: str | None = None, end_time: int | None = None
    ) -> Run:
        return self._database.write(
            runs.update_run,
            _check_run_id(run_id),
            check_status(status),
            check_optional_text(name, "run name", MAX_RUN_NAME_CHARS),
            check_time(end_time, "end_time"),
        )

    def delete_run(self, run_id: str) -> None:
        self._database.write(runs.move_run, _check_run_id(run_id), DELETED)

    def restore_run(self, run_id: str) -> None:
        self._database.write(runs.move_run, _check_run_id(run_id), ACTIVE)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        run_view_type: str = "ACTIVE_ONLY",
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[Run]:
        checked = check_experiment_ids(experiment_ids), check_view_type(run_view_type)
        query = run_query(*checked, filter_string, max_results, order_by, page_token)
        return self._database.snapshot(find_runs, query)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        check_batch(metrics, params or {}, tags or {})
        checked = [check_metric(each) for each in metrics], check_params(params), check_some_tags(tags)
        self._database.write(runs.log_batch, _check_run_id(run_id), *checked)

    def delete_tag(self, run_id: str, key: str) -> None:
        self._database.write(runs.delete_tag, _check_run_id(run_id), check_tag_key(key))

    def get_metric_history(
        self, run_id: str, key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Metric]:
        limit = None if max_results is None else check_max_results(max_results, MAX_HISTORY_PAGE)
        offset = read_page_token(page_token, "offset") or 0
        checked = _check_run_id(run_id), check_tag_key(key)
        return self._database.snapshot(runs.read_metric_history, *checked, limit, offset)

    def log_inputs(self, run_id: str, datasets: Sequence[DatasetInput] = (), models: Sequence[ModelLink] = ()) -> None:
        if len(datasets) > MAX_DATASETS or len(models) > MAX_DATASETS:
            raise InvalidParameter(f"a run takes at most {MAX_DATASETS} datasets and as many models in one call")
        checked = [check_dataset(each) for each in datasets], [check_link(each) for each in models]
        self._database.write(runs.log_inputs, _check_run_id(run_id), *checked)

    def log_outputs(self, run_id: str, models: Sequence[ModelLink]) -> None:
        if len(models) > MAX_DATASETS:
            raise InvalidParameter(f"a run takes at most {MAX_DATASETS} models in one call")
        self._database.write(runs.log_outputs, _check_run_id(run_id), [check_link(each) for each in models])

    def record_logged_model(self, run_id: str, model_json: str) -> None:
        model = _read_model_json(check_text(model_json, "model_json", MAX_MODEL_JSON_CHARS))
        self._database.write(runs.record_logged_model, _check_run_id(run_id), model)

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
        return self._database.write(
            logged_models.create_logged_model,
            _check_logged_name(name),
            check_optional_text(source_run_id, "run id", MAX_RUN_ID_CHARS),
            None if experiment_id is None else check_experiment_id(experiment_id),
            check_some_tags(tags),
            check_params(params),
            check_optional_text(model_type, "model type", MAX_NAME_CHARS),
        )

    def finalize_logged_model(self, model_id: str, status: str = logged_models.READY) -> LoggedModel:
        if status not in logged_models.ENDS:
            raise InvalidParameter(f"a logged model ends as {' or '.join(logged_models.ENDS)}, not as {shown(status)}")
        return self._database.write(logged_models.finalize_logged_model, check_model_id(model_id), status)

    def get_logged_model(self, model_id: str) -> LoggedModel:
        return self._database.snapshot(logged_models.read_logged_model, check_model_id(model_id))

    def search_logged_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        max_results: int = 100,
        order_by: Sequence[Mapping[str, object]] | None = None,
        page_token: str | None = None,
        datasets: Sequence[Mapping[str, object]] | None = None,
    ) -> Page[LoggedModel]:
        checked = check_experiment_ids(experiment_ids)
        query = logged_model_query(checked, filter_string, max_results, order_by, page_token, datasets)
        return self._database.snapshot(find_logged_models, query)

    def set_logged_model_tags(self, model_id: str, tags: Mapping[str, str]) -> None:
        self._database.write(logged_models.set_logged_model_tags, check_model_id(model_id), check_some_tags(tags))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        self._database.write(logged_models.delete_logged_model_tag, check_model_id(model_id), check_tag_key(key))

    def log_logged_model_params(self, model_id: str, params: Mapping[str, str]) -> None:
        self._database.write(logged_models.log_logged_model_params, check_model_id(model_id), check_params(params))

    def delete_logged_model(self, model_id: str) -> None:
        self._database.write(logged_models.delete_logged_model, check_model_id(model_id))


def _check_run_id(run_id: object) -> str:
    return check_text(run_id, "run id", MAX_RUN_ID_CHARS)


def _check_logged_name(name: str | None) -> str | None:
    if name is None or name == "":
        return None
    check_text(name, "logged model name", MAX_NAME_CHARS)
    if not name.strip() or any(each in _FORBIDDEN_IN_NAMES for each in name):
        raise InvalidParameter(f"invalid logged model name {shown(name)}: not blank, and none of {_FORBIDDEN_IN_NAMES}")
    return name


def _read_model_json(text: str) -> dict[str, Any]:
    """What an MLmodel file says of itself, as far as a run keeps it: no signature, no flavor's configuration."""
    try:
        model = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidParameter("model_json is not JSON: send what the MLmodel file holds, as a JSON object") from None
    if not isinstance(model, dict) or not isinstance(model.get("flavors", {}), dict):
        raise InvalidParameter("model_json must be a JSON object, and its flavors another")
    kept = {key: model[key] for key in ("run_id", "artifact_path", "utc_time_created", "model_uuid") if key in model}
    missing = [each for each in ("artifact_path", "flavors", "utc_time_created", "run_id") if each not in model]
    if missing:
        raise InvalidParameter(f"model_json lacks {', '.join(missing)}")
    flavors = {
        name: {key: value for key, value in flavor.items() if key != "config"} if isinstance(flavor, dict) else flavor
        for name, flavor in model["flavors"].items()
    }
    return {**kept, "flavors": flavors}
