"""One request for a page: what was asked for, and how it is answered."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment
from starlette.responses import Response

from registry.core import ServedRegistry
from registry.errors import InvalidParameter, RegistryError
from registry.server.gateways import Gateways
from registry.server.ui.forms import MAX_FIELDS, NO_FORM, Form
from registry.server.ui.links import Links

# No script, style or frame but our own files; `data:` is for nothing. What is shown comes from anybody.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-type": "text/html; charset=utf-8",
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: with it, browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
    "vary": "accept-encoding",
}
WORTH_COMPRESSING = 1_000


@dataclass(frozen=True, slots=True)
class Site:
    """What all pages are made from."""

    registry: ServedRegistry
    gateways: Gateways
    links: Links
    templates: Environment


@dataclass(frozen=True, slots=True)
class Visit:
    """A request, with the fields of its path, its query and its form. *repeated* has each value of the query's."""

    site: Site
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    repeated: Mapping[str, Sequence[str]] = field(default_factory=dict)
    typed: Mapping[str, str] = field(default_factory=dict)
    takes_gzip: bool = False
    origin: str = ""

    @property
    def registry(self) -> ServedRegistry:
        return self.site.registry

    @property
    def links(self) -> Links:
        return self.site.links

    @property
    def opened(self) -> Form:
        """The form that the address asks to open."""
        name = self.query.get("edit", "")
        return Form(name) if name else NO_FORM

    def show(self, template: str, status: int = 200, /, **context: Any) -> Response:
        """The page that *template* makes."""
        text = self.site.templates.get_template(template).render(
            context, links=self.links, query=self.query, notice=notice(self.query), origin=self.origin
        )
        return self._html(text.encode(errors="replace"), status)

    def go(self, address: str) -> Response:
        """On to another page, after a change: reloading it changes nothing again."""
        return Response(status_code=303, headers={"location": address, **HEADERS})

    def _html(self, body: bytes, status: int) -> Response:
        headers = dict(HEADERS)
        if self.takes_gzip and len(body) > WORTH_COMPRESSING:
            body = gzip.compress(body, 5)
            headers["content-encoding"] = "gzip"
        return Response(body, status, headers)


Page = Callable[[Visit], Response]
PageWithForm = Callable[[Visit, Form], Response]


def changing(visit: Visit, form: str, page: PageWithForm, change: Callable[[Form], str]) -> Response:
    """Do *change* and go to the address that it returns; refused, show *page* with what was typed and why."""
    typed = Form(form, visit.typed)
    try:
        return visit.go(change(typed))
    except RegistryError as problem:
        return page(visit, Form(form, visit.typed, str(problem), problem.http_status))


def read_form(body: bytes) -> dict[str, str]:
    """The fields of an HTML form; of two with one name the last counts. Raises `InvalidParameter`."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise InvalidParameter("this is no form of a page: its fields cannot be read") from None
    # A browser ends the lines of a text area with CR LF.
    return {name: value.replace("\r\n", "\n") for name, value in pairs}


# What a page says after a change, by the `done` of its address: a fixed text, so that a link can put no words in our
# mouth. `what` is quoted.
NOTICES = {
    "model-created": "Model created.",
    "model-deleted": "Model {what} was deleted.",
    "model-renamed": "The model was renamed; it was {what}.",
    "version-created": "Version {what} is registered.",
    "version-deleted": "Version {what} was deleted.",
    "alias-set": "Alias {what} is set.",
    "alias-alike": "Alias {what} is set, beside another one that differs only by case: clients take them for two.",
    "alias-deleted": "Alias {what} was deleted.",
    "rolled-back": "Rolled back: the alias points at version {what}.",
    "tag-set": "Tag {what} is set.",
    "tag-deleted": "Tag {what} was deleted.",
    "saved": "Saved.",
}


def notice(query: Mapping[str, str]) -> str | None:
    text = NOTICES.get(query.get("done", ""))
    return None if text is None else text.replace("{what}", f"“{query.get('what', '')[:256]}”")
