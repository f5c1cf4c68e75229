"""The line between a leader and one member: frames over a socket pair, each way in their order."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Self, cast

from gateway.worker import frames

Message = dict[str, Any]
Heard = Callable[[Message, bytes], None]


class Line(asyncio.Protocol):
    """One end. *heard* gets each message with its body; `gone` is set when nothing more comes or goes."""

    def __init__(self, heard: Heard) -> None:
        self.gone = asyncio.Event()
        self._heard = heard
        self._decoder = frames.Decoder()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, end: socket.socket, heard: Heard) -> Self:
        end.setblocking(False)
        _, line = await asyncio.get_running_loop().create_unix_connection(lambda: cls(heard), sock=end)
        return line

    def send(self, message: Message, body: bytes = b"") -> None:
        """Say it, unless the other end is gone."""
        if self._transport is not None:
            self._transport.write(frames.encode(message, (body,) if body else ()))

    def close(self) -> None:
        """Say no more; what has been said still arrives."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass

    def data_received(self, data: bytes) -> None:
        for message, buffers in self._decoder.feed(data):
            self._heard(message, bytes(buffers[0]) if buffers else b"")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self.gone.set()
