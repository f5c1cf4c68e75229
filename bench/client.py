"""The load generator: closed or open loop over HTTP/1.1 keep-alive, in a process of its own.

Two cores are shared with what is measured, so it costs little: the request is built once, an answer is cut
by its Content-Length, and an answer seen before is recognised by its bytes. Reads one `Load` as JSON on
standard input, prints `started <monotonic seconds>` and then one `Result` as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import sys
from array import array
from collections import Counter, deque
from time import monotonic
from typing import Any

import msgspec
import uvloop
from load import Load, Records, Result, agree, percentile, write_records

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: *[1-9]", re.IGNORECASE)
VERSION = re.compile(rb"\r\nx-model-version: *([^\r]+)", re.IGNORECASE)
MONOTONIC_CLOCK = 1


class Answers:
    """Judges answers: counts the wrong ones by kind, keeps the times of the right ones."""

    def __init__(self, expected: dict[str, list[float]], refusable: bool) -> None:
        self.sent = array("d")
        self.done = array("d")
        self.versions = array("i")
        self.latencies = array("d")
        self.refusals = array("d")
        self.errors: Counter[str] = Counter()
        self.samples: list[str] = []
        self._refusable = (b"429", b"503") if refusable else ()
        self._expected = expected
        self._named = set(expected) != {""}
        self._right: set[tuple[bytes, bytes]] = set()

    def take(self, head: bytes, body: bytes, due: float, sent: float) -> None:
        """Judge one complete answer."""
        done = monotonic()
        if head[9:12] in self._refusable and RETRY_AFTER.search(head):
            self.refusals.append(done - due)
            return None
        if head[9:12] != b"200":
            return self.fail(f"status {head[9:12].decode('latin-1')}", body)
        version = b""
        if self._named:
            found = VERSION.search(head)
            version = found[1] if found else b""
        if (version, body) not in self._right:
            kind = self._judge(version.decode("latin-1"), body)
            if kind:
                return self.fail(kind, body)
            self._right.add((version, body))
        self.sent.append(sent)
        self.done.append(done)
        self.versions.append(int(version or 0))
        self.latencies.append(done - due)
        return None

    def fail(self, kind: str, detail: bytes = b"") -> None:
        self.errors[kind] += 1
        if len(self.samples) < 5:
            self.samples.append(f"{kind}: {detail[:300].decode('utf-8', 'replace')}")

    def _judge(self, version: str, body: bytes) -> str | None:
        wanted = self._expected.get(version)
        if wanted is None:
            return f"answered by version {version!r}"
        try:
            is_right = agree(_predictions(json.loads(body)), wanted)
        except (ValueError, KeyError, TypeError):
            return "unreadable answer"
        return None if is_right else f"wrong answer of version {version!r}"


def _predictions(answer: dict[str, Any]) -> list[float]:
    """As MLflow's protocol gives them, or the Open Inference Protocol."""
    return answer["outputs"][0]["data"] if "outputs" in answer else answer["predictions"]


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._pending = b""
        self._transport: asyncio.Transport | None = None
        self._due = 0.0
        self._sent = 0.0
        self.is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream transport by construction
        self._generator.free(self)

    def send(self, due: float) -> None:
        self.is_busy = True
        self._due = due
        self._sent = monotonic()
        self._transport.write(self._generator.request)

    def data_received(self, data: bytes) -> None:
        if self._pending:
            data = self._pending + data
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            head = data[: end + 2]
            length = LENGTH.search(head)
            if length is None:
                self._generator.answers.fail("no Content-Length", data)
                self._transport.abort()
                return
            whole = end + 4 + int(length[1])
            if len(data) >= whole:
                self._pending = b""
                self.is_busy = False
                self._generator.answers.take(head, data[end + 4 : whole], self._due, self._sent)
                self._generator.free(self)
                return
        self._pending = data

    def connection_lost(self, problem: Exception | None) -> None:
        if self.is_busy:
            self.is_busy = False
            self._generator.answers.fail("connection lost", repr(problem).encode())
        self._generator.lost(self)

    def close(self) -> None:
        self._transport.abort()


