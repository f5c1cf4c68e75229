"""uvicorn as every ingress process runs it: on listeners that come and go, and stopped by its owner alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from gateway.admission import Admission
from gateway.config import Settings
from gateway.connections import protocol_class
from gateway.errors import CannotListen
from gateway.predictions import Application

BACKLOG = 2048
ACCEPTS_A_TURN = 16
KEEP_ALIVE_S = 75
# Other work shares the interpreter with the requests; a shorter turn keeps their latency flat.
SWITCH_INTERVAL_S = 0.0005


class HttpServer(uvicorn.Server):
    """Serves until `should_exit`. *listeners* are its own; it stands in at others while nobody else takes theirs."""

    def __init__(self, application: Application, admission: Admission, settings: Settings) -> None:
        super().__init__(_config(application, admission, settings))
        self._is_up = asyncio.Event()
        self._standing_in: dict[int, list[asyncio.AbstractServer]] = {}

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """How a gateway stops is not decided here."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for number in list(self._standing_in):
            self._close(number)
        await super().shutdown(sockets)

    async def stand_in(self, listener: socket.socket) -> None:
        """Take the connections of this one too."""
        await self._is_up.wait()
        if listener.fileno() not in self._standing_in and not self.should_exit:
            loop = asyncio.get_running_loop()
            self._standing_in[listener.fileno()] = [
                await loop.create_server(self._connection, sock=each, backlog=BACKLOG)
                for each in several(listener.dup())
            ]

    def step_back(self, listener: socket.socket) -> None:
        """Somebody else does; those that are open stay."""
        self._close(listener.fileno())

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self.server_state.connections)

    def _close(self, number: int) -> None:
        for each in self._standing_in.pop(number, ()):
            each.close()

    def _connection(self) -> asyncio.Protocol:
        """As `startup` makes them."""
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made


def several(listener: socket.socket) -> list[socket.socket]:
    """The same socket under several descriptors: libuv accepts one connection of each in a turn of the loop.

    With one alone, a health check would wait in the backlog for as many turns as there are connections before it.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTS_A_TURN - 1))]


@contextlib.contextmanager
def listening(host: str, port: int, count: int) -> Iterator[list[socket.socket]]:
    """As many listeners as there are processes, all at one address, among which the system spreads connections.

    Raises `CannotListen` when somebody else listens there, also one who would share.
    """
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(_bound(host, port, shares=False))
        listeners = [first]
        if count > 1:
            port = first.getsockname()[1]
            first.close()
            listeners = [stack.enter_context(_bound(host, port, shares=True)) for _ in range(count)]
        for each in listeners:
            each.listen(BACKLOG)
            each.setblocking(False)
        yield listeners


def _bound(host: str, port: int, shares: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shares:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as problem:
        listener.close()
        raise CannotListen(
            f"cannot listen on {host}:{port}: {problem.strerror}; pass another --host or --port"
        ) from None
    return listener


def _config(application: Application, admission: Admission, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=protocol_class(refusal=admission.refusal),
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # `Predictions` looks at them, where they matter
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_timeout_s)),
    )
