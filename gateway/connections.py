"""What one client may cost the ingress: its connection's time, bytes and descriptor.

uvicorn bounds none of these; the body is bounded in `bodies`, everything around it here.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from types import SimpleNamespace
from typing import ClassVar, cast

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import GatewayError, HeadTooLarge, NotHttp
from gateway.turns import Turns
from gateway.watch import Watch, Watched
from gateway.wire import Describe, raw_error, request_id

MAX_DESCRIPTORS = 65536
DESCRIPTORS_FOR_OTHERS = 128  # the listener, replicas, the registry, files that are being read
# So many requests begin in one turn of the event loop; others are heard between two turns.
PREDICTIONS_A_TURN = 32
OTHERS_A_TURN = 8
LONGEST_UNREAD_BYTES = 64 << 10  # a refused request's body, up to which its connection is worth reading it

Refusal = Callable[[bytes], tuple[GatewayError, Describe] | None]

# In the place of a request that is refused before anything is made for it.
TURNED_AWAY = cast(
    RequestResponseCycle,
    SimpleNamespace(response_started=True, response_complete=True, message_event=asyncio.Event()),
)


def protocol_class(max_connections: int | None = None, refusal: Refusal | None = None) -> type[LimitedProtocol]:
    """What `uvicorn.Config(http=...)` takes, for one server; by default as many connections as descriptors allow.

    *refusal* is asked with the URL of each POST, when its headers are there, and may say why it is not taken.
    """

    limit = _affordable_connections() if max_connections is None else max_connections

    class Limited(LimitedProtocol):
        __slots__ = ()
        max_connections = limit
        watch = Watch()
        refuses = staticmethod(refusal or LimitedProtocol.refuses)
        turns = Turns(OTHERS_A_TURN), Turns(PREDICTIONS_A_TURN)

    return Limited


def is_whole(receive: object) -> bool:
    """Whether the body that an application's *receive* gives is there already, so that it needs no clock."""
    cycle = getattr(receive, "__self__", None)
    return isinstance(cycle, RequestResponseCycle) and not cycle.more_body


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
    waits for. Too long ones are answered 431, what is no HTTP 400, both in the wire's shape. A peer that reads next to
    nothing of its answer is cut off. One connection too many is closed as it comes. An answer that is under way is
    given first, whatever follows its request; when the peer is gone, the task that works on it is cancelled. What was
    read before a graceful end is answered.
    """

    HEADER_TIMEOUT_S: ClassVar[float] = 10.0
    WRITE_STALL_S: ClassVar[float] = 20.0
    MIN_TAKEN_BYTES: ClassVar[int] = 20 << 10  # of an answer in that time
    LINGER_S: ClassVar[float] = 2.0
    SWEEP_S: ClassVar[float] = 1.0
    MAX_HEAD_BYTES: ClassVar[int] = 64 << 10

    max_connections: ClassVar[int]
    watch: ClassVar[Watch]
    turns: ClassVar[tuple[Turns, Turns]]  # of POST, PUT and PATCH the second

    # Slots, for CPython shares the keys of at most 30 attributes between instances, and uvicorn has 28. In what runs
    # for every request the base is named, since `super()` costs 0.1 us each time; the whole costs under 1 us.
    __slots__ = (
        *("_deadline_s", "_head_bytes", "_held", "_is_in_body", "_is_refused", "_stalled_at_s", "_task"),
        "_unsent_bytes",
    )

    _deadline_s: float | None  # until when the peer must have sent what it began
    _held: bytes  # what was read and waits for its turn
    _head_bytes: int  # of the head that is being read, or of trailers since the last of the body
    _is_in_body: bool
    _is_refused: bool
    _unsent_bytes: int
    _stalled_at_s: float
    _task: tuple[asyncio.Task[None], RequestResponseCycle] | None  # the last that was begun

    @staticmethod
    def refuses(url: bytes, /) -> tuple[GatewayError, Describe] | None:  # noqa: ARG004
        """Why a POST at *url* is not taken, and how that is said."""
        return None

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        self._deadline_s = None
        self._head_bytes = self._unsent_bytes = 0
        self._stalled_at_s = 0.0
        self._task = None
        self._held = b""
        self._is_in_body = False
        self._is_refused = len(self.connections) >= self.max_connections
        if self._is_refused:
            self.transport = transport
            self.watch.turned_away += 1
            transport.abort()
            return
        super().connection_made(transport)
        self._expect_head()
        self.watch.start(self.loop, cast(set[Watched], self.connections), self.SWEEP_S)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        if self._held:
            self._held += data
            self.flow.pause_reading()
        elif self._is_in_body:
            self._read_body(data)
        elif self.turns[data[0] == ord("P")].begins(self.loop, self):
            self._begin(data)
        else:
            self._held = data

    def _begin(self, data: bytes) -> None:
        if self._deadline_s is None or not self._head_bytes:
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
        taken = self._unsent_bytes - unsent
        if not unsent or taken < 0 or taken >= self.MIN_TAKEN_BYTES:  # below zero: another answer came behind it
            self._unsent_bytes = unsent
            self._stalled_at_s = now_s + self.WRITE_STALL_S
        elif now_s >= self._stalled_at_s:
            self.transport.abort()

    def shutdown(self) -> None:
        self.go_on()
        HttpToolsProtocol.shutdown(self)

    # Called by the turns

    def go_on(self) -> None:
        data, self._held = self._held, b""
        if not data or self._is_refused or self.transport.is_closing():
            return
        self.flow.resume_reading()
        self._begin(data)

    # Called by the parser

    def on_headers_complete(self) -> None:
        refused = None
        if self.parser.get_method() == b"POST" and (self.cycle is None or self.cycle.response_complete):
            refused = self.refuses(self.url)
        if refused is None:
            HttpToolsProtocol.on_headers_complete(self)
        self._deadline_s = None
        self._is_in_body = True
        if refused is not None:
            self._turn_away(*refused)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        HttpToolsProtocol.on_body(self, body)

    def on_message_complete(self) -> None:
        if self._is_refused:
            return
        self._is_in_body = False
        self._deadline_s = None
        if not self.pipeline:
            self.flow.resume_reading()  # the body may have paused it, and then nobody would see the peer leave
        HttpToolsProtocol.on_message_complete(self)
        if self.cycle.response_complete:  # before this, and uvicorn's timer ended or never began
            self._deadline_s = self.loop.time() + self.timeout_keep_alive
            self._head_bytes = 0

    def send_400_response(self, msg: str) -> None:
        del msg
        self._refuse(NotHttp("this is no HTTP/1.1 request, or its body is not as its headers say"))

    # Working

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        task = self.loop.create_task(cycle.run_asgi(app))
        self._task = task, cycle
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def on_response_complete(self) -> None:
        if self._is_in_body and self.expect_100_continue and self.cycle.response_complete:
            # Answered before its body, which the client need not send now: what comes may be body or the next request.
            self._is_refused = True
            self.transport.write_eof()
            self._deadline_s = self.loop.time() + self.LINGER_S
        HttpToolsProtocol.on_response_complete(self)

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
            self._refuse(self._too_large("request line and headers"))
            return
        self.data_received(data[room:])

    def _read_body(self, data: bytes) -> None:
        if self._deadline_s is None and self.cycle.response_complete:
            self._deadline_s = self.loop.time() + self.HEADER_TIMEOUT_S
        self._head_bytes += len(data)
        HttpToolsProtocol.data_received(self, data)
        if self._is_in_body and self._head_bytes > self.MAX_HEAD_BYTES:
            self._refuse(self._too_large("trailers"))

    def _too_large(self, what: str) -> HeadTooLarge:
        return HeadTooLarge(f"the {what} are longer than the {self.MAX_HEAD_BYTES} bytes that are taken")

    # Ending

    def _turn_away(self, problem: GatewayError, describe: Describe) -> None:
        """Answer before the body is read; the connection stays where little of it is left to read."""
        self.cycle = TURNED_AWAY
        headers = dict(self.headers)
        length = headers.get(b"content-length", b"0")
        if (
            self.expect_100_continue  # whoever hears this instead of the 100 need not send the body
            or not self.parser.should_keep_alive()
            or (length.isdigit() and int(length) > LONGEST_UNREAD_BYTES)
        ):
            problem.closes_connection = True
        answer = raw_error(problem, request_id(headers.get(b"x-request-id")), describe)
        if problem.closes_connection:
            self._end_with(answer)
        else:
            self.transport.write(answer)
            self._deadline_s = self.loop.time() + self.HEADER_TIMEOUT_S  # for the body

    def _refuse(self, problem: GatewayError) -> None:
        """Say why, if it cannot be taken for another request's answer, and read no more."""
        if self._is_refused or self.transport.is_closing():
            return
        is_under_way = self.cycle is not None and not self.cycle.response_complete
        if is_under_way and not self._is_in_body:
            self._end()
        elif is_under_way:
            self._is_refused = True
            if not (self.pipeline or self.cycle.response_started):
                self.transport.write(raw_error(problem, request_id(None)))
            self.transport.close()
        elif self.cycle is not None and self._is_in_body:
            self._end()
        else:
            self._end_with(raw_error(problem, request_id(None)))

    def _end_with(self, answer: bytes) -> None:
        """Closed with bytes unread, the system would reset the connection and the answer with it: so read on a bit."""
        self._is_refused = True
        self.transport.write(answer)
        self.transport.write_eof()
        self._deadline_s = self.loop.time() + self.LINGER_S

    def _end(self) -> None:
        """Close: now, or after the answer that is under way."""
        self._is_refused = True
        self._deadline_s = None
        self.shutdown()
