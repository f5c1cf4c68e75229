"""HTTP: predictions as a plain ASGI callable ahead of the router, everything else as Starlette routes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version as installed_version
from typing import Any, cast
from urllib.parse import quote
from weakref import WeakKeyDictionary

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from gateway import inference
from gateway.bodies import Receive, read_body
from gateway.configfile import ConfigFile
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import ClientGone, GatewayError, NotReady, UnsupportedMediaType
from gateway.metrics import CONTENT_TYPE, Exposition
from gateway.protocols.mlflow import MlflowDialect
from gateway.reconciler import Reconciler
from gateway.runtimes.base import Resolved
from gateway.servable import Servable
from gateway.worker.frames import Payload

log = logging.getLogger("turnout.http")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]

JSON = (b"content-type", b"application/json")
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


class Gateway:
    """The ASGI application."""

    def __init__(
        self, endpoints: EndpointTable, reconciler: Reconciler, metrics: Exposition, file: ConfigFile | None
    ) -> None:
        self.is_draining = False
        self._endpoints = endpoints
        self._reconciler = reconciler
        self._metrics = metrics
        self._file = file
        self._router = Starlette(
            routes=[
                Route("/ping", self._ping),
                Route("/health", self._ping),
                Route("/version", self._version),
                Route("/status", self._status),
                Route("/metrics", self._show_metrics),
            ],
            exception_handlers={HTTPException: _http_error},
        )
        self._dialects: WeakKeyDictionary[Servable, _Dialect] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/invocations"):
            await self._invoke(scope, receive, send)
        else:
            await self._router(scope, cast(Any, receive), cast(Any, send))

    # Predictions

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        request_id = _request_id(headers.get(b"x-request-id"))
        try:
            name, version = _target(scope)
            endpoint = self._endpoints.get(name)
            if scope["method"] != "POST":
                await _reply(send, 405, _error("BAD_REQUEST", "predictions are asked for with POST"), request_id)
                return
            _refuse_encoding(headers.get(b"content-encoding"))
            limit = self._reconciler.settings.max_body_bytes
            body = await read_body(receive, headers.get(b"content-length"), limit)
            await self._predict(endpoint, version, headers.get(b"content-type"), body, request_id, send)
        except ClientGone:
            return
        except asyncio.CancelledError:  # the shutdown timeout is over; the server has nothing else to cancel for
            await _reply_error(send, NotReady("the gateway is shutting down; ask another"), request_id)
        except GatewayError as problem:
            await _reply_error(send, problem, request_id)
        except Exception:
            log.exception("unexpected", extra={"request_id": request_id.decode()})
            await _reply(send, 500, _error("INTERNAL_ERROR", "the gateway failed; its log says why"), request_id)

    async def _predict(
        self,
        endpoint: Endpoint,
        version: str | None,
        content_type: bytes | None,
        body: bytes,
        request_id: bytes,
        send: Send,
    ) -> None:
        def decode(servable: Servable) -> Payload:
            return self._dialect(servable).mlflow.decode(content_type, body)

        answer, servable, role = await inference.predict(endpoint, decode, version)
        dialect = self._dialect(servable)
        text = dialect.mlflow.encode(answer)
        await _send(send, 200, text, [*dialect.headers[role], (b"x-request-id", request_id)])

    def _dialect(self, servable: Servable) -> _Dialect:
        """Decoders and headers of one version, made on its first request and gone with it."""
        found = self._dialects.get(servable)
        if found is None:
            found = self._dialects[servable] = _Dialect(servable.resolved)
        return found

    # Everything else

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

    async def _status(self, _: Request) -> Response:
        return JSONResponse(
            {
                "epoch": self._reconciler.epoch,
                "ready": self._is_ready() and not self.is_draining,
                "registry": self._reconciler.registry_status(),
                "config": self._file.as_json() if self._file else None,
                "endpoints": [endpoint.as_json() for endpoint in self._endpoints],
            }
        )


class _Dialect:
    def __init__(self, resolved: Resolved) -> None:
        self.mlflow = MlflowDialect(resolved.signature)
        named = [
            (b"x-model-name", resolved.version.name if resolved.version else None),
            (b"x-model-version", resolved.label),
            (b"x-model-alias", resolved.alias),
        ]
        common = [JSON, *((key, _header(value)) for key, value in named if value)]
        self.headers: dict[str, Headers] = {
            role: [*common, (b"x-served-by", role.encode())] for role in ("primary", "canary", "challenger")
        }


def _target(scope: Scope) -> tuple[str | None, str | None]:
    """The endpoint and the version that a path names, None for the default endpoint and for any version."""
    path: str = scope["path"]
    if path == "/invocations":
        return None, None
    match path.split("/"):
        case ["", "endpoints", name, "invocations"]:
            return name, None
        case ["", "endpoints", name, "versions", version, "invocations"]:
            return name, version
    return path, None


def _refuse_encoding(encoding: bytes | None) -> None:
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("compressed bodies are not taken; send it without Content-Encoding")


def _request_id(given: bytes | None) -> bytes:
    if given is not None and REQUEST_ID.fullmatch(given):
        return given
    return os.urandom(16).hex().encode()


def _header(value: str) -> bytes:
    """A header's value in ASCII; anything else percent-encoded as UTF-8."""
    return quote(value, safe=" !#$&'()*+,/:;=?@[]|^`{}~\"<>\\").encode()


def _error(code: str, message: str) -> bytes:
    return json.dumps({"error_code": code, "message": message}).encode()


async def _reply_error(send: Send, problem: GatewayError, request_id: bytes) -> None:
    retry: Headers = [] if problem.retry_after_s is None else [(b"retry-after", b"%d" % problem.retry_after_s)]
    if problem.closes_connection:
        retry.append((b"connection", b"close"))
    await _send(
        send,
        problem.http_status,
        _error(problem.error_code, str(problem)),
        [JSON, (b"x-request-id", request_id), *retry],
    )


async def _reply(send: Send, status: int, text: bytes, request_id: bytes) -> None:
    await _send(send, status, text, [JSON, (b"x-request-id", request_id)])


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _problem(status: int, code: str, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return JSONResponse({"error_code": code, "message": message}, status, headers)


async def _http_error(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    code = "ENDPOINT_NOT_FOUND" if problem.status_code == 404 else "BAD_REQUEST"
    return _problem(problem.status_code, code, f"{problem.detail}: {request.method} {request.url.path}")
