"""The registered models: the list of them, with search, order and pages, and making a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.responses import Response

from registry.core import RegisteredModel
from registry.errors import InvalidParameter, RegistryError
from registry.page import Page as Rows
from registry.server.served import Served
from registry.server.ui.forms import Form
from registry.server.ui.searches import filter_of, part_of
from registry.server.ui.visit import Page, Visit, changing

PER_PAGE = 25
FEW_ALIASES = 4
FEW_VERSIONS = 4
SUGGESTED = 20
ORDERS = {
    "name": "name ASC",
    "-name": "name DESC",
    "updated": "last_updated_timestamp ASC",
    "-updated": "last_updated_timestamp DESC",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A model as the list shows it."""

    model: RegisteredModel
    latest: str | None
    served: tuple[Served, ...]

    @property
    def aliases(self) -> list[tuple[str, str]]:
        """The first few, with their versions."""
        return sorted(self.model.aliases.items())[:FEW_ALIASES]

    @property
    def served_aliases(self) -> frozenset[str]:
        return frozenset(each.alias for each in self.served if each.alias)

    @property
    def served_versions(self) -> list[str]:
        return sorted({each.version for each in self.served if each.is_serving})[:FEW_VERSIONS]


def list_models(visit: Visit) -> Response:
    return models_page(visit, visit.opened)


def models_page(visit: Visit, form: Form) -> Response:
    search, order = visit.query.get("q", "").strip(), visit.query.get("sort", "name")
    rows, problem = Rows[RegisteredModel](), None
    try:
        rows = visit.registry.search_registered_models(
            filter_of(search), PER_PAGE, [_order(order)], visit.query.get("page") or None
        )
    except RegistryError as error:
        problem = error
    status = problem.http_status if problem else form.status
    return visit.show(
        "models.html",
        status,
        form=form,
        search=search,
        sort=order,
        rows=[_row(each, visit) for each in rows],
        next_page=rows.token,
        problem=problem,
        is_empty=not rows and not search and problem is None and "page" not in visit.query,
    )


def create_model(visit: Visit) -> Response:
    def change(form: Form) -> str:
        name = form.required("name", "the model's name")
        visit.registry.create_registered_model(name, description=form.value("description") or None)
        return visit.links.model(name, done="model-created")

    return changing(visit, "create", models_page, change)


def suggest_names(visit: Visit) -> Response:
    """What a field for a model's name offers while somebody types."""
    typed = visit.query.get("target") or visit.query.get("name") or ""
    return visit.show("names.html", names=names_with(visit, typed.strip()))


def names_with(visit: Visit, text: str = "") -> list[str]:
    """The first models whose name has *text* in it."""
    return [each.name for each in visit.registry.search_registered_models(part_of("name", text), SUGGESTED)]


def _order(given: str) -> str:
    if given not in ORDERS:
        raise InvalidParameter(f"the list has no order {given[:40]!r}; it has: {', '.join(ORDERS)}")
    return ORDERS[given]


def _row(model: RegisteredModel, visit: Visit) -> Row:
    latest = max((int(each.version) for each in model.latest_versions), default=None)
    return Row(model, None if latest is None else str(latest), visit.site.gateways.serving(model.name))


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/"): list_models,
    ("POST", "/models"): create_model,
    ("GET", "/names"): suggest_names,
}