class Generator:
    """Owns the connections and the schedule."""

    def __init__(self, load: Load) -> None:
        body = load.body.encode()
        self.request = (
            f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        self.answers = Answers(load.expected, load.refusable)
        self._load = load
        self.unsent = 0
        self._left = load.max_requests
        self._connections: set[Connection] = set()
        self._idle: deque[Connection] = deque()  # used in turn: a server may close what rests for long
        self._due: deque[float] = deque()
        self._lost = asyncio.Event()
        self._stop_s = 0.0

    async def run(self) -> float:
        """Send for the time that was asked, then wait for what is under way; returns the seconds it took."""
        await self._open()
        start_s = monotonic()
        print(f"started {start_s}", flush=True)
        self._stop_s = start_s + self._load.seconds
        keeper = asyncio.create_task(self._keep_connected())
        if self._load.rate:
            await self._on_schedule(self._load.rate)
        else:
            for each in list(self._idle):
                self.free(each)
            await asyncio.sleep(self._load.seconds)
        stopped_s = monotonic()
        keeper.cancel()
        await self._finish()
        return stopped_s - start_s

    def free(self, connection: Connection) -> None:
        """The connection waits for work: give it the oldest due request, or in a closed loop the next."""
        self._connections.add(connection)
        if self._load.rate is None:
            now_s = monotonic()
            if now_s < self._stop_s and self._left > 0:
                self._left -= 1
                connection.send(now_s)
            elif not self._stop_s:
                self._idle.append(connection)
        elif self._due:
            connection.send(self._due.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._lost.set()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(self._load.connections - len(self._connections)):
            try:
                await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._load.port)
            except OSError as problem:
                self.answers.fail("no connection", str(problem).encode())

    async def _keep_connected(self) -> None:
        while True:
            await self._lost.wait()
            self._lost.clear()
            await asyncio.sleep(0.02)
            await self._open()
            if len(self._connections) < self._load.connections:
                self._lost.set()

    async def _on_schedule(self, rate: float) -> None:
        """One request at every tick of a kernel timer: event loops only wake to the millisecond."""
        timer, start_s = kernel_timer(1 / rate), monotonic()
        total = min(int(self._load.seconds * rate), self._left)
        finished = asyncio.Event()
        number = 0

        def tick() -> None:
            nonlocal number
            try:
                expired = int.from_bytes(os.read(timer, 8), sys.byteorder)
            except BlockingIOError:
                return
            for _ in range(min(expired, total - number)):
                number += 1
                due_s = start_s + number / rate
                if self._idle:
                    self._idle.popleft().send(monotonic() if self._load.refusable else due_s)
                elif self._load.refusable:
                    self.unsent += 1
                else:
                    self._due.append(due_s)
            if number >= total:
                finished.set()

        loop = asyncio.get_running_loop()
        loop.add_reader(timer, tick)
        await finished.wait()
        loop.remove_reader(timer)
        os.close(timer)

    async def _finish(self) -> None:
        give_up_s = monotonic() + self._load.grace_s
        while (self._due or any(each.is_busy for each in self._connections)) and monotonic() < give_up_s:
            await asyncio.sleep(0.01)
        for each in list(self._connections):
            if each.is_busy:
                each.is_busy = False
                self.answers.fail("unanswered")
            each.close()
        for _ in self._due:
            self.answers.fail("unanswered")


def kernel_timer(interval_s: float) -> int:
    """A descriptor that becomes readable every *interval_s* seconds from now on."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.timerfd_create(MONOTONIC_CLOCK, os.O_NONBLOCK)
    seconds, nanoseconds = divmod(max(1, round(interval_s * 1e9)), 1_000_000_000)
    times = (ctypes.c_long * 4)(seconds, nanoseconds, seconds, nanoseconds)
    if descriptor < 0 or libc.timerfd_settime(descriptor, 0, ctypes.byref(times), None) < 0:
        raise OSError(ctypes.get_errno(), "this machine has no kernel timers")
    return descriptor


async def generate(load: Load) -> Result:
    """Carry *load* out."""
    os.nice(load.niceness)
    generator = Generator(load)
    seconds = await generator.run()
    answers = generator.answers
    if load.records:
        write_records(load.records, Records(answers.sent, answers.done, answers.latencies, answers.versions))
    return Result(
        answered=len(answers.latencies),
        seconds=seconds,
        errors=dict(answers.errors),
        samples=answers.samples,
        percentiles=percentiles_ms(answers.latencies),
        unsent=generator.unsent,
        refused=len(answers.refusals),
        refusal_percentiles=percentiles_ms(answers.refusals),
    )


def percentiles_ms(latencies_s: array[float]) -> dict[str, float]:
    """What the result says of latencies."""
    ordered = [each * 1000 for each in sorted(latencies_s)]
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999, "max": 1.0}
    return {name: percentile(ordered, share) for name, share in shares.items()} if ordered else {}


if __name__ == "__main__":
    outcome = uvloop.run(generate(msgspec.json.decode(sys.stdin.buffer.read(), type=Load)))
    print(msgspec.json.encode(outcome).decode(), flush=True)
