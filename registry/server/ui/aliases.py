"""Moving aliases, which deploys what they name: with a reason where a gateway follows, and never past a move unseen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from starlette.responses import Response

from registry.errors import AliasNotFound, InvalidParameter
from registry.names import check_new_alias, check_version
from registry.notices import listening
from registry.server.served import Served
from registry.server.ui import model, version
from registry.server.ui.confirm import Question, ask, facts_of
from registry.server.ui.forms import NO_FORM, Form
from registry.server.ui.visit import Page, Visit, changing

UNSET = 0
DEPLOYMENTS = "deployments"


def move_on_model(visit: Visit) -> Response:
    return changing(visit, f"alias-{visit.typed.get('version', '')}", model.page, lambda form: _move(visit, form, None))


def move_on_version(visit: Visit) -> Response:
    number = visit.path["version"]
    return changing(visit, f"alias-{number}", version.page, lambda form: _move(visit, form, number))


def _move(visit: Visit, form: Form, of_version: str | None) -> str:
    name = visit.path["name"]
    alias = check_new_alias(form.required("alias", "the alias").removeprefix("@"))
    number = str(check_version(of_version or form.required("version", "the version")))
    before = visit.registry.get_registered_model(name).aliases.get(alias)
    done = "alias-set"
    if before != number:
        _check_reason(visit, form, alias, before, number)
        expected = _pointed_at(visit, alias, form.text("seen_at"))
        with listening() as heard:
            visit.registry.set_registered_model_alias(
                name, alias, number, expected_version=expected, reason=form.text("reason") or None
            )
        done = "alias-alike" if heard else done
    if of_version is None:
        return visit.links.model(name, done=done, what=alias) + f"#version-{number}"
    return visit.links.version(name, number, done=done, what=alias)


def _check_reason(visit: Visit, form: Form, alias: str, before: str | None, number: str) -> None:
    following = _following(visit, alias)
    if following and not form.text("reason"):
        endpoints = ", ".join(sorted({f"“{each.endpoint}” of gateway {each.gateway}" for each in following})[:5])
        raise InvalidParameter(
            f"@{alias} is served: {endpoints} follows it. Moving it from version {before or 'none'} to version "
            f"{number} deploys version {number} there. Give a reason, and send this again."
        )


def _following(visit: Visit, alias: str) -> list[Served]:
    """What gateways serve because they follow the alias."""
    return [each for each in visit.site.gateways.serving(visit.path["name"]) if each.alias == alias]


def _pointed_at(visit: Visit, alias: str, seen_at: str) -> str | int | None:
    """Where the alias pointed when the page was made: whoever moved it since is not overruled unseen."""
    try:
        moment = datetime.fromisoformat(seen_at)
    except ValueError:
        return None
    try:
        return visit.registry.get_model_version_by_alias(visit.path["name"], alias, at=moment).version
    except AliasNotFound:
        return UNSET


# Deleting and rolling back


def ask_to_delete(visit: Visit, form: Form = NO_FORM) -> Response:
    name, alias = visit.path["name"], visit.path["alias"]
    found = visit.registry.get_model_version_by_alias(name, alias)
    following = _following(visit, alias)
    question = Question(
        title=f"Delete alias @{alias} of “{name}”?",
        facts=[
            f"It points at version {found.version}, which stays.",
            *facts_of(following),
            *(["What is served stays served until the alias is set again."] if following else []),
            "Its history is kept, so it can be set again.",
        ],
        action=visit.links.model(name, "aliases", alias, "delete"),
        button="Delete alias",
        back=visit.links.model(name),
        hidden={"expected": found.version},
        asks_reason=True,
    )
    return ask(visit, question, form)


def delete(visit: Visit) -> Response:
    def change(form: Form) -> str:
        name, alias = visit.path["name"], visit.path["alias"]
        visit.registry.delete_registered_model_alias(
            name, alias, expected_version=form.text("expected") or None, reason=form.text("reason") or None
        )
        return visit.links.model(name, done="alias-deleted", what=alias, alias=alias)

    return changing(visit, "confirm", ask_to_delete, change)


def ask_to_roll_back(visit: Visit, form: Form = NO_FORM) -> Response:
    name, alias = visit.path["name"], visit.path["alias"]
    now_at = visit.registry.get_registered_model(name).aliases.get(alias)
    target = visit.registry.rollback_target(name, alias)
    if now_at is None and target is None:
        visit.registry.get_alias_history(name, alias, 1)  # says so where there never was one
    points = f"It points at version {now_at}" if now_at else "It was deleted"
    back = visit.query.get("back") or form.text("back")
    question = Question(
        title=f"Roll back @{alias} of “{name}”?",
        facts=[
            f"{points}, and will point at version {target}, the one before in its history."
            if target
            else f"{points}, and has no earlier version to go back to.",
            *facts_of(_following(visit, alias)),
        ],
        action=visit.links.model(name, "aliases", alias, "rollback"),
        button="Roll back" if target else None,
        back=visit.links.deployments() if back == DEPLOYMENTS else visit.links.model(name, alias=alias) + "#history",
        hidden={"expected": now_at or str(UNSET), "back": back},
        asks_reason=True,
        is_dangerous=False,
    )
    return ask(visit, question, form)


def roll_back(visit: Visit) -> Response:
    def change(form: Form) -> str:
        name, alias = visit.path["name"], visit.path["alias"]
        moved = visit.registry.rollback_alias(
            name, alias, expected_version=form.text("expected") or None, reason=form.text("reason") or None
        )
        if form.text("back") == DEPLOYMENTS:
            return visit.links.deployments(done="rolled-back", what=moved.to_version)
        return visit.links.model(name, done="rolled-back", what=moved.to_version, alias=alias)

    return changing(visit, "confirm", ask_to_roll_back, change)


PAGES: Mapping[tuple[str, str], Page] = {
    ("POST", "/models/{name}/aliases"): move_on_model,
    ("POST", "/models/{name}/versions/{version}/aliases"): move_on_version,
    ("GET", "/models/{name}/aliases/{alias}/delete"): ask_to_delete,
    ("POST", "/models/{name}/aliases/{alias}/delete"): delete,
    ("GET", "/models/{name}/aliases/{alias}/rollback"): ask_to_roll_back,
    ("POST", "/models/{name}/aliases/{alias}/rollback"): roll_back,
}
