"""What people write on a model or a version: its description and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from starlette.responses import Response

from registry.errors import InvalidParameter
from registry.names import DIGEST_TAG, shown
from registry.server.ui import model, version
from registry.server.ui.confirm import Question, ask
from registry.server.ui.forms import NO_FORM, Form
from registry.server.ui.visit import Page, PageWithForm, Visit, changing


def describe(visit: Visit) -> Response:
    def change(form: Form) -> str:
        name, number = _owner(visit)
        text = form.value("description") or None
        if number is None:
            visit.registry.update_registered_model(name, text)
        else:
            visit.registry.update_model_version(name, number, text)
        return _address(visit, done="saved")

    return changing(visit, "description", _page(visit), change)


def set_tag(visit: Visit) -> Response:
    def change(form: Form) -> str:
        name, number = _owner(visit)
        key, value = form.required("key", "the tag's key"), form.value("value")
        _refuse_surprise(visit, form, key)
        if number is None:
            visit.registry.set_registered_model_tag(name, key, value)
        else:
            visit.registry.set_model_version_tag(name, number, key, value)
        return _address(visit, done="tag-set", what=key) + "#tags"

    return changing(visit, "tag", _page(visit), change)


def _refuse_surprise(visit: Visit, form: Form, key: str) -> None:
    """Whoever adds a tag that is there already learns it, before its value is gone."""
    name, number = _owner(visit)
    registry = visit.registry
    owner = registry.get_registered_model(name) if number is None else registry.get_model_version(name, number)
    if key in owner.tags and form.value("editing") != key and key != DIGEST_TAG:
        raise InvalidParameter(
            f"tag {shown(key)} is there already, with the value {shown(owner.tags[key])}: send this again to replace it"
        )


def ask_to_delete_tag(visit: Visit, form: Form = NO_FORM) -> Response:
    key = form.value("key", visit.query.get("key", ""))
    name, number = _owner(visit)
    of = f"model “{name}”" if number is None else f"version {number} of “{name}”"
    question = Question(
        title=f"Delete tag “{key}” of {of}?",
        facts=["Its value will be gone."],
        action=_address(visit, "tags", "delete"),
        button="Delete tag",
        back=_address(visit) + "#tags",
        hidden={"key": key},
    )
    return ask(visit, question, form)


def delete_tag(visit: Visit) -> Response:
    def change(form: Form) -> str:
        name, number = _owner(visit)
        key = form.required("key", "the tag's key")
        if number is None:
            visit.registry.delete_registered_model_tag(name, key)
        else:
            visit.registry.delete_model_version_tag(name, number, key)
        return _address(visit, done="tag-deleted", what=key) + "#tags"

    return changing(visit, "confirm", ask_to_delete_tag, change)


def _owner(visit: Visit) -> tuple[str, str | None]:
    return visit.path["name"], visit.path.get("version")


def _page(visit: Visit) -> PageWithForm:
    return model.page if "version" not in visit.path else version.page


def _address(visit: Visit, *more: str, **query: str) -> str:
    name, number = _owner(visit)
    link = partial(visit.links.model, name) if number is None else partial(visit.links.version, name, number)
    return link(*more, **query)


_OWNERS = ("/models/{name}", "/models/{name}/versions/{version}")
PAGES: Mapping[tuple[str, str], Page] = {
    (method, owner + path): page
    for owner in _OWNERS
    for (method, path), page in {
        ("POST", "/description"): describe,
        ("POST", "/tags"): set_tag,
        ("GET", "/tags/delete"): ask_to_delete_tag,
        ("POST", "/tags/delete"): delete_tag,
    }.items()
}
