"""What the load generator is asked and what it answers, and how a benchmark starts it as a process."""

from __future__ import annotations

import subprocess
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec

CLIENT = Path(__file__).with_name("client.py")


class Load(msgspec.Struct, kw_only=True):
    """What to send: closed loop without *rate*, else *rate* requests a second on a fixed schedule.

    *expected* holds the right predictions by version; the key "" stands for a server that names none.
    *records* is a file for what `read_records` reads. With *refusable* a 429 or 503 that says when to try again is no
    failure, and a request that is due while every connection is busy is not sent: an overload is more than what a
    generator can do, and what waits in it says nothing of the server. A generator of *niceness* gives way to others on
    its core.
    """

    port: int
    path: str
    body: str
    connections: int
    seconds: float
    expected: dict[str, list[float]]
    rate: float | None = None
    records: str | None = None
    refusable: bool = False
    niceness: int = 0
    max_requests: int = 2_000_000
    grace_s: float = 15.0


class Result(msgspec.Struct, kw_only=True):
    """What came back. Latencies in milliseconds, in an open loop from the time the request was due."""

    answered: int
    seconds: float
    errors: dict[str, int]
    samples: list[str]
    percentiles: dict[str, float]
    unsent: int = 0
    refused: int = 0
    refusal_percentiles: dict[str, float] = {}

    @property
    def requests_per_second(self) -> float:
        return self.answered / self.seconds

    @property
    def failures(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Records:
    """One entry for every right answer, times on the machine's monotonic clock."""

    sent: array[float]
    done: array[float]
    latencies: array[float]
    versions: array[int]

    def first_of(self, version: int, from_s: float) -> float:
        """When *version* first answered after *from_s*; never is infinity."""
        done = (at for at, each in zip(self.done, self.versions, strict=True) if each == version and at > from_s)
        return min(done, default=float("inf"))


def percentile(ordered: list[float], share: float) -> float:
    """The value below which *share* of an ascending list lies (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def agree(got: list[float], wanted: list[float]) -> bool:
    """Two answers are the same prediction: equal but for rounding in the last digits."""
    return len(got) == len(wanted) and all(
        abs(a - b) <= 1e-9 * max(1.0, abs(b)) for a, b in zip(got, wanted, strict=True)
    )


def write_records(path: str, records: Records) -> None:
    with open(path, "wb") as file:
        for each in (records.sent, records.done, records.latencies, records.versions):
            each.tofile(file)


def read_records(path: str, answered: int) -> Records:
    columns = [array(code) for code in "dddi"]
    with open(path, "rb") as file:
        for each in columns:
            each.fromfile(file, answered)
    return Records(*columns)


class RunningLoad:
    """A load generator at work: `started_s` is when it began, `wait` gives its result."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._process = subprocess.Popen([sys.executable, str(CLIENT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._process.stdin.write(msgspec.json.encode(load))
        self._process.stdin.close()
        first = self._process.stdout.readline()
        if not first.startswith(b"started "):
            raise SystemExit("the load generator did not start; its message stands above")
        self.started_s = float(first.split()[1])

    @property
    def left_s(self) -> float:
        """Seconds until it stops sending."""
        return self.started_s + self.load.seconds - monotonic()

    def wait(self) -> Result:
        """The result; the process is ended if it outlives its time and grace by a minute."""
        limit_s = max(0.0, self.left_s) + self.load.grace_s + 60
        try:
            self._process.wait(limit_s)
        finally:
            self._process.kill()
        return msgspec.json.decode(self._process.stdout.read(), type=Result)


def run(load: Load) -> Result:
    """Carry *load* out and wait for it."""
    return RunningLoad(load).wait()
