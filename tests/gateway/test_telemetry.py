"""The gateway's log."""

import io
import json
import logging
import sys
import threading

import pytest

from gateway.telemetry import JsonLines, TextLines, logging_to_stderr


def record(message, **fields):
    made = logging.LogRecord("turnout.model", logging.INFO, "", 0, "%s", (message,), None)
    made.__dict__.update(fields)
    return made


def test_a_line_of_json_holds_the_event():
    """Time, level, logger, message and the known fields."""
    event = json.loads(JsonLines().format(record("hello", endpoint="wine", version="2", secret="x")))

    assert event.pop("at").endswith("Z")
    assert event == {
        "level": "info",
        "logger": "turnout.model",
        "message": "hello",
        "endpoint": "wine",
        "version": "2",
    }


@pytest.mark.parametrize("style", [TextLines, JsonLines])
def test_tf161_an_event_is_one_line(style):
    """Line feeds, escapes and right-to-left marks in what a client or a model sent are neutralised."""
    line = style().format(record("a\r\nfake event\x1b[31m\u202e", endpoint="m\nx"))

    assert line.isprintable()
    assert "fake event" in line


class StuckSink(io.StringIO):
    """A standard error that blocks until it is released."""

    def __init__(self):
        super().__init__()
        self.released = threading.Event()

    def write(self, text):
        self.released.wait()
        return super().write(text)


def test_tf130_a_blocked_sink_costs_lines_and_no_time(monkeypatch):
    """What does not fit the queue is dropped and counted; whoever logs never waits."""
    sink = StuckSink()
    monkeypatch.setattr(sys, "stderr", sink)
    log = logging.getLogger("turnout.test")

    with logging_to_stderr("text"):
        for number in range(10_500):
            log.info("line %d", number)
        threading.Timer(0.5, sink.released.set).start()

    assert "line 0" in sink.getvalue()
    assert "lines were dropped" in sink.getvalue()
