"""HTTP for predictions: a plain ASGI callable, the same in every process that takes them."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import cached_property
from typing import Any, cast
from urllib.parse import quote
from weakref import WeakKeyDictionary

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from gateway import deadlines, inference, wire
from gateway.admission import Admission
from gateway.bodies import Receive, read_body
from gateway.config import Settings
from gateway.deadlines import Deadline, own_deadline
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import ClientGone, GatewayError, NotReady, UnsupportedMediaType
from gateway.protocols import v2
from gateway.protocols.mlflow import MlflowDialect
from gateway.protocols.tensors import Asked
from gateway.runtimes.base import Resolved
from gateway.servable import Servable
from gateway.wire import JSON, Describe, Headers, error_body, error_headers
from gateway.worker.frames import Payload

log = logging.getLogger("turnout.http")

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Answered = Awaitable[tuple[bytes, Headers]]
Predict = Callable[[Endpoint, str | None, Mapping[bytes, bytes], bytes, Deadline | None], Answered]


class Predictions:
    """The ASGI application that answers predictions, and hands everything else to *others*.

    *settings* gives those that are in force.
    """

    def __init__(
        self,
        endpoints: EndpointTable,
        settings: Callable[[], Settings],
        admission: Admission,
        others: Application,
        predict: Callable[..., Awaitable[tuple[Payload, Servable, str]]] = inference.predict,
    ) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._admission = admission
        # Who asks, and how, matters to pages alone: a prediction does not pay for a proxy's headers.
        trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        self._others = cast(Application, ProxyHeadersMiddleware(cast(Any, others), trusted))
        self._predict = predict
        self._dialects: WeakKeyDictionary[Servable, _Dialect] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/invocations"):
            await self._invoke(self._score, error_body, scope, receive, send)
        elif scope["type"] == "http" and scope["path"].endswith("/infer"):
            await self._invoke(self._infer, v2.error, scope, receive, send)
        else:
            try:
                await self._others(scope, receive, send)
            except asyncio.CancelledError:
                await _reply_stopping(send, error_body, wire.request_id(None))

    async def _invoke(self, predict: Predict, error: Describe, scope: Scope, receive: Receive, send: Send) -> None:
        arrived_s = asyncio.get_running_loop().time()
        headers = dict(scope["headers"])
        request_id = wire.request_id(headers.get(b"x-request-id"))
        try:
            name, version = _target(scope)
            endpoint = self._endpoints.get(name)
            if scope["method"] != "POST":
                await _reply(send, 405, error("BAD_REQUEST", "predictions are asked for with POST"), request_id)
                return
            _refuse_encoding(headers.get(b"content-encoding"))
            own = own_deadline(headers.get(deadlines.HEADER), arrived_s)
            limit = self._settings().max_body_bytes
            with self._admission.place(endpoint) as place:
                body = await read_body(receive, headers.get(b"content-length"), limit, place, own)
                text, answered = await predict(endpoint, version, headers, body, own)
            answered.append((b"x-request-id", request_id))
            await _send(send, 200, text, answered)
        except ClientGone:
            return
        except asyncio.CancelledError:
            await _reply_stopping(send, error, request_id)
        except GatewayError as problem:
            await _reply_error(send, problem, error, request_id)
            problem.__traceback__ = None  # its frames name it: such a ring would stay until the garbage collector comes
        except Exception:
            log.exception("unexpected", extra={"request_id": request_id.decode()})
            await _reply(send, 500, error("INTERNAL_ERROR", "the gateway failed; its log says why"), request_id)

    async def _score(
        self,
        endpoint: Endpoint,
        version: str | None,
        headers: Mapping[bytes, bytes],
        body: bytes,
        own: Deadline | None,
    ) -> tuple[bytes, Headers]:
        """MLflow's scoring protocol."""

        def decode(servable: Servable) -> Payload:
            return self._dialect(servable).mlflow.decode(headers.get(b"content-type"), body)

        answer, servable, role = await self._predict(endpoint, decode, version, own)
        dialect = self._dialect(servable)
        return dialect.mlflow.encode(answer), [JSON, *dialect.headers[role]]

    async def _infer(
        self,
        endpoint: Endpoint,
        version: str | None,
        headers: Mapping[bytes, bytes],
        body: bytes,
        own: Deadline | None,
    ) -> tuple[bytes, Headers]:
        """Open Inference Protocol v2."""
        asked = Asked()

        def decode(servable: Servable) -> Payload:
            nonlocal asked
            payload, asked = self._dialect(servable).v2.decode(headers, body)
            return payload

        answer, servable, role = await self._predict(endpoint, decode, version, own)
        dialect = self._dialect(servable)
        text, headers_of_it = dialect.v2.encode(answer, asked, endpoint.name, servable.resolved.label)
        return text, [*headers_of_it, *dialect.headers[role]]

    def _dialect(self, servable: Servable) -> _Dialect:
        """Decoders and headers of one version, made on its first request and gone with it."""
        found = self._dialects.get(servable)
        if found is None:
            found = self._dialects[servable] = _Dialect(servable.resolved)
        return found


class _Dialect:
    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved
        self.mlflow = MlflowDialect(resolved.signature)
        named = [
            (b"x-model-name", resolved.version.name if resolved.version else None),
            (b"x-model-version", resolved.label),
            (b"x-model-alias", resolved.alias),
        ]
        common = [(key, _header(value)) for key, value in named if value]
        self.headers: dict[str, Headers] = {
            role: [*common, (b"x-served-by", role.encode())] for role in ("primary", "canary", "challenger")
        }

    @cached_property
    def v2(self) -> v2.V2Dialect:
        return v2.V2Dialect(self._resolved.signature)


def _target(scope: Scope) -> tuple[str | None, str | None]:
    """The endpoint and the version that a path names, None for the default endpoint and for any version."""
    path: str = scope["path"]
    if path == "/invocations":
        return None, None
    match path.split("/"):
        case ["", "endpoints", name, "invocations"] | ["", "v2", "models", name, "infer"]:
            return name, None
        case ["", "endpoints", name, "versions", version, "invocations"] | [
            "",
            "v2",
            "models",
            name,
            "versions",
            version,
            "infer",
        ]:
            return name, version
    return path, None


def _refuse_encoding(encoding: bytes | None) -> None:
    if encoding is not None and encoding.lower() not in (b"", b"identity"):
        raise UnsupportedMediaType("compressed bodies are not taken; send it without Content-Encoding")


def _header(value: str) -> bytes:
    """A header's value in ASCII; anything else percent-encoded as UTF-8."""
    return quote(value, safe=" !#$&'()*+,/:;=?@[]|^`{}~\"<>\\").encode()


async def _reply_stopping(send: Send, error: Describe, request_id: bytes) -> None:
    """To what is cancelled: the client is gone and hears nothing, or the shutdown timeout is over."""
    await _reply_error(send, NotReady("the gateway is shutting down; ask another"), error, request_id)


async def _reply_error(send: Send, problem: GatewayError, error: Describe, request_id: bytes) -> None:
    body = error(problem.error_code, str(problem))
    await _send(send, problem.http_status, body, error_headers(problem, request_id))


async def _reply(send: Send, status: int, text: bytes, request_id: bytes) -> None:
    await _send(send, status, text, [JSON, (b"x-request-id", request_id)])


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
