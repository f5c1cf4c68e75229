"""Register Model: the dialog that makes a version of a model folder, in a new registered model or in one there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from registry.core import ModelVersion
from registry.errors import AlreadyExists, InvalidParameter, NotFound, RegistryError
from registry.models.registration import register as make_version
from registry.names import check_model_name, shown
from registry.server.ui.forms import NO_FORM, Form
from registry.server.ui.models import names_with
from registry.server.ui.runs import versions_of
from registry.server.ui.visit import Page, Visit, changing

NEW = "new"
EXISTING = "existing"


@dataclass(frozen=True, slots=True)
class Origin:
    """What is to be registered: its source, how it is called, where it was seen, and what it is already."""

    source: str
    title: str
    back: str
    fields: Mapping[str, str]
    versions: Sequence[ModelVersion]


def ask_where(visit: Visit, form: Form = NO_FORM) -> Response:
    origin = _origin(visit, visit.typed or visit.query)
    names = names_with(visit)
    return visit.show(
        "register.html",
        form.status,
        form=form,
        origin_of=origin,
        names=names,
        kind=form.value("kind", EXISTING if names else NEW),
    )


def register(visit: Visit) -> Response:
    def change(form: Form) -> str:
        origin = _origin(visit, visit.typed)
        name = form.required("name", "the model's name")
        _check(visit, form.value("kind"), name)
        version = make_version(visit.registry, origin.source, name, description=form.value("description") or None)
        return visit.links.version(name, version.version, done="version-created", what=version.version)

    return changing(visit, "register", ask_where, change)


def check_name(visit: Visit) -> Response:
    """What is said beside the field while somebody types."""
    kind, name = visit.query.get("kind", NEW), visit.query.get("name", "").strip()
    if not name:
        return visit.show("name_check.html", says="", is_good=True)
    try:
        return visit.show("name_check.html", says=_check(visit, kind, name), is_good=True)
    except RegistryError as problem:
        return visit.show("name_check.html", says=str(problem), is_good=False)


def _check(visit: Visit, kind: str, name: str) -> str:
    """What registering there would do. Raises for a name that does not go with the choice."""
    if kind not in (NEW, EXISTING):
        raise InvalidParameter("choose whether the model is new or exists already")
    check_model_name(name)
    try:
        model = visit.registry.get_registered_model(name)
    except NotFound:
        if kind == EXISTING:
            raise NotFound(
                f"there is no registered model {shown(name)}: choose one from the list, or “Create new model”"
            ) from None
        return "It will be version 1 of a new model."
    if kind == NEW:
        raise AlreadyExists(f"model {shown(name)} exists already: choose “An existing model”, or another name")
    latest = max((int(each.version) for each in model.latest_versions), default=None)
    return "It will be its first version." if latest is None else f"Its latest version is {latest}."


def _origin(visit: Visit, given: Mapping[str, str]) -> Origin:
    tracking = visit.registry.tracking
    if model_id := given.get("model"):
        model = tracking.get_logged_model(model_id)
        back = visit.links.logged_model(model_id)
        if model.source_run_id:
            back = visit.links.run(model.source_run_id, model=model_id) + "#artifacts"
        return Origin(model.model_uri, model.name, back, {"model": model_id}, versions_of(visit, model.artifact_uri))
    run_id, path = given.get("run"), given.get("path", "").strip("/")
    if not (run_id and path):
        raise InvalidParameter("what shall be registered? Open a run, and choose a model's folder among its artifacts")
    run = tracking.get_run(run_id)
    return Origin(
        f"runs:/{run_id}/{path}",
        f"{path} of run {run.run_name}",
        visit.links.run(run_id, path=path) + "#artifacts",
        {"run": run_id, "path": path},
        versions_of(visit, run.artifact_uri, path),
    )


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/register"): ask_where,
    ("POST", "/register"): register,
    ("GET", "/register/check"): check_name,
}
