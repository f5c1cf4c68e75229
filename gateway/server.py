"""The composition root: from settings to a gateway that serves, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

from gateway.app import Gateway
from gateway.config import Settings
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import CannotListen
from gateway.reconciler import Reconciler
from gateway.runtimes.local import LocalRuntime
from registry import ModelUri, Unavailable, connect

log = logging.getLogger("turnout.server")

BACKLOG = 2048
KEEP_ALIVE_S = 75
# Work on the registry shares the interpreter with the requests; a shorter turn keeps their latency flat.
SWITCH_INTERVAL_S = 0.0005


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers of its own: how a gateway stops is decided below."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(settings: Settings) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status.

    Raises `CannotListen` when the port is taken, and `InvalidUri` for what can never be a registry; a registry that is
    merely away is waited for.
    """
    if any(isinstance(endpoint.model, ModelUri) for endpoint in settings.endpoints):
        with contextlib.suppress(Unavailable), contextlib.closing(connect(settings.registry_uri, create=False)):
            pass
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with _listening(settings) as listener:
        return uvicorn_loop(serve(settings, listener))


def uvicorn_loop(main: Any) -> int:
    """Run on uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status: int = runner.run(main)
        return status


async def serve(settings: Settings, listener: socket.socket) -> int:
    """The whole life of a gateway, in order: warm, follow, serve, stop."""
    stopping = asyncio.Event()
    endpoints = [Endpoint(config) for config in settings.endpoints]
    async with LocalRuntime() as runtime:
        reconciler = Reconciler(settings, endpoints, runtime)
        gateway = Gateway(EndpointTable(endpoints, settings.default_endpoint), reconciler, settings.max_body_bytes)
        server = _Uvicorn(_uvicorn_config(gateway, settings))
        _stop_on_signals(stopping, server)
        async with (
            _background(reconciler.run(), stopping),
            _background(server.serve(sockets=[listener]), stopping) as serving,
        ):
            log.info("listening on http://%s:%d", *listener.getsockname()[:2])
            await stopping.wait()
            gateway.is_draining = True
            log.info("stopping: not ready any more")
            await asyncio.sleep(settings.shutdown_notice_s)
            server.should_exit = True
            await asyncio.wait({serving})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.shutdown_timeout_s):
                await reconciler.retire_all()
    log.info("stopped")
    return 0


def _uvicorn_config(gateway: Gateway, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        gateway,
        http="httptools",
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


def _stop_on_signals(stopping: asyncio.Event, server: _Uvicorn) -> None:
    """The first signal stops gracefully, the second at once."""

    def stop() -> None:
        if stopping.is_set():
            log.warning("stopping at once")
            server.force_exit = True
            server.should_exit = True
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


@contextlib.asynccontextmanager
async def _background(work: Any, stopping: asyncio.Event) -> AsyncIterator[asyncio.Task[Any]]:
    """Run *work* beside the block; if it ends by itself, everything stops, and its error comes out here."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda _: stopping.set())
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
                f"cannot listen on {settings.host}:{settings.port}: {problem.strerror}; choose another --port"
            ) from None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener
