"""The gateway's log: structured lines that a blocked or full sink never turns into a blocked request."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler

QUEUED_LINES = 10_000
STOP_TIMEOUT_S = 2.0
FIELDS = ("endpoint", "version", "environment", "took_ms", "seconds", "path", "proof", "request_id", "status", "pid")


class JsonLines(logging.Formatter):
    """One event, one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "at": _moment(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_text:
            event["trace"] = record.exc_text
        return json.dumps(event)


class TextLines(logging.Formatter):
    """The same for people: time, level, logger, message, then `name=value`. Control characters are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        message = _escaped(record.getMessage())
        text = f"{_moment(record)} {record.levelname.lower():7} {record.name}: {message}{_escaped(fields)}"
        return f"{text}\n{record.exc_text}" if record.exc_text else text


class _DroppingQueueHandler(QueueHandler):
    """Drops and counts what the sink cannot take."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record


class _Sink(logging.Handler):
    """Writes straight to a descriptor: no buffer whose lock a blocked write could hold at the end of the process."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self.format(record)}\n".encode(errors="backslashreplace")
        with suppress(OSError):  # nobody reads any more: requests go on
            while line:
                line = line[os.write(self._descriptor, line) :]


class _Writer(threading.Thread):
    """Hands queued records to the sink until None comes."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], sink: logging.Handler) -> None:
        super().__init__(name="log", daemon=True)
        self._lines = lines
        self._sink = sink

    def run(self) -> None:
        while (record := self._lines.get()) is not None:
            self._sink.handle(record)

    def stop(self) -> None:
        """Write what is queued; give up on a sink that takes nothing."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=STOP_TIMEOUT_S)
            self.join(STOP_TIMEOUT_S)


@contextmanager
def logging_to(descriptor: int, style: str, is_quiet: bool = False) -> Iterator[None]:
    """Log to *descriptor*, as `text` or `json`, from a thread of its own while the block runs.

    *is_quiet*: only warnings, and what models print.
    """
    sink = _Sink(descriptor)
    sink.setFormatter(JsonLines() if style == "json" else TextLines())
    lines: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUED_LINES)
    handler = _DroppingQueueHandler(lines)
    writer = _Writer(lines, sink)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    if is_quiet:
        handler.addFilter(lambda record: record.levelno >= logging.WARNING or record.name == "turnout.model")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # one line for each look at a registry
    writer.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        if handler.dropped:
            with suppress(queue.Full):
                lines.put(_dropped(handler.dropped), timeout=STOP_TIMEOUT_S)
        writer.stop()


def _dropped(count: int) -> logging.LogRecord:
    return logging.LogRecord("turnout", logging.WARNING, "", 0, "%d log lines were dropped", (count,), None)


def _moment(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
