"""The gateway's log."""

import json
import logging
import os
import threading

import pytest

from gateway.telemetry import JsonLines, TextLines, logging_to


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


def test_a_quiet_log_has_warnings_and_what_models_print():
    """A command that says in the end what it did leaves out what a server tells on its way."""
    reading, writing = os.pipe()

    with logging_to(writing, "text", is_quiet=True):
        logging.getLogger("turnout.servable").info("answers")
        logging.getLogger("turnout.servable").warning("died")
        logging.getLogger("turnout.model").info("hello")
    os.close(writing)
    _drain(reading, lines := [])

    assert [line.rpartition(": ")[2] for line in lines] == ["died", "hello"]


def test_tf130_a_blocked_sink_costs_lines_and_no_time():
    """What does not fit the queue is dropped and counted; whoever logs never waits, and neither does the end."""
    reading, writing = os.pipe()
    log = logging.getLogger("turnout.test")

    with logging_to(writing, "text"):
        for number in range(15_000):
            log.info("line %d", number)
        reader = threading.Thread(target=_drain, args=(reading, lines := []))
        reader.start()
    os.close(writing)
    reader.join()

    assert "line 0" in lines[0]
    assert "lines were dropped" in lines[-1]


def test_tf130_the_end_does_not_wait_for_a_sink_that_takes_nothing():
    """A pipe that nobody reads: the block is left all the same."""
    reading, writing = os.pipe()
    log = logging.getLogger("turnout.test")

    with logging_to(writing, "json"):
        for number in range(15_000):
            log.info("line %d", number)

    # The writing end stays open: the thread that was given up still writes, and its number could be another's by then.
    os.close(reading)


def _drain(descriptor, lines):
    with os.fdopen(descriptor) as file:
        lines += file.read().splitlines()
