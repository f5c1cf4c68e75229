"""What models print, as lines of the gateway's log."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import cast

model_log = logging.getLogger("turnout.model")

MAX_LOG_LINE_BYTES = 16 << 10
LOG_LINES_A_SECOND = 1000


async def relay(readable: int, endpoint: str, version: str) -> None:
    """Send what a replica prints to the log, line by line, with its endpoint and version."""
    pipe = os.fdopen(readable, "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: _LogLines(endpoint, version), pipe)


class _LogLines(asyncio.Protocol):
    """A replica's output as log lines. One that prints without end is read slowly, so that it holds up nobody else."""

    def __init__(self, endpoint: str, version: str) -> None:
        self._labels = {"endpoint": endpoint, "version": version}
        self._pending = b""
        self._budget = LOG_LINES_A_SECOND
        self._refill: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.ReadTransport, transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._pending = (self._pending + data).split(b"\n")
        if len(self._pending) > MAX_LOG_LINE_BYTES:
            lines.append(self._pending)
            self._pending = b""
        for line in lines[: self._budget]:
            self._write(line)
        if len(lines) > self._budget:
            self._write(b"(%d more lines in this second are left out)" % (len(lines) - self._budget))
        self._budget = max(0, self._budget - len(lines))
        if not self._budget:
            self._transport.pause_reading()
        if self._refill is None:
            self._refill = asyncio.get_running_loop().call_later(1.0, self._go_on)

    def _go_on(self) -> None:
        self._refill = None
        if not self._budget and not self._transport.is_closing():
            self._transport.resume_reading()
        self._budget = LOG_LINES_A_SECOND

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._pending:
            self._write(self._pending)

    def _write(self, line: bytes) -> None:
        model_log.info("%s", line[:MAX_LOG_LINE_BYTES].decode("utf-8", "backslashreplace"), extra=self._labels)
