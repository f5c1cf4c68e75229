"""The server's log: lines on standard error, written by a thread of their own, so that no request waits for them."""

from __future__ import annotations

import logging
import queue
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener

QUEUED_LINES = 10_000
CHATTY = ("alembic", "httpx2", "uvicorn.error")


class Lines(logging.Formatter):
    """Time, level, logger, message. Control characters are escaped: one event cannot look like two."""

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = f"{moment} {record.levelname.lower():7} {record.name}: {_escaped(record.getMessage())}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class _DroppingHandler(QueueHandler):
    """What the sink cannot take is dropped."""

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):
            self.queue.put_nowait(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Log there while the block runs."""
    lines: queue.Queue[logging.LogRecord] = queue.Queue(QUEUED_LINES)
    sink = logging.StreamHandler(sys.stderr)
    sink.setFormatter(Lines())
    listener = QueueListener(lines, sink)
    handler = _DroppingHandler(lines)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    listener.start()
    try:
        yield
    finally:
        root.removeHandler(handler)
        listener.stop()


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
