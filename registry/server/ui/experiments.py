"""Experiments and their runs: lists, search, and metrics of several runs in one chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.responses import Response

from registry.errors import InvalidParameter, RegistryError
from registry.page import Page as Rows
from registry.server.ui import charts
from registry.server.ui.searches import filter_of, part_of
from registry.server.ui.visit import Page, Visit
from registry.tracking import Experiment, Run

PER_PAGE = 25
FEW_COLUMNS = 4
MOST_COMPARED = 10
MOST_KEYS = 200
STAGES = {"": "ACTIVE_ONLY", "deleted": "DELETED_ONLY"}


def list_experiments(visit: Visit) -> Response:
    search = visit.query.get("q", "").strip()
    rows, problem = Rows[Experiment](), None
    try:
        rows = visit.registry.tracking.search_experiments(
            _stage(visit), PER_PAGE, filter_of(search), ["last_update_time DESC"], visit.query.get("page") or None
        )
    except RegistryError as error:
        problem = error
    return visit.show(
        "experiments.html",
        problem.http_status if problem else 200,
        search=search,
        rows=rows,
        next_page=rows.token,
        problem=problem,
    )


def show_experiment(visit: Visit) -> Response:
    experiment = visit.registry.tracking.get_experiment(visit.path["experiment_id"])
    search, order = visit.query.get("q", "").strip(), visit.query.get("sort", "")
    rows, problem = Rows[Run](), None
    try:
        rows = visit.registry.tracking.search_runs(
            [experiment.experiment_id], _run_filter(search), _stage(visit), PER_PAGE,
            [order or "attributes.start_time DESC"], visit.query.get("page") or None,
        )  # fmt: skip
    except RegistryError as error:
        problem = error
    return visit.show(
        "experiment.html",
        problem.http_status if problem else 200,
        experiment=experiment,
        search=search,
        sort=order,
        rows=rows,
        next_page=rows.token,
        problem=problem,
        metric_keys=_keys([each.key for each in run.metrics] for run in rows)[:FEW_COLUMNS],
        param_keys=_keys(run.params for run in rows)[:FEW_COLUMNS],
        metrics={run.run_id: {each.key: each.value for each in run.metrics} for run in rows},
    )


def compare_runs(visit: Visit) -> Response:
    ids = list(dict.fromkeys(visit.repeated.get("run", ())))
    if not 1 < len(ids) <= MOST_COMPARED:
        raise InvalidParameter(
            f"two to {MOST_COMPARED} runs are compared, and {len(ids)} were chosen: tick them on the experiment's page"
        )
    runs = [visit.registry.tracking.get_run(each) for each in ids]
    metric_keys = _keys([each.key for each in run.metrics] for run in runs)[:MOST_KEYS]
    key = visit.query.get("metric") or next(iter(metric_keys), "")
    return visit.show(
        "compare_runs.html",
        runs=runs,
        key=key,
        lines=[
            charts.read_line(visit.registry.tracking, run.run_id, key, run.run_name)
            for run in runs
            if any(each.key == key for each in run.metrics)
        ],
        metric_keys=metric_keys,
        param_keys=_keys(run.params for run in runs)[:MOST_KEYS],
        metrics={run.run_id: {each.key: each.value for each in run.metrics} for run in runs},
    )


def _stage(visit: Visit) -> str:
    given = visit.query.get("stage", "")
    if given not in STAGES:
        raise InvalidParameter(f"there are no {given[:40]!r} ones: leave `stage` out, or ask for `deleted`")
    return STAGES[given]


def _run_filter(search: str) -> str | None:
    """Plain words are a part of a run's name, which is an attribute in this language."""
    meant = filter_of(search)
    return meant if meant == search else part_of("attributes.run_name", search)


def _keys(of_each: Iterable[Iterable[str]]) -> list[str]:
    """Every key, those that most have first."""
    counts: dict[str, int] = {}
    for keys in of_each:
        for key in keys:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: (-counts[key], key))


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/experiments"): list_experiments,
    ("GET", "/experiments/{experiment_id}"): show_experiment,
    ("GET", "/compare-runs"): compare_runs,
}
