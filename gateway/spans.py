"""Spans of predictions: one for each request, and below it what it waited for and its time in the replica.

Only a gateway that exports traces imports this file.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from gateway import inference
from gateway.admission import Admission
from gateway.bodies import Receive
from gateway.config import Settings
from gateway.deadlines import Deadline
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import GatewayError
from gateway.inference import Decode
from gateway.predictions import Application, Predictions, Scope, Send
from gateway.servable import Servable
from gateway.wire import Headers
from gateway.worker.frames import Payload, Timing

METHODS = frozenset(("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"))

Attributes = dict[str, AttributeValue]


def traced(
    tracer: Tracer,
    endpoints: EndpointTable,
    settings: Callable[[], Settings],
    admission: Admission,
    others: Application,
) -> Application:
    """`Predictions` with a span for each, whose parent is the one that the request's headers name."""
    return _Traced(Predictions(endpoints, settings, admission, others, _TracedPredict(tracer)), tracer)


class _Headers(Getter[Headers]):
    """How propagators read the headers of a request."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        wanted = key.lower().encode()
        return [value.decode("latin-1") for name, value in carrier if name == wanted] or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


HEADERS = _Headers()


class _Traced:
    """The *application* with a server span around each prediction, by OpenTelemetry's conventions for HTTP."""

    def __init__(self, application: Application, tracer: Tracer) -> None:
        self._application = application
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = _route(scope["path"]) if scope["type"] == "http" else None
        if route is None:
            await self._application(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        parent = propagate.extract(scope["headers"], getter=HEADERS)
        span = self._tracer.start_span(f"{method} {route}", parent, SpanKind.SERVER, _request(scope, route))

        async def send_and_note(message: Scope) -> None:
            if message["type"] == "http.response.start" and span.is_recording():
                _note_answer(span, message["status"], message["headers"])
            await send(message)

        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            await self._application(scope, receive, send_and_note)


class _TracedPredict:
    """`inference.predict`, told of in the span that it runs in, and in spans below that."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def __call__(
        self, endpoint: Endpoint, decode: Decode, version: str | None = None, own: Deadline | None = None
    ) -> tuple[Payload, Servable, str]:
        span = trace.get_current_span()
        if not span.is_recording():
            return await inference.predict(endpoint, decode, version, own)
        span.set_attribute("turnout.endpoint", endpoint.name)
        timing, problem = Timing(), None
        asleep_ns, picked_ns, waiting_ns = 0 if endpoint.split else time_ns(), 0, 0

        def decode_timed(servable: Servable) -> Payload:
            nonlocal picked_ns, waiting_ns
            picked_ns = time_ns()
            span.set_attributes(_picked(endpoint, servable))
            payload = decode(servable)
            waiting_ns = time_ns()
            return payload._replace(timings=(timing,))

        try:
            return await inference.predict(endpoint, decode_timed, version, own)
        except GatewayError as raised:
            problem = raised
            span.set_attribute("turnout.error_code", raised.error_code)
            raise
        finally:
            # A problem is that of the last of them: the request went no further.
            begun_ns = timing.begun_ns or timing.sent_ns
            if asleep_ns:
                self._show("load", asleep_ns, picked_ns, None if picked_ns else problem)
            if waiting_ns:
                self._show("queue", waiting_ns, begun_ns, None if begun_ns else problem)
            if begun_ns:
                self._show("replica", begun_ns, timing.ended_ns, problem, _joined(timing))

    def _show(
        self, name: str, begun_ns: int, ended_ns: int, problem: GatewayError | None, known: Attributes | None = None
    ) -> None:
        """A span of what lies behind; one without an end ends here."""
        span = self._tracer.start_span(name, attributes=known, start_time=begun_ns)
        if problem is not None and problem.http_status >= 500:
            span.set_attribute("error.type", problem.error_code)
            span.set_status(StatusCode.ERROR, str(problem))
        span.end(ended_ns or None)


def _joined(timing: Timing) -> Attributes:
    rows: Attributes = {"turnout.batch.rows": timing.rows} if timing.rows else {}
    return {"turnout.batch.requests": timing.requests, **rows}


def _route(path: str) -> str | None:
    match path.split("/"):
        case ["", "invocations"]:
            return path
        case ["", "endpoints", _, "invocations"]:
            return "/endpoints/{name}/invocations"
        case ["", "endpoints", _, "versions", _, "invocations"]:
            return "/endpoints/{name}/versions/{version}/invocations"
        case ["", "v2", "models", _, "infer"]:
            return "/v2/models/{name}/infer"
        case ["", "v2", "models", _, "versions", _, "infer"]:
            return "/v2/models/{name}/versions/{version}/infer"
    return None


def _request(scope: Scope, route: str) -> Attributes:
    """What is known before it is answered, which is all that a sampler may go by."""
    known = scope["method"] in METHODS
    address, port = _server(scope)
    attributes: dict[str, Any] = {
        "http.request.method": scope["method"] if known else "_OTHER",
        "http.request.method_original": None if known else scope["method"],
        "http.route": route,
        "url.scheme": scope["scheme"],
        "url.path": scope["path"],
        "server.address": address,
        "server.port": port,
        "network.peer.address": scope["client"][0] if scope["client"] else None,
        "network.protocol.version": scope["http_version"],
        "user_agent.original": _first(scope["headers"], "user-agent"),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _server(scope: Scope) -> tuple[str | None, int | None]:
    """What the client called it, or where it listens."""
    try:
        called = urlsplit(f"//{_first(scope['headers'], 'host') or ''}")
        if called.hostname:
            return called.hostname, called.port
    except ValueError:  # it is no name
        pass
    listening: tuple[str | None, int | None] = scope["server"] or (None, None)
    return listening


def _first(headers: Headers, name: str) -> str | None:
    found = HEADERS.get(headers, name)
    return found[0] if found else None


def _picked(endpoint: Endpoint, servable: Servable) -> Attributes:
    assert endpoint.split is not None, "a version was picked from it"
    resolved = servable.resolved
    attributes: dict[str, Any] = {
        "turnout.model_version": resolved.label,
        "turnout.model_alias": resolved.alias,
        "turnout.role": next(role for each, role, _ in endpoint.split.shares() if each is servable),
    }
    if resolved.version is not None:
        attributes |= {"turnout.model_name": resolved.version.name, "turnout.run_id": resolved.version.run_id}
    return {name: value for name, value in attributes.items() if value is not None}


def _note_answer(span: Span, status: int, headers: Headers) -> None:
    span.set_attribute("http.response.status_code", status)
    request_id = _first(headers, "x-request-id")
    if request_id is not None:
        span.set_attribute("turnout.request_id", request_id)
    if status >= 500:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)
