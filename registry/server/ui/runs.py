"""A run's page: params, metrics with their history, tags, and artifacts with the models that can be registered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from starlette.responses import Response

from registry.core import ModelVersion
from registry.errors import NotFound
from registry.server.ui import charts, markdown
from registry.server.ui.contents import folder_of
from registry.server.ui.tree import Node, Tree, read_tree
from registry.server.ui.visit import Page, Visit
from registry.tracking import LoggedModel, Run

MOST_MODELS = 50
MOST_CHARTS = 12
CHARTED_POINTS = 2_000
MOST_ROWS = 200
NOTE_TAG = "mlflow.note.content"
HISTORY_TAG = "mlflow.log-model.history"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The model folder that is chosen in the tree: how it is registered, and which versions it is already."""

    title: str
    register: str
    versions: Sequence[ModelVersion]


def show_run(visit: Visit) -> Response:
    run = visit.registry.tracking.get_run(visit.path["run_id"])
    experiment = visit.registry.tracking.get_experiment(run.experiment_id)
    models = logged_models_of(visit, run)
    model_id = visit.query.get("model", "")
    folder, tree = _tree(visit, run, models, model_id)
    measured = sorted(run.metrics, key=lambda each: each.key)
    keys = list(dict.fromkeys(each.key for each in measured))
    return visit.show(
        "run.html",
        run=run,
        experiment=experiment,
        description=markdown.render(run.tags.get(NOTE_TAG)),
        metrics=measured,
        lines=[_line(visit, run.run_id, key) for key in keys[:MOST_CHARTS]],
        models=models,
        paths=_logged_paths(run),
        tree=tree,
        folder=folder,
        chosen=_chosen(visit, run, models, tree, model_id),
        most=MOST_ROWS,
    )


def _line(visit: Visit, run_id: str, key: str) -> charts.Line:
    return charts.read_line(visit.registry.tracking, run_id, key, key, CHARTED_POINTS)


def show_metric(visit: Visit) -> Response:
    run = visit.registry.tracking.get_run(visit.path["run_id"])
    key = visit.query.get("key", "")
    if not any(each.key == key for each in run.metrics):
        raise NotFound(f"run {run.run_name!r} has no metric {key[:80]!r}; its page lists those that it has")
    line = charts.read_line(visit.registry.tracking, run.run_id, key, key)
    return visit.show("metric.html", run=run, key=key, line=line)


# Models


def logged_models_of(visit: Visit, run: Run) -> list[LoggedModel]:
    """Those that a 3.x client logged, which lie outside of the run's own folder."""
    found = []
    for link in run.model_outputs[:MOST_MODELS]:
        try:
            found.append(visit.registry.tracking.get_logged_model(link.model_id))
        except NotFound:
            continue
    return found


def _logged_paths(run: Run) -> list[str]:
    """Where a 2.x client logged models, in the run's own folder."""
    try:
        entries = json.loads(run.tags.get(HISTORY_TAG, "[]"))
        paths = [str(each["artifact_path"]) for each in entries][:MOST_MODELS]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []
    return sorted(set(paths))


def _chosen(visit: Visit, run: Run, models: Sequence[LoggedModel], tree: Tree | None, model_id: str) -> Chosen | None:
    if tree is None or not tree.is_model:
        return None
    for model in models:
        if model.model_id == model_id and not tree.chosen:
            return Chosen(model.name, visit.links.register(model=model_id), versions_of(visit, model.artifact_uri))
    if model_id or not tree.chosen:
        return None
    register = visit.links.register(run=run.run_id, path=tree.chosen)
    return Chosen(tree.chosen, register, versions_of(visit, run.artifact_uri, tree.chosen))


def versions_of(visit: Visit, uri: str, path: str = "") -> list[ModelVersion]:
    """The versions whose files are those at *path* below *uri*, whatever their source was called."""
    folder = folder_of(f"{uri.rstrip('/')}/{path}")
    return [] if folder is None else visit.registry.versions_at(folder)


# Artifacts


def _tree(visit: Visit, run: Run, models: Sequence[LoggedModel], model_id: str) -> tuple[str, Tree | None]:
    """The run's own files beside its logged models, which stand there as folders under their names."""
    own = folder_of(run.artifact_uri)
    path = visit.query.get("path", "")
    address = partial(_address, visit, run.run_id)
    if own is None:
        return "", None
    chosen_folder, chosen = own, read_tree(visit.registry.artifacts, own, "" if model_id else path, address)
    nodes: list[Node] = []
    left_out = chosen.left_out
    own_nodes = chosen.nodes
    for model in models:
        place = folder_of(model.artifact_uri)
        is_open = model.model_id == model_id and place is not None
        node = Node(model.name, address("", model.model_id), True, is_open=is_open, is_chosen=is_open and not path)
        if is_open and place is not None:
            chosen_folder = place
            chosen = read_tree(visit.registry.artifacts, place, path, partial(address, model_id=model_id))
            node = replace(node, children=chosen.nodes, left_out=chosen.left_out)
        nodes.append(node)
    return chosen_folder, replace(chosen, nodes=[*nodes, *own_nodes], left_out=left_out)


def _address(visit: Visit, run_id: str, path: str, model_id: str = "") -> str:
    return visit.links.run(run_id, model=model_id, path=path) + "#artifacts"


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/runs/{run_id}"): show_run,
    ("GET", "/runs/{run_id}/metrics"): show_metric,
}
