"""Processes of one server that tell each other what they were told."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import registry
from registry.server.fields import Fields
from registry.server.gateways import MAX_REPORT_BYTES, Gateways
from registry.server.neighbours import neighbours

# Another process: repeats what it hears until its input ends, and tells what it is given to say.
OTHER = """
import sys
from pathlib import Path
from registry.server.neighbours import neighbours

with neighbours(Path(sys.argv[1]), lambda message: print("heard", len(message), flush=True)) as tell:
    print("ready", flush=True)
    for line in sys.stdin:
        tell(line.strip().encode())
"""


@pytest.fixture
def other(tmp_path):
    """A process that meets others in the folder."""
    with subprocess.Popen(
        [sys.executable, "-c", OTHER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(registry.__file__).parents[1])},
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process


class Ear:
    """Waits for what is told."""

    def __init__(self):
        self.message = b""
        self._came = threading.Event()

    def __call__(self, message):
        self.message = message
        self._came.set()

    def wait(self):
        assert self._came.wait(30)
        return self.message


def test_both_ways(tmp_path, other):
    """What one process is told, the other hears; nobody hears himself."""
    ear = Ear()
    with neighbours(tmp_path, ear) as tell:
        tell(b"x" * 100_000)
        assert other.stdout.readline() == "heard 100000\n"
        assert ear.message == b""

        other.stdin.write("hello\n")
        other.stdin.flush()

        assert ear.wait() == b"hello"


def test_the_dead_are_forgotten(tmp_path, other):
    """A process that died is told nothing more, and holds nobody up."""
    other.kill()
    other.wait(30)
    with neighbours(tmp_path, lambda _: None) as tell:
        assert len(list(tmp_path.iterdir())) == 2

        tell(b"hello")

        assert [each.name for each in tmp_path.iterdir()] == [str(os.getpid())]
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_sent_is_dropped(tmp_path, other):
    """A message beyond what a socket takes is dropped, and what comes after it is heard."""
    with neighbours(tmp_path, lambda _: None) as tell:
        tell(os.urandom(MAX_REPORT_BYTES * 16))
        tell(b"hello")

        assert other.stdout.readline() == "heard 5\n"


def test_alone():
    """Without a folder there is nobody to tell."""
    with neighbours(None, lambda _: None) as tell:
        tell(b"hello")


def test_a_report_is_known_to_all(sqlite_registry):
    """A report that one process was given is as well known to another."""
    first, second = Gateways(), Gateways()
    first.share(second.hear)
    endpoint = {"name": "wine", "model": "wine", "versions": [{"version": "4", "role": "primary"}]}
    report = {"address": "http://10.0.0.5:8080", "endpoints": [endpoint], "counters": {"wine": {"4": {"requests": 1}}}}

    first.put(sqlite_registry, Fields(report, path={"id": "box:1"}))

    assert [each.version for each in second.serving("wine")] == ["4"]
    assert second.seen()[0].address == "http://10.0.0.5:8080"
