"""The composition root: from settings to a gateway that serves, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop

from gateway import heartbeat
from gateway.admission import Admission
from gateway.app import Gateway
from gateway.config import Settings
from gateway.configfile import ConfigFile
from gateway.connections import protocol_class, raise_descriptor_limit
from gateway.endpoints import EndpointTable
from gateway.errors import CannotListen
from gateway.meters import LoopLag
from gateway.metrics import Exposition
from gateway.reconciler import Reconciler
from gateway.runtimes.local import LocalRuntime
from registry import ModelUri, Unavailable, connect

log = logging.getLogger("turnout.server")

BACKLOG = 2048
ACCEPTS_A_TURN = 16
KEEP_ALIVE_S = 75
# Work on the registry shares the interpreter with the requests; a shorter turn keeps their latency flat.
SWITCH_INTERVAL_S = 0.0005


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers of its own: how a gateway stops is decided below."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings, file: ConfigFile | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status. What changes in the *file* that they came from is taken over.

    Raises `CannotListen` when the port is taken, and `InvalidUri` for what can never be a registry; a registry that is
    merely away is waited for.
    """
    if any(isinstance(endpoint.model, ModelUri) for endpoint in settings.endpoints):
        with contextlib.suppress(Unavailable), contextlib.closing(connect(settings.registry_uri, create=False)):
            pass
    _open_standard_descriptors()
    raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with _listening(settings) as listener, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(settings, file, listener))


async def serve(settings: Settings, file: ConfigFile | None, listener: socket.socket) -> int:
    """The whole life of a gateway, in order: warm, follow, serve, stop."""
    stop = _Stop()
    endpoints, lag = EndpointTable(()), LoopLag()
    async with LocalRuntime(settings.cache) as runtime:
        reconciler = Reconciler(settings, endpoints, runtime)
        admission = Admission(endpoints, lambda: reconciler.settings)
        gateway = Gateway(endpoints, reconciler, admission, Exposition(endpoints, reconciler, lag, file), file)
        server = _Uvicorn(_uvicorn_config(gateway, admission, settings))
        async with (
            _background(reconciler.run(), stop),
            _background(lag.watch(), stop),
            _background(_take_over(file, reconciler), stop),
            _background(server.serve(sockets=_several(listener)), stop) as serving,
            _background(heartbeat.beat(settings.registry_uri, _place(listener), endpoints, reconciler.news), stop),
        ):
            log.info("listening on %s", _address(listener))
            await stop.asked.wait()
            gateway.is_draining = True
            log.info("stopping: not ready any more")
            await stop.unless_at_once(asyncio.sleep(reconciler.settings.shutdown_notice_s))
            server.should_exit = True
            await stop.unless_at_once(asyncio.wait({serving}))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(reconciler.settings.shutdown_timeout_s):
                await stop.unless_at_once(reconciler.retire_all())
    log.info("stopped")
    return 0


async def _take_over(file: ConfigFile | None, reconciler: Reconciler) -> None:
    """Go on by what the configuration file comes to say, until cancelled."""
    if file is None:
        await asyncio.Event().wait()
    else:
        async for settings in file.changes(reconciler.settings):
            reconciler.reconfigure(settings)


class _Stop:
    """The first SIGTERM or Ctrl-C asks for a graceful end, the second for one at once."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._at_once = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    async def unless_at_once(self, work: Coroutine[Any, Any, object]) -> None:
        """Wait for *work*, or until the second signal."""
        tasks = {asyncio.create_task(work), asyncio.create_task(self._at_once.wait())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _signalled(self) -> None:
        if self.asked.is_set():
            log.warning("stopping at once")
            self._at_once.set()
        self.asked.set()


def _several(listener: socket.socket) -> list[socket.socket]:
    """The same socket under several descriptors: libuv accepts one connection of each in a turn of the loop.

    With one alone, a health check would wait in the backlog for as many turns as there are connections before it.
    """
    return [listener, *(listener.dup() for _ in range(ACCEPTS_A_TURN - 1))]


def _uvicorn_config(gateway: Gateway, admission: Admission, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        http=protocol_class(refusal=admission.refusal),
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, int(settings.shutdown_timeout_s)),
    )


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, None], stop: _Stop) -> AsyncIterator[asyncio.Task[None]]:
    """Run *work* beside the block; if it ends by itself, everything stops, and its error comes out here."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: stop.asked.set())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.result()


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as problem:
            raise CannotListen(
                f"cannot listen on {settings.host}:{settings.port}: {problem.strerror}; pass another --host or --port"
            ) from None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener


def _place(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port


def _address(listener: socket.socket) -> str:
    host, port = _place(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _open_standard_descriptors() -> None:
    """Where standard input, output or error are closed, no socket may take their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
