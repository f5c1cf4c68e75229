"""Try it: a request to an endpoint, made by hand, with the answer and who gave it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from registry.errors import InvalidParameter, RegistryError, Unavailable
from registry.outbound.trial import TrialAnswer, ask_gateway
from registry.server.gateways import Gateway
from registry.server.reports import Endpoint
from registry.server.ui.contents import Contents, read_contents
from registry.server.ui.deployments import Moves, find
from registry.server.ui.forms import NO_FORM, Form
from registry.server.ui.inputs import Inputs, inputs_of
from registry.server.ui.visit import Page, Visit

MOST_AT_ONCE = 4
MOST_SHOWN_CHARS = 20_000
MOST_EXAMPLE_CHARS = 30_000
BY_FIELDS, BY_JSON = "fields", "json"
SAYS_WHO = {
    "x-model-version": "Version",
    "x-model-name": "Model",
    "x-model-alias": "Alias",
    "x-served-by": "Served by",
    "x-request-id": "Request",
}

# A model may take its time: what others do on pages must not wait for it.
_at_once = threading.BoundedSemaphore(MOST_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Shown:
    """An answer as the page shows it."""

    answer: TrialAnswer
    text: str
    is_cut: bool

    @property
    def who(self) -> list[tuple[str, str]]:
        return [
            (word, self.answer.headers[name][:300]) for name, word in SAYS_WHO.items() if name in self.answer.headers
        ]


def show_form(visit: Visit) -> Response:
    return _page(visit, NO_FORM, None)


def try_it(visit: Visit) -> Response:
    form = Form(BY_JSON if visit.typed.get("mode") == BY_JSON else BY_FIELDS, visit.typed)
    try:
        return _page(visit, form, _ask(visit, form))
    except RegistryError as problem:
        return _page(visit, Form(form.name, visit.typed, str(problem), problem.http_status), None)


def _ask(visit: Visit, form: Form) -> Shown:
    gateway, endpoint = _live(visit)
    body = _json_of(form) if form.name == BY_JSON else _row_of(form, inputs_of(_contents(visit, endpoint)))
    if not _at_once.acquire(blocking=False):
        raise Unavailable(f"{MOST_AT_ONCE} endpoints are being tried from here already; try again in a moment")
    try:
        answer = ask_gateway(gateway.address, gateway.id, endpoint.name, body)
    finally:
        _at_once.release()
    text = _readable(answer.body)
    return Shown(answer, text[:MOST_SHOWN_CHARS], len(text) > MOST_SHOWN_CHARS or not answer.is_whole)


def _page(visit: Visit, form: Form, shown: Shown | None) -> Response:
    gateway, endpoint = _live(visit)
    contents = _contents(visit, endpoint)
    return visit.show(
        "trial.html",
        form.status,
        form=form,
        gateway=gateway,
        endpoint=endpoint,
        version=_version_of(visit, endpoint),
        inputs=inputs_of(contents),
        example=contents.request if contents.request and len(contents.request) <= MOST_EXAMPLE_CHARS else "",
        shown=shown,
    )


def _live(visit: Visit) -> tuple[Gateway, Endpoint]:
    gateway, endpoint = find(visit)
    if gateway.is_gone:
        raise Unavailable(f"gateway {gateway.id} has stopped reporting, so there is nobody to try it with")
    return gateway, endpoint


def _version_of(visit: Visit, endpoint: Endpoint) -> str | None:
    """The version that answers, or would once it is loaded."""
    moves = Moves(visit).of(endpoint)
    return endpoint.primary or (moves[0].to_version if moves else None)


def _contents(visit: Visit, endpoint: Endpoint) -> Contents:
    version = _version_of(visit, endpoint)
    try:
        uri = visit.registry.get_model_version_download_uri(endpoint.model, version or "")
    except RegistryError:  # a directory, or a version of another registry
        return Contents(problem="this registry does not have it")
    return read_contents(visit.registry, uri)


def _row_of(form: Form, inputs: Inputs | None) -> bytes:
    if inputs is None:
        raise InvalidParameter("the model's signature is not the one that this form was made from: load the page again")
    return inputs.request(form.values)


def _json_of(form: Form) -> bytes:
    text = form.required("body", "the request").encode(errors="replace")
    try:
        msgspec.json.decode(text.replace(b"NaN", b"0"))
    except (msgspec.DecodeError, RecursionError) as problem:
        raise InvalidParameter(f"the request is not JSON: {problem}") from None
    return text


def _readable(body: bytes) -> str:
    try:
        return msgspec.json.format(body, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="replace")


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/deployments/{gateway}/{endpoint}/try"): show_form,
    ("POST", "/deployments/{gateway}/{endpoint}/try"): try_it,
}
