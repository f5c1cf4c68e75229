"""The registry's ASGI application: JSON routes by a dictionary, everything that streams by Starlette."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from functools import partial
from importlib.metadata import version as installed_version
from typing import Any, cast

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as StarletteRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route as StarletteRoute

from registry.core import ServedRegistry
from registry.errors import RegistryError, Unavailable
from registry.server import aliases, experiments, gateways, logged_models, metrics, models, runs, webhooks
from registry.server.artifacts import routes as artifact_routes
from registry.server.bodies import ClientGone, Receive, read_body
from registry.server.changes import ChangeFeed
from registry.server.changes import routes as change_routes
from registry.server.crew import Crew
from registry.server.files import FileThreads
from registry.server.guard import Guard
from registry.server.live import LiveStream
from registry.server.openapi import document
from registry.server.pages import Pages
from registry.server.routing import Route, Table
from registry.server.transport import (
    ENDPOINT_NOT_FOUND,
    Answer,
    Fields,
    Handler,
    Request,
    answer,
    failure,
    refusal,
)
from registry.server.ui.website import Website, is_for_a_browser

log = logging.getLogger("turnout.http")

MAX_BODY_BYTES = 1 << 20
MAX_BATCH_BYTES = 8 << 20
LINGER_S = 2.0

# In a file, reading a row takes less than the way to a thread and back, and threads that share the interpreter slow
# each other down: 16 clients get twice as many models a second from the event loop as from four threads. Over a
# network, or while all of the file's connections may be in use, a read could hang: then never on the event loop.
THREADS_FOR_FILE = 1
THREADS_FOR_NETWORK = 8
MAX_LOAD_BESIDE = 4
_BATCHES = {"runs/log-batch": MAX_BATCH_BYTES, "runs/log-model": MAX_BATCH_BYTES, "runs/log-inputs": MAX_BATCH_BYTES}

# Answered before the body was read: what still comes of it is nobody's.
_BODY_UNREAD = frozenset({403, 405, 408, 413, 415})

MLFLOW = ("/api/2.0/mlflow/", "/ajax-api/2.0/mlflow/")
MLFLOW_3 = ("/api/3.0/mlflow/", "/ajax-api/3.0/mlflow/")
TURNOUT = ("/api/turnout/v1/",)

# What the 3.x client asks once: no transfers past this server, so none of what it could do with them.
CAPABILITIES = {
    "store_type": "SqlStore",
    "workspaces_enabled": False,
    "trace_archival_enabled": False,
    "multipart_uploads_enabled": False,
    "multipart_downloads_enabled": False,
    "presigned_upload_run_id_supported": False,
    "presigned_upload_model_id_supported": False,
    "features_enabled": {"gateway": False},
}

_NO_PAGE = "There is no page at this address; it may have been copied incompletely."

Scope = Any
Send = Any


def create_app(
    registry: ServedRegistry, *, static_prefix: str = "", allowed_hosts: Iterable[str] = ()
) -> RegistryServer:
    """The application that serves *registry*; closing the registry stays with the caller.

    Everything stands below *static_prefix*, such as `/mlflow`. *allowed_hosts* are names it may be asked under,
    beside this machine's loopback names and addresses in digits.
    """
    return RegistryServer(registry, static_prefix.rstrip("/"), Guard(allowed_hosts))


class RegistryServer:
    """An ASGI application. Its life is ASGI's lifespan; `stop_streams` ends what would go on for ever."""

    def __init__(self, registry: ServedRegistry, prefix: str, guard: Guard) -> None:
        self._registry = registry
        self._prefix = prefix
        self._guard = guard
        self._is_embedded = registry.uri.startswith("sqlite:")
        self._crew = Crew(THREADS_FOR_FILE if self._is_embedded else THREADS_FOR_NETWORK)
        self._file_threads = FileThreads()
        self._feed = ChangeFeed(registry, self._crew)
        self._pages = Pages()
        self._metrics = metrics.Metrics()
        self.gateways = gateways.Gateways()
        self._live_stream = LiveStream(self._feed, self.gateways, self._metrics)
        self._table = _table(prefix, self.gateways)
        self._website = Website(registry, self.gateways, self._file_threads, prefix)
        self._router = self._make_router()
        self._health = f"{prefix}/health"

    def stop_streams(self) -> None:
        """Answer every long poll and end every event stream. Safe to call twice, and in a signal handler."""
        self._feed.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise RuntimeError(f"only HTTP is served, not {scope['type']}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._feed.start()
        self._live_stream.start()
        await send({"type": "lifespan.startup.complete"})
        with contextlib.suppress(asyncio.CancelledError):  # told to stop at once, which is no failure either
            await receive()
        self._feed.stop()
        self._crew.close()
        self._file_threads.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        method: str = scope["method"]
        headers = dict(scope["headers"])
        label, found, place = "other", None, None
        try:
            path: bytes = scope["raw_path"]
            place = self._table.find(path)
            refused = self._guard.refusal(method, headers)
            if refused is not None and scope["path"] != self._health:
                found = failure(403, "PERMISSION_DENIED", refused)
            elif place is None:
                await self._stream(scope, receive, send, began)
                return
            elif (route := place.routes.get(method)) is None:
                found = _wrong_method(method, place.routes)
            else:
                label = route.label
                found = await self._answer(route, scope, headers, place.fields, receive)
        except ClientGone:
            return
        except asyncio.CancelledError:  # the server was told to stop at once; it has nothing else to cancel for
            if place is None:
                return
            found = refusal(Unavailable("the server is stopping; try again"))
        except RegistryError as problem:
            found = refusal(problem)
        self._metrics.count(method if label != "other" else "any", label, found.status, time.perf_counter() - began)
        if found.status in _BODY_UNREAD:
            await _send_and_close(found, receive, send)
            return
        await send({"type": "http.response.start", "status": found.status, "headers": found.headers})
        await send({"type": "http.response.body", "body": found.body})

    async def _answer(
        self,
        route: Route,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        path_fields: Mapping[str, str] | None,
        receive: Receive,
    ) -> Answer:
        body = b""
        if route.method != "GET":
            if headers.get(b"content-encoding", b"identity") not in (b"", b"identity"):
                return failure(415, "BAD_REQUEST", "compressed bodies are not taken; send it without Content-Encoding")
            body = await read_body(receive, headers.get(b"content-length"), route.max_body_bytes)
        request = Request(route.method, scope["query_string"], headers, body, path_fields)
        if self._is_embedded and route.handler in models.QUICK and self._crew.load <= MAX_LOAD_BESIDE:
            return answer(self._registry, route.handler, request)
        work = self._pages.answer if route.handler in models.LISTS else answer
        return await self._crew.run(partial(work, self._registry, route.handler, request))

    # Everything else

    async def _stream(self, scope: Scope, receive: Receive, send: Send, began: float) -> None:
        """By Starlette, which sees paths without the prefix."""
        status = 500

        async def counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        below = {**scope, "app": self._router, "path": _without(self._prefix, scope["path"])}
        try:
            await self._router(cast(Any, below), receive, counted)
        finally:
            route = below.get("route")
            label = "other" if route is None else self._prefix + route.path
            method = "any" if route is None else scope["method"]
            self._metrics.count(method, label, status, time.perf_counter() - began)

    def _make_router(self) -> Starlette:
        routes = [
            StarletteRoute("/health", _health),
            StarletteRoute("/version", _version),
            StarletteRoute("/ready", self._ready),
            StarletteRoute("/metrics", self._show_metrics),
            StarletteRoute("/openapi.json", self._show_openapi),
            *change_routes(self._feed),
            *self._live_stream.routes(),
            *artifact_routes(self._registry, self._file_threads),
            *self._website.routes(),
        ]
        handlers = {HTTPException: self._http_error, RegistryError: self._registry_error, Exception: _server_error}
        return Starlette(routes=routes, exception_handlers=cast(Any, handlers))

    async def _ready(self, _: StarletteRequest) -> Response:
        await self._crew.run(self._registry.cursor)
        return PlainTextResponse("OK")

    async def _show_openapi(self, _: StarletteRequest) -> Response:
        return Response(msgspec.json.encode(document(self._prefix)), media_type="application/json")

    async def _show_metrics(self, _: StarletteRequest) -> Response:
        return Response(self._metrics.text(), headers={"content-type": metrics.CONTENT_TYPE})

    async def _registry_error(self, request: StarletteRequest, problem: Exception) -> Response:
        assert isinstance(problem, RegistryError)
        if is_for_a_browser(request):
            return self._website.problem(request, problem.http_status, str(problem))
        return _as_response(refusal(problem))

    async def _http_error(self, request: StarletteRequest, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        if is_for_a_browser(request):
            return self._website.problem(request, problem.status_code, _NO_PAGE)
        code = ENDPOINT_NOT_FOUND if problem.status_code in (404, 405) else "BAD_REQUEST"
        found = failure(problem.status_code, code, f"{problem.detail}: {request.method} {request.url.path[:200]}")
        extra = [(key.lower().encode(), value.encode()) for key, value in (problem.headers or {}).items()]
        return _as_response(Answer(found.status, [*found.headers, *extra], found.body))


async def _send_and_close(found: Answer, receive: Receive, send: Send) -> None:
    """Closed while a client still sends, a connection is reset, and the answer lost with it: linger a little."""
    headers = [*found.headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": found.status, "headers": headers})
    await send({"type": "http.response.body", "body": found.body, "more_body": True})
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b""})


def _table(prefix: str, reports: gateways.Gateways) -> Table:
    table = Table()
    mlflow = [prefix + each for each in MLFLOW]
    for module in (models, runs, experiments, logged_models, webhooks):
        table.add(mlflow, module.ROUTES, _BATCHES, MAX_BODY_BYTES)
    table.add([prefix + each for each in MLFLOW_3], _PROBES, {}, MAX_BODY_BYTES)
    turnout = [prefix + each for each in TURNOUT]
    table.add(turnout, aliases.ROUTES, {}, MAX_BODY_BYTES)
    table.add(turnout, gateways.routes(reports), {}, MAX_BODY_BYTES)
    return table


def _server_info(_registry: ServedRegistry, _fields: Fields) -> Mapping[str, Any]:
    return CAPABILITIES


_PROBES: Mapping[tuple[str, str], Handler] = {("GET", "server-info"): _server_info}


def _without(prefix: str, path: str) -> str:
    """Nothing that stands outside of the prefix is there."""
    if not prefix:
        return path
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else "/outside"


def _wrong_method(method: str, routes: Mapping[str, Route]) -> Answer:
    allowed = ", ".join(sorted(routes))
    message = f"{method} is not how this is asked for; use {allowed}"
    return failure(405, ENDPOINT_NOT_FOUND, message, (b"allow", allowed.encode()))


async def _health(_: StarletteRequest) -> Response:
    return PlainTextResponse("OK")


async def _version(_: StarletteRequest) -> Response:
    return PlainTextResponse(installed_version("turnout"))


def _as_response(found: Answer) -> Response:
    return Response(found.body, found.status, {key.decode(): value.decode() for key, value in found.headers})


async def _server_error(request: StarletteRequest, problem: Exception) -> Response:
    log.error("a request failed: %s", request.method, exc_info=problem)
    return _as_response(failure(500, "INTERNAL_ERROR", "the server failed; its log says why"))
