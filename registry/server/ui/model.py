"""One registered model: description, tags, versions, and where each alias has pointed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from starlette.responses import Response

from registry.core import AliasChange, ModelVersion, RegisteredModel
from registry.page import Page as Rows
from registry.server.ui import markdown
from registry.server.ui.confirm import Question, ask, facts_of
from registry.server.ui.forms import NO_FORM, Form
from registry.server.ui.searches import equals
from registry.server.ui.visit import Page, Visit, changing

VERSIONS_PER_PAGE = 25
MOVES_PER_PAGE = 10
MOST_ALIASES = 50
MOST_TAGS = 20
NEWEST_FIRST = ["version_number DESC"]


@dataclass(frozen=True, slots=True)
class Timeline:
    """The moves of one alias, newest first."""

    alias: str
    moves: Rows[AliasChange]


def show_model(visit: Visit) -> Response:
    return page(visit, visit.opened)


def page(visit: Visit, form: Form = NO_FORM) -> Response:
    name = visit.path["name"]
    model = visit.registry.get_registered_model(name)
    versions = versions_of(visit, model, VERSIONS_PER_PAGE, visit.query.get("page"))
    served = visit.site.gateways.serving(name)
    served_aliases = frozenset(each.alias for each in served if each.alias)
    return visit.show(
        "model.html",
        form.status,
        form=form,
        address=visit.links.model(name),
        model=model,
        description=markdown.render(model.description),
        rest_of_description=max(0, len(model.description or "") - markdown.MOST_RENDERED),
        most_tags=MOST_TAGS,
        versions=versions,
        next_page=versions.token,
        pair=[each.version for each in versions[:2]],
        aliases=sorted(model.aliases)[:MOST_ALIASES],
        served=served,
        served_aliases=served_aliases,
        served_versions=frozenset(each.version for each in served if each.is_serving),
        timeline=_timeline(visit, model, served_aliases),
        seen_at=now(),
    )


def versions_of(visit: Visit, model: RegisteredModel, count: int, token: str | None = None) -> Rows[ModelVersion]:
    """Its versions, newest first, with their aliases, which a search leaves out."""
    aliases: dict[str, list[str]] = {}
    for alias, number in model.aliases.items():
        aliases.setdefault(number, []).append(alias)
    found = visit.registry.search_model_versions(equals("name", model.name), count, NEWEST_FIRST, token or None)
    rows = [replace(each, aliases=aliases.get(each.version, [])) for each in found if each.name == model.name]
    return Rows(rows, found.token)


def now() -> str:
    """This moment, which a form carries: what was moved after it, its sender has not seen."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _timeline(visit: Visit, model: RegisteredModel, served: frozenset[str]) -> Timeline | None:
    chosen = visit.query.get("alias") or next(iter(sorted(served & set(model.aliases)) or sorted(model.aliases)), None)
    if chosen is None:
        return None
    moves = visit.registry.get_alias_history(model.name, chosen, MOVES_PER_PAGE, visit.query.get("moves") or None)
    return Timeline(chosen, moves)


# Renaming and deleting


def rename(visit: Visit) -> Response:
    def change(form: Form) -> str:
        new_name = form.required("new_name", "the new name")
        visit.registry.rename_registered_model(visit.path["name"], new_name)
        return visit.links.model(new_name, done="model-renamed", what=visit.path["name"])

    return changing(visit, "rename", page, change)


def ask_to_delete(visit: Visit, form: Form = NO_FORM) -> Response:
    name = visit.path["name"]
    model = visit.registry.get_registered_model(name)
    question = Question(
        title=f"Delete model “{name}”?",
        facts=[*_facts(visit, model), "This cannot be undone. The files of its versions stay with their runs."],
        action=visit.links.model(name, "delete"),
        button="Delete model",
        back=visit.links.model(name),
    )
    return ask(visit, question, form)


def delete(visit: Visit) -> Response:
    def change(_: Form) -> str:
        visit.registry.delete_registered_model(visit.path["name"])
        return visit.links.models(done="model-deleted", what=visit.path["name"])

    return changing(visit, "confirm", ask_to_delete, change)


def _facts(visit: Visit, model: RegisteredModel) -> list[str]:
    versions = versions_of(visit, model, VERSIONS_PER_PAGE)
    count = f"more than {len(versions)}" if versions.token else str(len(versions))
    return [
        *facts_of(visit.site.gateways.serving(model.name)),
        f"It has {count} version{'s' * (count != '1')}{_named(versions) if versions else ''}, which will be gone.",
        *([f"Its aliases will be gone: {', '.join('@' + each for each in sorted(model.aliases)[:MOST_ALIASES])}."]
          if model.aliases else []),
    ]  # fmt: skip


def _named(versions: Sequence[ModelVersion]) -> str:
    return f" (the newest is version {versions[0].version})"


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/models/{name}"): show_model,
    ("POST", "/models/{name}/rename"): rename,
    ("GET", "/models/{name}/delete"): ask_to_delete,
    ("POST", "/models/{name}/delete"): delete,
}
