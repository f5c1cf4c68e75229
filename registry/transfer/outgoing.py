"""Moving out: registered models to an MLflow server, which numbers versions itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from urllib.parse import quote

from registry.core import ModelVersion, RegisteredModel, Registry
from registry.errors import AlreadyExists, InvalidParameter, NotFound
from registry.names import DIGEST_TAG, shown
from registry.tracking import DEFAULT_EXPERIMENT, Metric, Run
from registry.transfer.files import FileCopier, store_path
from registry.transfer.report import Report, Summary
from registry.transfer.walk import PROMPT_SOURCE, models_of, versions_of

EXPORTED_AS = "turnout.export"
OLD_VERSION = "turnout.version"
# What a stock server takes in one request.
METRICS_AT_ONCE = 1_000
PAIRS_AT_ONCE = 100


class MlflowExport:
    """Copies every registered model of *source* to *target*. `run` once; make another to repeat.

    Each version's files and run become a run there, in an experiment of the same name. The version's tag
    `turnout.version` keeps its number here, by which it is found again.
    """

    def __init__(self, source: Registry, target: Registry, progress: Callable[[str], None]) -> None:
        self._source = source
        self._target = target
        self._report = Report(progress)
        self._files = FileCopier(source.artifacts, target.artifacts, self._report)

    def run(self) -> Summary:
        with self._report.resumable():
            for model in models_of(self._source):
                self._report.progress(f"model {model.name}")
                with self._report.noting(f"model {model.name!r}"):
                    self._export_model(self._source.get_registered_model(model.name))
        return self._report.summary

    def _export_model(self, model: RegisteredModel) -> None:
        there = self._model_there(model)
        known = self._versions_there(there)
        for version in versions_of(self._source, model):
            with self._report.noting(f"version {version.version} of model {model.name!r}"):
                self._export_version(version, known)
        for alias, number in model.aliases.items():
            if number in known and there.aliases.get(alias) != known[number].version:
                self._target.set_registered_model_alias(model.name, alias, known[number].version)
        self._report.summary.models += 1

    def _model_there(self, model: RegisteredModel) -> RegisteredModel:
        """The model as it is over there, with our description and tags."""
        try:
            there = self._target.get_registered_model(model.name)
        except NotFound:
            return self._target.create_registered_model(model.name, model.tags, model.description or None)
        if (model.description or "") != (there.description or ""):
            self._target.update_registered_model(model.name, model.description or "")
        for key, value in _differing(model.tags, there.tags):
            self._target.set_registered_model_tag(model.name, key, value)
        return there

    def _versions_there(self, model: RegisteredModel) -> dict[str, ModelVersion]:
        """What was exported before, by the number here. A copy that somebody made of it has a higher number."""
        versions = versions_of(self._target, model)
        known = {each.tags[OLD_VERSION]: each for each in reversed(versions) if OLD_VERSION in each.tags}
        if versions and not known:
            raise AlreadyExists(
                f"{self._target.uri} has a model {shown(model.name)} that did not come from here: rename one of them"
            )
        return known

    def _export_version(self, version: ModelVersion, known: dict[str, ModelVersion]) -> None:
        found = known.get(version.version)
        if found is None:
            self._report.progress(f"model {version.name}: version {version.version}")
            found = known[version.version] = self._make_version(version)
        elif version.digest != found.tags.get(DIGEST_TAG):
            raise AlreadyExists(f"version {found.version} there was exported from other files: delete it there")
        self._report.summary.versions += 1
        if (version.description or "") != (found.description or ""):
            self._target.update_model_version(version.name, found.version, version.description or "")
        for key, value in _differing(version.tags, found.tags):
            self._target.set_model_version_tag(version.name, found.version, key, value)
        if version.current_stage != found.current_stage:
            self._target.transition_model_version_stage(version.name, found.version, version.current_stage)

    def _make_version(self, version: ModelVersion) -> ModelVersion:
        uri = self._source.get_model_version_download_uri(version.name, version.version)
        tags = dict(version.tags) | {OLD_VERSION: version.version}
        described = version.run_link or None, version.description or None
        if uri == PROMPT_SOURCE:
            return self._target.create_model_version(version.name, uri, None, tags, *described)
        run = self._run_of(version)
        source = f"{run.artifact_uri.rstrip('/')}/model"
        old, new = store_path(uri), store_path(source)
        if old is None:
            raise InvalidParameter(f"its files lie at {uri}, outside of this registry: register a copy of them here")
        if new is None:
            raise InvalidParameter(f"{self._target.uri} keeps files at {source}: start it with --serve-artifacts")
        for problem in self._files.copy(old, new):
            raise InvalidParameter(problem)
        return self._target.create_model_version(version.name, source, run.run_id, tags, *described)

    # Runs

    def _run_of(self, version: ModelVersion) -> Run:
        """The run that holds the version's files there: one of an export that was cut, or a new one."""
        original = self._original_run(version.run_id)
        experiment_id = self._experiment_for(original)
        # As one word without quotes, which a search could not be asked for.
        label = f"{quote(version.name, safe='')}/{version.version}/{version.creation_timestamp}"
        found = self._target.tracking.search_runs(
            [experiment_id], f"tags.`{EXPORTED_AS}` = '{label}'", max_results=1
        ) or [
            self._target.tracking.create_run(
                experiment_id,
                start_time=version.creation_timestamp if original is None else original.start_time,
                tags={EXPORTED_AS: label},
                run_name=f"{version.name}/{version.version}" if original is None else original.run_name,
                user_id=version.user_id if original is None else original.user_id,
            )
        ]
        run = found[0]
        ended = version.creation_timestamp
        if original is not None:
            self._log(run, original)
            ended = original.end_time or ended
        self._target.tracking.update_run(
            run.run_id, status="FINISHED" if original is None else original.status, end_time=ended
        )
        self._report.summary.runs += 1
        return run

    def _original_run(self, run_id: str | None) -> Run | None:
        try:
            return self._source.tracking.get_run(run_id) if run_id else None
        except NotFound:
            return None

    def _experiment_for(self, original: Run | None) -> str:
        """One of the same name, made when there is none."""
        if original is None or original.experiment_id == DEFAULT_EXPERIMENT:
            return DEFAULT_EXPERIMENT
        name = self._source.tracking.get_experiment(original.experiment_id).name
        try:
            return self._target.tracking.get_experiment_by_name(name).experiment_id
        except NotFound:
            self._report.summary.experiments += 1
            return self._target.tracking.create_experiment(name)

    def _log(self, run: Run, original: Run) -> None:
        """Log everything once more: what a run has already is taken as the same."""
        tracking = self._target.tracking
        for pairs in _parts(original.params):
            tracking.log_batch(run.run_id, params=pairs)
        for pairs in _parts(original.tags):
            tracking.log_batch(run.run_id, tags=pairs)
        for latest in original.metrics:
            metrics = [_plain(each) for each in self._source.tracking.get_metric_history(original.run_id, latest.key)]
            for start in range(0, len(metrics), METRICS_AT_ONCE):
                tracking.log_batch(run.run_id, metrics[start : start + METRICS_AT_ONCE])


def _plain(metric: Metric) -> Metric:
    """Without the logged model, the dataset and the run, which have other names over there."""
    return replace(metric, model_id=None, dataset_name=None, dataset_digest=None, run_id=None)


def _parts(pairs: Mapping[str, str]) -> list[dict[str, str]]:
    keys = sorted(pairs)
    return [
        {key: pairs[key] for key in keys[start : start + PAIRS_AT_ONCE]} for start in range(0, len(keys), PAIRS_AT_ONCE)
    ]


def _differing(pairs: Mapping[str, str], there: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(key, value) for key, value in pairs.items() if there.get(key) != value]
