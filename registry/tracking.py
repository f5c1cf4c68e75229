"""What training clients need beside the registry: experiments, runs, and logged models.

Attribute names are MLflow's. Times are milliseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from registry.page import Page

ACTIVE = "active"
DELETED = "deleted"
DEFAULT_EXPERIMENT = "0"


@dataclass(frozen=True, slots=True)
class Experiment:
    """A name under which runs are kept."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    creation_time: int
    last_update_time: int
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured value. `model_id` and the dataset's names say what it was measured on, where that is known."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetInput:
    """A dataset that a run read. `schema` and `profile` are the client's own text."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelLink:
    """A logged model that a run read or made, and at which step."""

    model_id: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what was done, with which params, and what came out. `metrics` holds the latest of each key."""

    run_id: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    artifact_uri: str
    lifecycle_stage: str
    start_time: int | None = None
    end_time: int | None = None
    metrics: Sequence[Metric] = ()
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    dataset_inputs: Sequence[DatasetInput] = ()
    model_inputs: Sequence[ModelLink] = ()
    model_outputs: Sequence[ModelLink] = ()


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model's files under an id, before and beside any registration."""

    model_id: str
    name: str
    artifact_uri: str
    status: str
    creation_timestamp: int
    last_updated_timestamp: int
    source_run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment_id: str = DEFAULT_EXPERIMENT
    model_type: str | None = None
    status_message: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Sequence[Metric] = ()

    @property
    def model_uri(self) -> str:
        return f"models:/{self.model_id}"


class Tracking(Protocol):
    """Experiments, runs and logged models. Method names are MlflowClient's or its stores'.

    Raises `NotFound` for what is not there and `InvalidParameter` for what can be none. A refused call
    changes nothing. *view_type* is `ACTIVE_ONLY`, `DELETED_ONLY` or `ALL`.
    """

    # Experiments

    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Mapping[str, str] | None = None
    ) -> str:
        """Make one; gives its id. *artifact_location* must lie in this registry's own store."""

    def get_experiment(self, experiment_id: str) -> Experiment: ...

    def get_experiment_by_name(self, name: str) -> Experiment:
        """Also one that was deleted."""

    def search_experiments(
        self,
        view_type: str = "ACTIVE_ONLY",
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[Experiment]: ...

    def rename_experiment(self, experiment_id: str, new_name: str) -> None: ...

    def delete_experiment(self, experiment_id: str) -> None:
        """Hide it and its runs; `restore_experiment` brings both back."""

    def restore_experiment(self, experiment_id: str) -> None: ...

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None: ...

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None: ...

    # Runs

    def create_run(
        self,
        experiment_id: str = DEFAULT_EXPERIMENT,
        start_time: int | None = None,
        tags: Mapping[str, str] | None = None,
        run_name: str | None = None,
        user_id: str | None = None,
    ) -> Run:
        """A new one, RUNNING. Without a name it is given one."""

    def get_run(self, run_id: str) -> Run: ...

    def update_run(
        self, run_id: str, status: str | None = None, name: str | None = None, end_time: int | None = None
    ) -> Run: ...

    def delete_run(self, run_id: str) -> None: ...

    def restore_run(self, run_id: str) -> None: ...

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        run_view_type: str = "ACTIVE_ONLY",
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[Run]: ...

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """All or nothing. A param that has another value already is refused."""

    def delete_tag(self, run_id: str, key: str) -> None: ...

    def get_metric_history(
        self, run_id: str, key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Metric]: ...

    def log_inputs(
        self, run_id: str, datasets: Sequence[DatasetInput] = (), models: Sequence[ModelLink] = ()
    ) -> None: ...

    def log_outputs(self, run_id: str, models: Sequence[ModelLink]) -> None: ...

    def record_logged_model(self, run_id: str, model_json: str) -> None:
        """Append what a 2.x client logged to the run's tag `mlflow.log-model.history`."""

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
        """A new one, `LOGGED_MODEL_PENDING`, whose files belong under its `artifact_uri`.

        It lies in the run's experiment unless another is given.
        """

    def finalize_logged_model(self, model_id: str, status: str = "LOGGED_MODEL_READY") -> LoggedModel:
        """Say that its files are complete; only then can a version be made from it."""

    def get_logged_model(self, model_id: str) -> LoggedModel: ...

    def search_logged_models(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None = None,
        max_results: int = 100,
        order_by: Sequence[Mapping[str, object]] | None = None,
        page_token: str | None = None,
        datasets: Sequence[Mapping[str, object]] | None = None,
    ) -> Page[LoggedModel]:
        """*order_by* holds `{"field_name": …, "ascending": …}`, *datasets* `{"dataset_name": …}`, as clients send it.

        With *datasets*, only metrics that were measured on one of them count.
        """

    def set_logged_model_tags(self, model_id: str, tags: Mapping[str, str]) -> None: ...

    def delete_logged_model_tag(self, model_id: str, key: str) -> None: ...

    def log_logged_model_params(self, model_id: str, params: Mapping[str, str]) -> None: ...

    def delete_logged_model(self, model_id: str) -> None: ...
