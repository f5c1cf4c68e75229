"""One message to an address that others gave: the address that was checked is the one that is connected to."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

import httpcore2

from registry.errors import Unavailable
from registry.outbound.addresses import check_url, is_inside, public_addresses, shown_url
from registry.outbound.network import CheckedNetwork, Find


def post(url: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float, inside: Collection[str] = ()) -> int:
    """Send once and give the answer's status, a redirect's too; nothing of its body is read.

    All of it ends within *timeout_s*. Raises `InvalidParameter` for an address that may not be called and
    `Unavailable` when there is no answer.
    """
    check_url(url, inside)
    parts = urlsplit(url)
    backend = CheckedNetwork(_find(inside), timeout_s)
    sent = [("Host", parts.netloc), *headers.items(), ("Content-Length", str(len(body)))]
    # A pool for this one message: no connection of an earlier one is used again.
    with httpcore2.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=backend) as pool:
        try:
            with pool.stream("POST", url.partition("#")[0], headers=sent, content=body) as response:
                return int(response.status)
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError) as problem:
            raise Unavailable(f"POST {shown_url(parts)}: {str(problem) or type(problem).__name__}") from problem


def _find(inside: Collection[str]) -> Find:
    def find(host: str, port: int) -> list[str]:
        return [host] if is_inside(host, port, inside) else public_addresses(host, port)

    return find
