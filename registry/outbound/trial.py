"""One request to a gateway that reported its own address: what answers there must say that it is that gateway.

Anybody who reaches a server can report an address. So nothing is sent to what stands there, nor shown of it, unless it
has named itself; and then only what a prediction is: no header of the browser's, and no credentials.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore2
import msgspec

from registry.errors import InvalidParameter, Unavailable
from registry.outbound.addresses import gateway_addresses
from registry.outbound.network import CheckedNetwork

TIMEOUT_S = 35.0  # somewhat longer than a gateway gives its models
MAX_STATUS_BYTES = 8 << 20
MAX_ANSWER_BYTES = 1 << 20

_TROUBLE = (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError)


@dataclass(frozen=True, slots=True)
class TrialAnswer:
    """What a gateway answered. *is_whole* is false where the body was longer than what is read of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    seconds: float


def ask_gateway(address: str, gateway_id: str, endpoint: str, body: bytes) -> TrialAnswer:
    """Have *endpoint* predict for a body in JSON. Raises `Unavailable` when that gateway does not answer at *address*,
    and `InvalidParameter` for what is no gateway's address.
    """
    base, host, addresses = _read_address(address)
    network = CheckedNetwork(lambda *_: addresses, TIMEOUT_S)
    # A pool for this one exchange: who has named himself is who is asked.
    with httpcore2.ConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=network, max_connections=1
    ) as pool:
        _check_identity(pool, base, host, gateway_id)
        headers = [("Host", host), ("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        began = time.monotonic()
        try:
            with pool.stream(
                "POST", f"{base}/endpoints/{endpoint}/invocations", headers=headers, content=body
            ) as response:
                read, is_whole = _start_of(response.iter_stream(), MAX_ANSWER_BYTES)
                named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
                return TrialAnswer(response.status, named, read, is_whole, time.monotonic() - began)
        except _TROUBLE as problem:
            reason = str(problem) or type(problem).__name__
            raise Unavailable(f"gateway {gateway_id} did not answer within {TIMEOUT_S:.0f} s: {reason}") from problem


def _check_identity(pool: httpcore2.ConnectionPool, base: str, host: str, gateway_id: str) -> None:
    """Whatever else answers there cannot be told from nothing at all: the message is the same."""
    try:
        with pool.stream("GET", f"{base}/status", headers=[("Host", host)]) as response:
            text, is_whole = _start_of(response.iter_stream(), MAX_STATUS_BYTES)
        found: Any = msgspec.json.decode(text) if response.status == 200 and is_whole else None
    except (*_TROUBLE, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict) or found.get("gateway") != gateway_id:
        raise Unavailable(
            f"nothing answers at {base} as gateway {gateway_id}; it must listen on an address that this server reaches"
        )


def _read_address(address: str) -> tuple[str, str, list[str]]:
    """The address without anything behind the port, its `Host`, and where that is."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    is_strange = not address.isascii() or any(each <= " " or each in '\\"<>^`{|}@%' for each in address)
    if (
        is_strange
        or not host
        or parts.scheme not in ("http", "https")
        or parts.path.strip("/")
        or set("?#") & set(address)
    ):
        raise InvalidParameter(f"the gateway reported no address that can be asked: {address[:100]!r}")
    return f"{parts.scheme}://{parts.netloc}", parts.netloc, gateway_addresses(host, port)


def _start_of(chunks: Iterable[bytes], most: int) -> tuple[bytes, bool]:
    found = bytearray()
    for each in chunks:
        found += each
        if len(found) > most:
            return bytes(found[:most]), False
    return bytes(found), True
