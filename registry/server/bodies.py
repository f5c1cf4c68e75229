"""Reads a request's body: whole, within its limit, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from registry.errors import RegistryError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

IDLE_TIMEOUT_S = 20.0


class BodyTooLarge(RegistryError):
    error_code = "BAD_REQUEST"
    http_status = 413


class BodyStalled(RegistryError):
    error_code = "BAD_REQUEST"
    http_status = 408


class ClientGone(Exception):
    """Nobody is there to be answered."""


async def read_body(receive: Receive, announced: bytes | None, max_bytes: int) -> bytes:
    """The body; raises `BodyTooLarge` before reading what is over *max_bytes*, `BodyStalled` when it stalls."""
    if announced is not None and announced.isdigit() and int(announced) > max_bytes:
        raise BodyTooLarge(f"the body announces {int(announced)} bytes; at most {max_bytes} are taken")
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await _next(receive)
        more = message.get("more_body", False)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise BodyTooLarge(f"the body is longer than the {max_bytes} bytes that are taken")
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    try:
        async with asyncio.timeout(IDLE_TIMEOUT_S):
            message = await receive()
    except TimeoutError:
        raise BodyStalled(f"the body stopped coming for {IDLE_TIMEOUT_S:.0f} s") from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message
