"""A logged model's page: a model's files under an id, before and beside any registration."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from registry.server.ui.contents import Contents, folder_of, read_contents
from registry.server.ui.runs import MOST_ROWS, versions_of
from registry.server.ui.tree import read_tree
from registry.server.ui.visit import Page, Visit


def show_logged_model(visit: Visit) -> Response:
    model = visit.registry.tracking.get_logged_model(visit.path["model_id"])
    folder = folder_of(model.artifact_uri)
    tree, contents = None, Contents(problem="its files lie in another place, which this server does not read")
    if folder is not None:
        contents = read_contents(visit.registry, model.artifact_uri)
        tree = read_tree(
            visit.registry.artifacts, folder, visit.query.get("path", ""),
            lambda path: visit.links.logged_model(model.model_id, path=path) + "#files",
        )  # fmt: skip
    return visit.show(
        "logged_model.html",
        model=model,
        contents=contents,
        tree=tree,
        folder=folder,
        metrics=sorted(model.metrics, key=lambda each: each.key),
        versions=versions_of(visit, model.artifact_uri),
        most=MOST_ROWS,
    )


PAGES: Mapping[tuple[str, str], Page] = {("GET", "/logged-models/{model_id}"): show_logged_model}
