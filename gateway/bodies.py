"""Reads a request's body: whole, within its limit, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.admission import Place
from gateway.connections import is_whole
from gateway.deadlines import Deadline
from gateway.errors import BodyStalled, ClientGone, GatewayError, PayloadTooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

IDLE_TIMEOUT_S = 20.0
MIN_BYTES_PER_S = 1024  # on average, once that time is over


async def read_body(
    receive: Receive, announced: bytes | None, max_bytes: int, place: Place, own: Deadline | None = None
) -> bytes:
    """The body, counted in its *place*; raises `PayloadTooLarge` before reading what is over *max_bytes*.

    Raises `BodyStalled` when it stalls or trickles, `DeadlineExceeded` when it is not there by the caller's *own*, and
    `Overloaded` when all bodies that are held are too much together.
    """
    if announced is not None and announced.isdigit() and int(announced) > max_bytes:
        raise PayloadTooLarge(f"the body announces {int(announced)} bytes; at most {max_bytes} are taken")
    parts: list[bytes] = []
    size, more = 0, True
    begun_s = asyncio.get_running_loop().time()
    while more:
        if is_whole(receive):
            message = await receive()
        else:
            message = await _next(receive, begun_s + IDLE_TIMEOUT_S + size / MIN_BYTES_PER_S, own)
        if message["type"] == "http.disconnect":
            raise ClientGone("the client went away before its body was complete")
        more = message.get("more_body", False)
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > max_bytes:
            raise PayloadTooLarge(f"the body is longer than the {max_bytes} bytes that are taken")
        place.hold(len(parts[-1]))
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def _next(receive: Receive, until_s: float, own: Deadline | None) -> MutableMapping[str, Any]:
    """The next part, while there is time: a share of it for what has come, never more than for silence."""
    until_s = min(until_s, asyncio.get_running_loop().time() + IDLE_TIMEOUT_S)
    is_own = own is not None and own.at_s < until_s
    try:
        async with asyncio.timeout_at(own.at_s if own is not None and is_own else until_s):
            return await receive()
    except TimeoutError:
        if own is not None and is_own:
            problem: GatewayError = own.exceeded("the body was not sent")
            problem.closes_connection = True
            raise problem from None
        raise BodyStalled(
            f"the body stopped coming for {IDLE_TIMEOUT_S:.0f} s, or came slower than {MIN_BYTES_PER_S} bytes a second"
        ) from None
