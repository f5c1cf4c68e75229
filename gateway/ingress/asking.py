"""What is asked of the gateway as a whole is answered by the leader, whichever process it comes to."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import MutableMapping
from typing import Any

from gateway import wire
from gateway.bodies import Receive
from gateway.errors import BadRequest, BodyStalled, GatewayError, PayloadTooLarge
from gateway.ingress.line import Line, Message
from gateway.predictions import Application, Send

log = logging.getLogger("turnout.http")

MAX_BODY_BYTES = 1 << 20
BODY_TIMEOUT_S = 20.0
BODILESS = {"GET", "HEAD", "OPTIONS"}


class Questions:
    """A member's side, an ASGI application: passes each request on, and the answer back."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._numbers = itertools.count()
        self._open: dict[int, asyncio.Future[tuple[Message, bytes]]] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = b"" if scope["method"] in BODILESS else await _body(receive)
        except GatewayError as problem:
            headers = wire.error_headers(problem, wire.request_id(None))
            answer: Message = {"status": problem.http_status, "headers": [[k.decode(), v.decode()] for k, v in headers]}
            await _reply(send, answer, wire.error_body(problem.error_code, str(problem)))
            return
        number = next(self._numbers)
        self._open[number] = asyncio.get_running_loop().create_future()
        try:
            self._line.send({"op": "ask", "id": number, **_asked(scope)}, body)
            answer, text = await self._open[number]
        finally:
            del self._open[number]
        await _reply(send, answer, text)

    def answered(self, message: Message, body: bytes) -> None:
        """The leader's answer has come."""
        waiting = self._open.get(message["id"])
        if waiting is not None and not waiting.done():
            waiting.set_result((message, body))


async def answer(application: Application, message: Message, body: bytes) -> tuple[Message, bytes]:
    """The leader's side: what *application* says to it."""
    found: Message = {"op": "answer", "id": message["id"]}
    parts: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            found["status"] = event["status"]
            found["headers"] = [[key.decode("latin-1"), value.decode("latin-1")] for key, value in event["headers"]]
        else:
            parts.append(event.get("body", b""))

    try:
        await application(_scope(message), receive, send)
    except Exception:
        log.exception("unexpected")
        if "status" not in found:
            found |= {"status": 500, "headers": []}
    return found, b"".join(parts)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while more:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise BadRequest("the body ended before it was complete")
                parts.append(event.get("body", b""))
                size += len(parts[-1])
                more = event.get("more_body", False)
                if size > MAX_BODY_BYTES:
                    raise PayloadTooLarge(f"the body is longer than the {MAX_BODY_BYTES} bytes that are taken")
    except TimeoutError:
        raise BodyStalled(f"the body was not there after {BODY_TIMEOUT_S:.0f} s") from None
    return b"".join(parts)


def _asked(scope: MutableMapping[str, Any]) -> Message:
    return {
        "method": scope["method"],
        "path": scope["path"],
        "query": scope["query_string"].decode("latin-1"),
        "headers": [[key.decode("latin-1"), value.decode("latin-1")] for key, value in scope["headers"]],
        "client": scope["client"],
        "server": scope["server"],
    }


def _scope(message: Message) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": message["method"],
        "path": message["path"],
        "raw_path": message["path"].encode("utf-8", "surrogatepass"),
        "query_string": message["query"].encode("latin-1"),
        "headers": [(key.encode("latin-1"), value.encode("latin-1")) for key, value in message["headers"]],
        "client": message["client"],
        "server": message["server"],
    }


async def _reply(send: Send, answer: Message, body: bytes) -> None:
    headers = [(key.encode("latin-1"), value.encode("latin-1")) for key, value in answer["headers"]]
    if not any(key == b"content-length" for key, _ in headers):
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": answer["status"], "headers": headers})
    await send({"type": "http.response.body", "body": body})
