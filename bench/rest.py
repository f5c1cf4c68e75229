"""A load generator for a registry's REST API: closed loop, each connection sends the next request of a list.

A process of its own that costs little, so that two cores can be shared with what is measured. It reads one `Work`
as JSON on standard input and prints one `Done` as JSON.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from array import array
from itertools import cycle
from pathlib import Path
from time import monotonic

import httptools
import msgspec
import uvloop


class Work(msgspec.Struct, kw_only=True):
    """Send *requests* in turn: for *seconds* again and again, or once each where that is None."""

    port: int
    requests: list[str]
    connections: int
    seconds: float | None = None


class Done(msgspec.Struct, kw_only=True):
    """What came back; latencies in milliseconds."""

    answered: int
    seconds: float
    p50_ms: float
    p99_ms: float
    wrong: list[str]

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


def send(method: str, path: str, body: object) -> str:
    text = msgspec.json.encode(body).decode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text.encode())}\r\n\r\n{text}"


def run(work: Work) -> Done:
    """Carry *work* out in a process of its own."""
    process = subprocess.run(
        [sys.executable, str(Path(__file__))], input=msgspec.json.encode(work), stdout=subprocess.PIPE, check=True
    )
    return msgspec.json.decode(process.stdout, type=Done)


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request under way."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self._sent_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.next()

    def next(self) -> None:
        request = self._sender.take()
        if request is None:
            self._transport.close()
            return
        self._sent_s = monotonic()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status, body = self._parser.get_status_code(), self._body
        self._body = b""
        self._parser = httptools.HttpResponseParser(self)
        self._sender.answered(status, body, monotonic() - self._sent_s)
        self.next()

    def connection_lost(self, problem: Exception | None) -> None:
        self._sender.lost(problem)


class Sender:
    """Owns the requests and counts the answers."""

    def __init__(self, work: Work) -> None:
        self._work = work
        encoded = [each.encode() for each in work.requests]
        self._requests = iter(encoded) if work.seconds is None else cycle(encoded)
        self._until_s = float("inf")
        self._open = 0
        self._latencies = array("d")
        self._wrong: list[str] = []
        self._finished = asyncio.Event()

    async def run(self) -> Done:
        loop, begun_s = asyncio.get_running_loop(), monotonic()
        self._open = self._work.connections
        if self._work.seconds is not None:
            self._until_s = begun_s + self._work.seconds
        for _ in range(self._work.connections):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self._work.port)
        await self._finished.wait()
        ordered = sorted(self._latencies) or [float("nan")]
        return Done(
            answered=len(self._latencies),
            seconds=monotonic() - begun_s,
            p50_ms=ordered[len(ordered) // 2] * 1000,
            p99_ms=ordered[int(len(ordered) * 0.99)] * 1000,
            wrong=self._wrong[:5],
        )

    def take(self) -> bytes | None:
        return None if monotonic() >= self._until_s else next(self._requests, None)

    def answered(self, status: int, body: bytes, seconds: float) -> None:
        if status == 200:
            self._latencies.append(seconds)
        else:
            self._wrong.append(f"{status} {body[:200].decode(errors='replace')}")

    def lost(self, problem: Exception | None) -> None:
        if problem is not None:
            self._wrong.append(repr(problem))
        self._open -= 1
        if not self._open:
            self._finished.set()


if __name__ == "__main__":
    found = uvloop.run(Sender(msgspec.json.decode(sys.stdin.buffer.read(), type=Work)).run())
    print(msgspec.json.encode(found).decode(), flush=True)
