"""What one client may cost the ingress: its connection's time, bytes and descriptor.

uvicorn bounds none of these; the body is bounded in `bodies`, everything around it here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
from http import HTTPStatus
from typing import ClassVar, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import BadRequest

log = logging.getLogger("turnout.connections")

MAX_DESCRIPTORS = 65536
DESCRIPTORS_FOR_OTHERS = 128  # the listener, replicas, the registry, files that are being read


def protocol_class(max_connections: int | None = None) -> type[LimitedProtocol]:
    """What `uvicorn.Config(http=...)` takes, for one server; by default as many connections as descriptors allow."""

    limit = _affordable_connections() if max_connections is None else max_connections

    class Limited(LimitedProtocol):
        __slots__ = ()
        max_connections = limit
        watch = Watch()

    return Limited


def raise_descriptor_limit() -> int:
    """Let this process open as many files as the system permits, at most 65536; the number it may now open."""
    soft, hard = (_bounded(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return hard


def _affordable_connections() -> int:
    descriptors = _bounded(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return max(descriptors - DESCRIPTORS_FOR_OTHERS, descriptors // 2)


def _bounded(limit: int) -> int:
    return MAX_DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, MAX_DESCRIPTORS)


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 for clients that are slow, broken or many. Made by `protocol_class`.

    A connection whose request line and headers are late is closed, and so is one that goes on sending what nobody
    waits for. Too long ones are answered 431, what is no HTTP 400, both in the wire's shape. A peer that reads nothing
    of its answer is cut off. One connection too many is closed as it comes. An answer that is under way is given first,
    whatever follows its request; when the peer is gone, the task that works on it is cancelled.
    """

    HEADER_TIMEOUT_S: ClassVar[float] = 10.0
    WRITE_STALL_S: ClassVar[float] = 20.0
    LINGER_S: ClassVar[float] = 2.0
    SWEEP_S: ClassVar[float] = 1.0
    MAX_HEAD_BYTES: ClassVar[int] = 64 << 10

    max_connections: ClassVar[int]
    watch: ClassVar[Watch]

    # Slots, for CPython shares the keys of at most 30 attributes between instances, and uvicorn has 28. In what runs
    # for every request the base is named, since `super()` costs 0.1 us each time; the whole costs under 1 us.
    __slots__ = ("_deadline_s", "_head_bytes", "_is_in_body", "_is_refused", "_stalled_at_s", "_task", "_unsent_bytes")

    _deadline_s: float | None  # until when the peer must have sent what it began
    _head_bytes: int  # of the head that is being read, or of trailers since the last of the body
    _is_in_body: bool
    _is_refused: bool
    _unsent_bytes: int
    _stalled_at_s: float
    _task: tuple[asyncio.Task[None], RequestResponseCycle] | None  # the last that was begun

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        self._deadline_s = None
        self._head_bytes = self._unsent_bytes = 0
        self._stalled_at_s = 0.0
        self._task = None
        self._is_in_body = False
        self._is_refused = len(self.connections) >= self.max_connections
        if self._is_refused:
            self.transport = transport
            self.watch.turned_away += 1
            transport.abort()
            return
        super().connection_made(transport)
        self._expect_head()
        self.watch.start(self.loop, cast(set[LimitedProtocol], self.connections), self.SWEEP_S)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._is_in_body:
            self._read_body(data)
            return
        if self._deadline_s is None:
            self._expect_head()
        room = self.MAX_HEAD_BYTES - self._head_bytes
        if len(data) > room:
            self._read_in_parts(data, room)
            return
        self._head_bytes += len(data)
        HttpToolsProtocol.data_received(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        HttpToolsProtocol.connection_lost(self, exc)
        self.pipeline.clear()
        if self._task is not None:
            task, cycle = self._task
            cycle.disconnected = True  # of several that came together uvicorn tells the last one only
            task.cancel()

    def check(self, now_s: float) -> None:
        """Close the connection if a deadline is over. Called by the watch."""
        if self._deadline_s is not None and now_s >= self._deadline_s:
            self._end()
        unsent = self.transport.get_write_buffer_size()
        if unsent != self._unsent_bytes:
            self._unsent_bytes = unsent
            self._stalled_at_s = now_s + self.WRITE_STALL_S
        elif unsent and now_s >= self._stalled_at_s:
            self.transport.abort()

    # Called by the parser

    def on_headers_complete(self) -> None:
        HttpToolsProtocol.on_headers_complete(self)
        self._deadline_s = None
        self._is_in_body = True

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        self._is_in_body = False
        self._deadline_s = None
        if not self.pipeline:
            self.flow.resume_reading()  # the body may have paused it, and then nobody would see the peer leave
        HttpToolsProtocol.on_message_complete(self)
        if self.cycle.response_complete:
            self._expect_head()  # this data came after the answer, and ended uvicorn's keep-alive timer

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request, or its body is not as its headers say")

    # Working

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        self._task = task, cycle
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # Reading

    def _expect_head(self) -> None:
        self._deadline_s = self.loop.time() + self.HEADER_TIMEOUT_S
        self._head_bytes = 0

    def _read_in_parts(self, data: bytes, room: int) -> None:
        """Up to the limit first: the head has to end there."""
        if room:
            self._head_bytes += room
            HttpToolsProtocol.data_received(self, data[:room])
        if self._is_refused:
            return
        if self._deadline_s is not None:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the request line and headers are longer than the {self.MAX_HEAD_BYTES} bytes that are taken",
            )
            return
        self.data_received(data[room:])

    def _read_body(self, data: bytes) -> None:
        if self._deadline_s is None and self.cycle.response_complete:
            self._deadline_s = self.loop.time() + self.HEADER_TIMEOUT_S
        self._head_bytes += len(data)
        HttpToolsProtocol.data_received(self, data)
        if self._is_in_body and self._head_bytes > self.MAX_HEAD_BYTES:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the trailers are longer than the {self.MAX_HEAD_BYTES} bytes that are taken",
            )

    # Ending

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Say why, if it cannot be taken for another request's answer, and read no more."""
        if self._is_refused or self.transport.is_closing():
            return
        is_under_way = self.cycle is not None and not self.cycle.response_complete
        if is_under_way and not self._is_in_body:
            self._end()
        elif is_under_way:
            self._is_refused = True
            if not (self.pipeline or self.cycle.response_started):
                self.transport.write(_answer(status, message))
            self.transport.close()
        elif self.cycle is not None and self._is_in_body:
            self._end()
        else:
            self._is_refused = True
            self.transport.write(_answer(status, message))
            # Closed with bytes unread, the system would reset the connection and the answer with it.
            self.transport.write_eof()
            self._deadline_s = self.loop.time() + self.LINGER_S

    def _end(self) -> None:
        """Close: now, or after the answer that is under way."""
        self._is_refused = True
        self._deadline_s = None
        self.shutdown()


class Watch:
    """Looks after every connection of one server once in a while, so that a request needs no timer."""

    def __init__(self) -> None:
        self.turned_away = 0
        self._is_running = False

    def start(self, loop: asyncio.AbstractEventLoop, connections: set[LimitedProtocol], every_s: float) -> None:
        """Look after *connections* until none is left; nothing if that is being done."""
        if not self._is_running:
            self._is_running = True
            loop.call_later(every_s, self._sweep, loop, connections, every_s)

    def _sweep(self, loop: asyncio.AbstractEventLoop, connections: set[LimitedProtocol], every_s: float) -> None:
        now_s = loop.time()
        for each in tuple(connections):
            try:
                each.check(now_s)
            except Exception:
                log.exception("a connection could not be checked")
        if self.turned_away:
            log.warning("turned away %d connections: %d are open", self.turned_away, len(connections))
            self.turned_away = 0
        self._is_running = False
        if connections:
            self.start(loop, connections, every_s)


def _answer(status: HTTPStatus, message: str) -> bytes:
    body = json.dumps({"error_code": BadRequest.error_code, "message": message}).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
