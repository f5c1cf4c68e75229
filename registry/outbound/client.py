"""Requests to the one server that a user named, with an end to their time, their size and their tries."""

from __future__ import annotations

import random
import socket
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from registry.errors import InvalidParameter, Unavailable

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
# Idle connections are given up before servers do (2 s and more), so that none is used while it is being closed.
KEEP_IDLE_S = 1.5
MAX_ANSWER_BYTES = 256 << 20
TRIES = 4
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
TRY_AGAIN = frozenset({429, 502, 503, 504})

Params = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; header names are in small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Download:
    """An answer whose body is read a piece at a time."""

    def __init__(self, response: httpx2.Response, told: str) -> None:
        self._response = response
        self._told = told
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers)

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives; `Unavailable` when it ends before its announced length."""
        with _explained(self._told):
            yield from self._response.iter_bytes()  # not gathered: of a gathered piece a cut leaves nothing

    def body(self) -> bytes:
        """All of it, within the bound of an answer."""
        with _explained(self._told):
            return _bounded(self._response.iter_bytes(), MAX_ANSWER_BYTES, self._told)


class Outbound:
    """Requests to one server, from any thread: no redirect is followed, proxies of the environment are used.

    *credentials* is the `Authorization` header's value. Network trouble is `Unavailable`; any answer is an answer.
    """

    def __init__(self, base: str, credentials: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self.base = base.rstrip("/")
        given = {"accept-encoding": "identity", **(headers or {})}
        if credentials is not None:
            given["authorization"] = credentials
        self._closed = threading.Event()
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._client = httpx2.Client(
            headers=given,
            timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=KEEP_IDLE_S),
            follow_redirects=False,
            # Not in the client's hands: a ~/.netrc would add credentials that nobody named here.
            auth=_as_it_is,
        )

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        """Break off whatever is under way, in any thread. Safe to call twice."""
        self._closed.set()
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._client.close()

    def pause(self, seconds: float) -> None:
        """Sleep, or return at once when this is closed."""
        self._closed.wait(seconds)

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        content: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        is_safe: bool = False,
        timeout_s: float = READ_TIMEOUT_S,
    ) -> Answer:
        """Send a request and read the whole answer.

        With *is_safe* it is tried again after a failure; without, only when it cannot have been received.
        """
        request = method, path, tuple(params), content, dict(headers or {}), timeout_s
        pause = FIRST_PAUSE_S
        for tries_left in reversed(range(TRIES)):
            try:
                answer = self._send_once(*request)
            except Unavailable as problem:
                if not tries_left or self.is_closed or not (is_safe or _never_arrived(problem)):
                    raise
            else:
                if not tries_left or not is_safe or answer.status not in TRY_AGAIN:
                    return answer
                pause = max(pause, _asked_pause(answer))
            self.pause(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE_S)
        raise AssertionError("unreachable")

    @contextmanager
    def download(
        self, path: str, *, headers: Mapping[str, str] | None = None, params: Params = ()
    ) -> Iterator[Download]:
        """Ask for something large, once. The answer's status is the caller's to judge."""
        with self._opened("GET", path, tuple(params), None, dict(headers or {}), READ_TIMEOUT_S) as response:
            yield Download(response, self._told("GET", path))

    def _send_once(self, method: str, path: str, *rest: Any) -> Answer:
        told = self._told(method, path)
        with self._opened(method, path, *rest) as response, _explained(told):
            body = _bounded(response.iter_bytes(), MAX_ANSWER_BYTES, told)
            return Answer(response.status_code, dict(response.headers), body)

    @contextmanager
    def _opened(
        self,
        method: str,
        path: str,
        params: Params,
        content: bytes | Iterable[bytes] | None,
        headers: dict[str, str],
        timeout_s: float,
    ) -> Iterator[httpx2.Response]:
        if self.is_closed:
            raise Unavailable(f"the connection to {self.base} was closed; connect again")
        with _explained(self._told(method, path)):
            request = self._client.build_request(
                method,
                self.base + path,
                params=list(params) or None,
                content=content,
                headers=headers,
                timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
                extensions={"trace": self._note_socket},
            )
            response = self._client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember what to break off: closing a client does not wake a thread that reads from it."""
        if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            opened = info["return_value"].get_extra_info("socket")
            if isinstance(opened, socket.socket):
                self._sockets.add(opened)
                if self.is_closed:  # it was closed while this was being opened
                    with suppress(OSError):
                        opened.shutdown(socket.SHUT_RDWR)

    def _told(self, method: str, path: str) -> str:
        return f"{method} {self.base}{path}"


class _NeverArrived(Unavailable):
    """No connection came about, so the server cannot have acted."""


def _as_it_is(request: httpx2.Request) -> httpx2.Request:
    return request


@contextmanager
def _explained(told: str) -> Iterator[None]:
    try:
        yield
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as problem:
        raise _NeverArrived(f"{told}: no connection: {_reason(problem)}; is the server running?") from problem
    except httpx2.TimeoutException as problem:
        raise Unavailable(f"{told}: no answer in time; is the server overloaded?") from problem
    except (httpx2.HTTPError, httpx2.StreamError, RuntimeError) as problem:  # the last: closed while in use
        raise Unavailable(f"{told}: the connection broke: {_reason(problem)}") from problem
    except (httpx2.InvalidURL, UnicodeError) as problem:
        raise InvalidParameter(f"{told}: cannot be sent: {_reason(problem)}") from problem


def _reason(problem: Exception) -> str:
    return str(problem) or type(problem).__name__


def _never_arrived(problem: Unavailable) -> bool:
    return isinstance(problem, _NeverArrived)


def _asked_pause(answer: Answer) -> float:
    """What `Retry-After` says in seconds, as far as we are patient; dates are not read."""
    asked = answer.headers.get("retry-after", "")
    return min(float(asked), LONGEST_PAUSE_S) if asked.isascii() and asked.isdecimal() and len(asked) < 6 else 0.0


def _bounded(chunks: Iterable[bytes], max_bytes: int, told: str) -> bytes:
    body = bytearray()
    for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise Unavailable(f"{told}: the answer has more than {max_bytes} bytes, which is no answer of a registry")
    return bytes(body)
