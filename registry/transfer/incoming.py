"""Moving in: everything that an MLflow server has, with its ids, numbers and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Protocol

from registry.artifacts import Manifest
from registry.core import ModelVersion, RegisteredModel, Registry, ServedRegistry
from registry.errors import AlreadyExists, InvalidParameter, NotFound
from registry.names import is_model_id
from registry.remote.client import NoSuchRoute
from registry.sql.imports import ImportedFiles, ImportedVersion, SqlImports, another
from registry.tracking import Experiment, LoggedModel, Run
from registry.transfer.files import STORE, FileCopier, store_path
from registry.transfer.report import Report, Summary
from registry.transfer.walk import PROMPT_SOURCE, every, models_of, versions_of

METRICS_AT_ONCE = 10_000
# Versions whose files belong to no run or logged model that came along.
ALONE = "imported"


class ImportTarget(ServedRegistry, Protocol):
    """A registry that takes things with their ids, numbers and times: one that is opened by its database."""

    @property
    def imports(self) -> SqlImports: ...


class MlflowImport:
    """Copies everything that *source* has into *target*. `run` once; make another to repeat."""

    def __init__(self, source: Registry, target: ImportTarget, progress: Callable[[str], None]) -> None:
        self._source = source
        self._target = target
        self._report = Report(progress)
        self._files = FileCopier(source.artifacts, target.artifacts, self._report, target.protects)
        self._places: dict[str, str] = {}  # path in the source's store -> path in ours

    def run(self) -> Summary:
        with self._report.resumable():
            self._import_everything()
        return self._report.summary

    def _import_everything(self) -> None:
        search = self._source.tracking.search_experiments
        experiments = list(every(lambda token: search(view_type="ALL", page_token=token)))
        numbers = [self._import_experiment(each) for each in experiments]
        for experiment, number in zip(experiments, numbers, strict=True):
            self._import_runs(experiment, number)
        for experiment, number in zip(experiments, numbers, strict=True):  # their metrics belong to runs of any
            self._import_logged_models(experiment, number)
        for model in models_of(self._source):
            self._report.progress(f"model {model.name}")
            with self._report.noting(f"model {model.name!r}"):
                self._import_model(model)

    # Experiments, runs and logged models

    def _import_experiment(self, experiment: Experiment) -> str:
        number = self._target.imports.put_experiment(experiment)
        self._report.summary.experiments += 1
        if store_path(experiment.artifact_location) is None:
            self._report.note(
                f"files of experiment {experiment.name!r} were left out: they lie at {experiment.artifact_location}, "
                "not in the server's own store; start it with --serve-artifacts, or copy them yourself"
            )
        return number

    def _import_runs(self, experiment: Experiment, number: str) -> None:
        search, ids = self._source.tracking.search_runs, [experiment.experiment_id]
        for run in every(lambda token: search(ids, run_view_type="ALL", page_token=token)):
            self._report.progress(f"experiment {experiment.name}: run {run.run_name}")
            with self._report.noting(f"run {run.run_id}"):
                self._import_run(run, number)

    def _import_run(self, run: Run, experiment_id: str) -> None:
        artifact_uri = f"{STORE}{experiment_id}/{run.run_id}/artifacts"
        self._target.imports.put_run(replace(run, experiment_id=experiment_id, artifact_uri=artifact_uri))
        for latest in run.metrics:
            self._import_history(run.run_id, latest.key)
        self._report.summary.runs += 1
        for problem in self._copy(run.artifact_uri, artifact_uri):
            self._report.note(f"run {run.run_id}: {problem}")

    def _import_history(self, run_id: str, key: str) -> None:
        token: str | None = None
        while True:
            page = self._source.tracking.get_metric_history(run_id, key, METRICS_AT_ONCE, token)
            self._target.imports.put_metrics(run_id, page)
            token = page.token
            if token is None:
                return

    def _import_logged_models(self, experiment: Experiment, number: str) -> None:
        search, ids = self._source.tracking.search_logged_models, [experiment.experiment_id]
        try:
            for model in every(lambda token: search(ids, page_token=token)):
                self._report.progress(f"experiment {experiment.name}: logged model {model.name}")
                with self._report.noting(f"logged model {model.model_id}"):
                    self._import_logged_model(model, number)
        except NoSuchRoute:
            # When it answers this, it is MLflow 2, which has no logged models.
            self._source.tracking.search_experiments(max_results=1)

    def _import_logged_model(self, model: LoggedModel, experiment_id: str) -> None:
        artifact_uri = f"{STORE}{experiment_id}/models/{model.model_id}/artifacts"
        for problem in self._copy(model.artifact_uri, artifact_uri):
            self._report.note(f"logged model {model.model_id}: {problem}")
        moved = replace(model, experiment_id=experiment_id, artifact_uri=artifact_uri)
        self._target.imports.put_logged_model(moved)
        self._report.summary.logged_models += 1

    def _copy(self, old_uri: str, new_uri: str) -> list[str]:
        """Nothing for files elsewhere: their experiment's problem says so."""
        old, new = store_path(old_uri), store_path(new_uri)
        if old is None or new is None:
            return []
        problems = self._files.copy(old, new)
        self._places[old] = new
        return problems

    # Registered models

    def _import_model(self, model: RegisteredModel) -> None:
        whole = self._source.get_registered_model(model.name)
        here = self._versions_here(whole)
        versions = versions_of(self._source, whole)
        imported = []
        for version in versions:
            with self._report.noting(f"version {version.version} of model {model.name!r}"):
                imported.append(self._import_version(version, here.get(version.version)))
        last = max((int(each.version) for each in versions), default=0)
        for problem in self._target.imports.put_model(whole, imported, last):
            self._report.note(problem)
        self._report.summary.models += 1
        self._report.summary.versions += len(imported)

    def _versions_here(self, model: RegisteredModel) -> dict[str, ModelVersion]:
        try:
            here = self._target.get_registered_model(model.name)
        except NotFound:
            return {}
        return {each.version: each for each in versions_of(self._target, here)}

    def _import_version(self, version: ModelVersion, here: ModelVersion | None) -> ImportedVersion:
        if here is None:
            return self._new_version(version)
        if here.creation_timestamp != version.creation_timestamp:
            raise AlreadyExists(another(version))
        return ImportedVersion(version, None)

    def _new_version(self, version: ModelVersion) -> ImportedVersion:
        uri = self._source.get_model_version_download_uri(version.name, version.version)
        if PROMPT_SOURCE in {version.source, uri}:
            return ImportedVersion(version, ImportedFiles(PROMPT_SOURCE, None))
        old = store_path(uri)
        if old is None:
            raise InvalidParameter(
                f"its files lie at {uri}, not in the server's own store; start the server with --serve-artifacts, or "
                "register the files here with `turnout register`"
            )
        new = self._place(old)
        source = version.source or ""
        model_id = source.removeprefix("models:/")
        files = ImportedFiles(f"{STORE}{new}", self._manifest(new), model_id if is_model_id(model_id) else None)
        moved = replace(version, source=f"{STORE}{new}") if source.startswith(STORE) else version
        return ImportedVersion(moved, files)

    def _place(self, old: str) -> str:
        """Where in our store the files are: within a run or logged model that was copied, else copied alone."""
        for above in (PurePosixPath(old), *PurePosixPath(old).parents):
            if str(above) in self._places:
                return str(PurePosixPath(self._places[str(above)], PurePosixPath(old).relative_to(above)))
        new = f"{ALONE}/{old}"
        for problem in self._files.copy(old, new):
            raise InvalidParameter(problem)
        self._places[old] = new
        return new

    def _manifest(self, path: str) -> Manifest:
        try:
            return self._target.artifacts.manifest(path)
        except NotFound:
            raise InvalidParameter("it has no files there any more; delete it there, or restore its files") from None
