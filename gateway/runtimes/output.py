"""What models print, as lines of the gateway's log."""

from __future__ import annotations

import asyncio
import logging
import os

model_log = logging.getLogger("turnout.model")

MAX_READ_BYTES = 64 << 10
MAX_LOG_LINE_BYTES = 16 << 10
LOG_LINES_A_SECOND = 1000


def relay(readable: int, endpoint: str, version: str) -> None:
    """Log what a replica prints into the pipe, line by line, with its endpoint and version; it is closed at its end."""
    os.set_blocking(readable, False)
    _LogLines(readable, endpoint, version).read_on()


class _LogLines:
    """A replica's output as log lines. One that prints without end is read slowly, so that it holds up nobody else.

    No transport of the event loop: uvloop closes a pipe's descriptor and then its file object, which closes the same
    number again. By then that may be a file of another thread, whose own end would be that of a client's connection.
    """

    def __init__(self, readable: int, endpoint: str, version: str) -> None:
        self._readable = readable
        self._labels = {"endpoint": endpoint, "version": version}
        self._loop = asyncio.get_running_loop()
        self._pending = b""
        self._budget = LOG_LINES_A_SECOND
        self._refill: asyncio.TimerHandle | None = None

    def read_on(self) -> None:
        self._loop.add_reader(self._readable, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._readable, MAX_READ_BYTES)
        except BlockingIOError:
            return
        if data:
            self._heard(data)
        else:
            self._end()

    def _heard(self, data: bytes) -> None:
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
            self._loop.remove_reader(self._readable)
        if self._refill is None:
            self._refill = self._loop.call_later(1.0, self._go_on)

    def _go_on(self) -> None:
        self._refill = None
        if not self._budget:
            self.read_on()
        self._budget = LOG_LINES_A_SECOND

    def _end(self) -> None:
        self._loop.remove_reader(self._readable)
        os.close(self._readable)
        if self._pending:
            self._write(self._pending)

    def _write(self, line: bytes) -> None:
        model_log.info("%s", line[:MAX_LOG_LINE_BYTES].decode("utf-8", "backslashreplace"), extra=self._labels)
