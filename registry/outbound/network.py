"""Connections to checked addresses only, which all end at one moment."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any

import httpcore2

Find = Callable[[str, int], list[str]]


class CheckedNetwork(httpcore2.NetworkBackend):
    """Connects to what *find* gives for a host and a port, so that a name cannot mean another machine in between."""

    def __init__(self, find: Find, timeout_s: float) -> None:
        self._find = find
        self._deadline = time.monotonic() + timeout_s
        self._network = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002  # one deadline for all
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        problem: Exception | None = None
        for address in self._find(host.strip("[]").lower(), port):
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
