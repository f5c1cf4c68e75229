"""One message to an address that others gave: the address that was checked is the one that is connected to."""

from __future__ import annotations

import ssl
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpcore2

from registry.errors import Unavailable
from registry.outbound.addresses import check_url, is_inside, public_addresses, shown_url


def post(url: str, body: bytes, *, headers: Mapping[str, str], timeout_s: float, inside: Collection[str] = ()) -> int:
    """Send once and give the answer's status, a redirect's too; nothing of its body is read.

    All of it ends within *timeout_s*. Raises `InvalidParameter` for an address that may not be called and
    `Unavailable` when there is no answer.
    """
    check_url(url, inside)
    parts = urlsplit(url)
    backend = _PublicNetwork(inside, time.monotonic() + timeout_s)
    sent = [("Host", parts.netloc), *headers.items(), ("Content-Length", str(len(body)))]
    # A pool for this one message: no connection of an earlier one is used again.
    with httpcore2.ConnectionPool(ssl_context=ssl.create_default_context(), network_backend=backend) as pool:
        try:
            with pool.stream("POST", url.partition("#")[0], headers=sent, content=body) as response:
                return int(response.status)
        except (httpcore2.NetworkError, httpcore2.TimeoutException, httpcore2.ProtocolError, OSError) as problem:
            raise Unavailable(f"POST {shown_url(parts)}: {str(problem) or type(problem).__name__}") from problem


class _PublicNetwork(httpcore2.NetworkBackend):
    """Connects to checked addresses only, and ends everything at one moment."""

    def __init__(self, inside: Collection[str], deadline: float) -> None:
        self._inside = inside
        self._deadline = deadline
        self._network = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # one deadline for all
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        bare = host.strip("[]").lower()
        addresses = [bare] if is_inside(bare, port, self._inside) else public_addresses(bare, port)
        problem: Exception | None = None
        for address in addresses:
            try:
                left = _time_left(self._deadline)
                stream = self._network.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
                problem = failed
            else:
                return _EndingStream(stream, self._deadline)
        raise problem or httpcore2.ConnectError(f"host {host!r} has no address")


class _EndingStream(httpcore2.NetworkStream):
    """A stream that ends at a moment, however slowly the other side sends."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002  # one deadline for all
        return self._stream.read(max_bytes, _time_left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002  # as above
        self._stream.write(buffer, _time_left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002  # as above
    ) -> httpcore2.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _time_left(self._deadline))
        return _EndingStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("no answer in time")
    return left
