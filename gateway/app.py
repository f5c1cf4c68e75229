"""HTTP for everything but predictions, as Starlette routes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, MutableMapping
from importlib.metadata import version as installed_version
from typing import Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway import browsing, metadata
from gateway.bodies import Receive
from gateway.configfile import ConfigFile
from gateway.endpoints import EndpointTable
from gateway.errors import GatewayError
from gateway.identity import gateway_id
from gateway.metrics import CONTENT_TYPE, Exposition
from gateway.openapi import OpenApi
from gateway.predictions import Send
from gateway.protocols import v2
from gateway.reconciler import Reconciler
from gateway.servable import Servable


class Gateway:
    """The ASGI application for all that is asked of the whole gateway; *processes* tells who takes requests."""

    def __init__(
        self,
        endpoints: EndpointTable,
        reconciler: Reconciler,
        metrics: Exposition,
        file: ConfigFile | None,
        processes: Callable[[], list[dict[str, Any]]],
    ) -> None:
        self.is_draining = False
        self._endpoints = endpoints
        self._reconciler = reconciler
        self._metrics = metrics
        self._file = file
        self._openapi = OpenApi(endpoints)
        self._processes = processes
        self._router = Starlette(
            routes=[
                Route("/ping", self._ping),
                Route("/health", self._ping),
                Route("/version", self._version),
                Route("/status", self._status),
                Route("/metrics", self._show_metrics),
                Route("/openapi.json", self._show_openapi),
                *(Route(path, self._show_file) for path in browsing.FILES),
                Route("/v2", self._show_v2),
                Route("/v2/{path:path}", self._show_v2),
            ],
            exception_handlers={HTTPException: _http_error},
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # nobody waits for it any more
            await self._router(scope, cast(Any, receive), cast(Any, send))

    async def _ping(self, _: Request) -> Response:
        if self.is_draining:
            return _problem(503, "TEMPORARILY_UNAVAILABLE", "the gateway is shutting down")
        if not self._is_ready():
            waiting = ", ".join(endpoint.name for endpoint in self._endpoints if not endpoint.is_ready)
            return _problem(503, "TEMPORARILY_UNAVAILABLE", f"nothing to serve yet on: {waiting}")
        return Response("\n", media_type="application/json")

    def _is_ready(self) -> bool:
        """Something can be served, and no endpoint is still on its way up for the first time."""
        endpoints = list(self._endpoints)
        return any(each.is_ready for each in endpoints) and not any(each.state == "starting" for each in endpoints)

    async def _version(self, _: Request) -> Response:
        return PlainTextResponse(installed_version("turnout"))

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _show_openapi(self, _: Request) -> Response:
        return _ascii(self._openapi.document())

    async def _show_file(self, request: Request) -> Response:
        text, headers = browsing.file(request.url.path)
        return Response(text, headers=headers)

    async def _show_v2(self, request: Request) -> Response:
        is_ready = self._is_ready() and not self.is_draining
        try:
            path = request.path_params.get("path", "")
            found = await metadata.look_up(path, self._endpoints, is_ready, _describe)
        except GatewayError as problem:
            retry = {} if problem.retry_after_s is None else {"retry-after": str(problem.retry_after_s)}
            text = v2.error(problem.error_code, str(problem))
            return Response(text, problem.http_status, retry, "application/json")
        return _ascii(found)

    async def _status(self, request: Request) -> Response:
        return JSONResponse(
            {
                "gateway": gateway_id(request.scope["server"][1]),
                "epoch": self._reconciler.routing.epoch,
                "ready": self._is_ready() and not self.is_draining,
                "registry": self._reconciler.registry_status(),
                "http_workers": self._processes(),
                "config": self._file.as_json() if self._file else None,
                "endpoints": [endpoint.as_json() for endpoint in self._endpoints],
            }
        )


def _describe(servable: Servable) -> dict[str, Any]:
    return v2.V2Dialect(servable.resolved.signature).metadata()


def _ascii(document: Any) -> Response:
    """JSON with names out of models, which may hold what UTF-8 cannot say."""
    return Response(json.dumps(document), media_type="application/json")


def _problem(status: int, code: str, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error_code": code, "message": message}, status, headers)


async def _http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    code = "ENDPOINT_NOT_FOUND" if problem.status_code == 404 else "BAD_REQUEST"
    message = f"{problem.detail}: {request.method} {request.url.path}"
    if request.url.path.startswith("/v2"):
        return Response(v2.error(code, message), problem.status_code, problem.headers, "application/json")
    return _problem(problem.status_code, code, message)
