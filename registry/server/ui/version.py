"""One model version: what it is, where it comes from, how to use it; copying it to another model, and deleting it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from registry.core import ModelVersion
from registry.server.served import Served
from registry.server.ui import markdown
from registry.server.ui.confirm import Question, ask, facts_of
from registry.server.ui.contents import Contents, folder_of, read_contents
from registry.server.ui.forms import NO_FORM, Form
from registry.server.ui.model import MOST_ALIASES, MOST_TAGS, now
from registry.server.ui.models import names_with
from registry.server.ui.tree import read_tree
from registry.server.ui.visit import Page, Visit, changing

MOST_COPIES = 20
MOST_REQUEST_CHARS = 1_000


def show_version(visit: Visit) -> Response:
    return page(visit, visit.opened)


def page(visit: Visit, form: Form = NO_FORM) -> Response:
    name, number = visit.path["name"], visit.path["version"]
    version = visit.registry.get_model_version(name, number)
    model = visit.registry.get_registered_model(name)
    uri = visit.registry.get_model_version_download_uri(name, number)
    served = [each for each in visit.site.gateways.serving(name) if each.version == version.version]
    contents = read_contents(visit.registry, uri)
    folder = folder_of(uri)
    tree = None
    if folder is not None:
        tree = read_tree(
            visit.registry.artifacts, folder, visit.query.get("path", ""),
            lambda path: visit.links.version(name, version.version, path=path) + "#files",
        )  # fmt: skip
    return visit.show(
        "version.html",
        form.status,
        form=form,
        address=visit.links.version(name, version.version),
        version=version,
        description=markdown.render(version.description),
        rest_of_description=max(0, len(version.description or "") - markdown.MOST_RENDERED),
        most_tags=MOST_TAGS,
        aliases=sorted(model.aliases)[:MOST_ALIASES],
        served=served,
        served_aliases=frozenset(each.alias for each in served if each.alias),
        contents=contents,
        size=size_of(visit, version),
        tree=tree,
        folder=folder,
        uses=_uses(visit, version, contents, served),
        seen_at=now(),
    )


def size_of(visit: Visit, version: ModelVersion) -> int | None:
    """Bytes of all its files, where somebody recorded them."""
    manifest = visit.registry.get_model_version_manifest(version.name, version.version)
    return None if manifest is None else sum(each.size for each in manifest.files)


def _uses(visit: Visit, version: ModelVersion, contents: Contents, served: Sequence[Served]) -> list[tuple[str, str]]:
    """How to load it and how to call it: a title and what to paste."""
    alias = next(iter(sorted(version.aliases)), None)
    uri = f"models:/{version.name}@{alias}" if alias else f"models:/{version.name}/{version.version}"
    client = f"client = registry.connect({visit.origin!r})"
    mlflow = f"import mlflow\n\nmlflow.set_tracking_uri({visit.origin!r})\n"
    found = [
        ("Python", f"import registry\n\n{client}\nmodel = registry.load_model({uri!r}, client=client)"),
        ("Python, with MLflow", f"{mlflow}model = mlflow.pyfunc.load_model({uri!r})"),
    ]
    request = " ".join((contents.request or "").split())
    if not request or len(request) > MOST_REQUEST_CHARS:
        request = "@request.json"
    answering = next((each for each in served if each.is_serving and each.address), None)
    endpoint = f"{answering.address}/endpoints/{answering.endpoint}" if answering else "http://127.0.0.1:8080"
    if not answering:
        found.append(("Serve it", f"turnout serve -m {shlex.quote(uri)} --registry-uri {visit.origin}"))
    call = (
        f"curl {shlex.quote(endpoint + '/invocations')} -H 'Content-Type: application/json' -d {shlex.quote(request)}"
    )
    found.append(("Call it", call))
    return found


# Promoting


def ask_to_promote(visit: Visit, form: Form = NO_FORM) -> Response:
    version = visit.registry.get_model_version(visit.path["name"], visit.path["version"])
    return visit.show(
        "promote.html",
        form.status,
        form=form,
        version=version,
        address=visit.links.version(version.name, version.version),
        names=names_with(visit),
    )


def promote(visit: Visit) -> Response:
    def change(form: Form) -> str:
        target = form.required("target", "the model to copy it to")
        copied = visit.registry.copy_model_version(f"models:/{visit.path['name']}/{visit.path['version']}", target)
        return visit.links.version(target, copied.version, done="version-created", what=copied.version)

    return changing(visit, "promote", ask_to_promote, change)


# Deleting


def ask_to_delete(visit: Visit, form: Form = NO_FORM) -> Response:
    version = visit.registry.get_model_version(visit.path["name"], visit.path["version"])
    question = Question(
        title=f"Delete version {version.version} of “{version.name}”?",
        facts=_facts(visit, version),
        action=visit.links.version(version.name, version.version, "delete"),
        button="Delete version",
        back=visit.links.version(version.name, version.version),
    )
    return ask(visit, question, form)


def _facts(visit: Visit, version: ModelVersion) -> list[str]:
    served = [each for each in visit.site.gateways.serving(version.name) if each.version == version.version]
    aliases = ", ".join(f"@{each}" for each in sorted(version.aliases)[:MOST_ALIASES])
    copies = ", ".join(f"version {each.version} of “{each.name}”" for each in _copies(visit, version))
    facts = facts_of(served)
    if aliases:
        facts.append(f"{aliases} will be deleted with it: what follows stays at what it serves.")
    if copies:
        facts.append(f"Versions of the same files stay: {copies}.")
    if not (aliases or served or copies):
        facts.append("Nothing that is known here depends on it: no alias, no gateway, no copy.")
    return [*facts, "This cannot be undone, and its number is not given again. Its files stay where they were logged."]


def _copies(visit: Visit, version: ModelVersion) -> list[ModelVersion]:
    """Other versions of the same files."""
    folder = folder_of(visit.registry.get_model_version_download_uri(version.name, version.version))
    found = [] if folder is None else visit.registry.versions_at(folder, MOST_COPIES)
    return [each for each in found if each.key != version.key]


def delete(visit: Visit) -> Response:
    def change(_: Form) -> str:
        name, number = visit.path["name"], visit.path["version"]
        visit.registry.delete_model_version(name, number)
        return visit.links.model(name, done="version-deleted", what=number)

    return changing(visit, "confirm", ask_to_delete, change)


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/models/{name}/versions/{version}"): show_version,
    ("GET", "/models/{name}/versions/{version}/promote"): ask_to_promote,
    ("POST", "/models/{name}/versions/{version}/promote"): promote,
    ("GET", "/models/{name}/versions/{version}/delete"): ask_to_delete,
    ("POST", "/models/{name}/versions/{version}/delete"): delete,
}
