"""From options to a server that answers, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
import uvloop

from registry.core import ServedRegistry
from registry.errors import RegistryError
from registry.server.app import RegistryServer, create_app
from registry.server.logs import logging_to_stderr
from registry.server.neighbours import neighbours
from registry.server.workers import run_workers
from registry.webhooks import Deliverer

log = logging.getLogger("turnout.server")

OpenRegistry = Callable[[], AbstractContextManager[ServedRegistry]]

BACKLOG = 2048
KEEP_ALIVE_S = 75
SHUTDOWN_TIMEOUT_S = 30


class CannotListen(RegistryError):
    """The address is taken, or not this machine's, or open to everybody."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a registry is served."""

    host: str = "127.0.0.1"
    port: int = 5000
    static_prefix: str = ""
    allowed_hosts: tuple[str, ...] = ()
    allow_unauthenticated: bool = False
    workers: int = 1


def run(open_registry: OpenRegistry, options: Options) -> int:
    """Serve until SIGTERM or Ctrl-C, which let requests finish; the exit status.

    Raises `CannotListen` for an address that cannot be listened on, or that others can reach without leave.
    """
    check_address(options)
    with listening(options) as listener:
        work = partial(_work, open_registry, options, listener)
        if options.workers == 1:
            return work()
        with open_registry():  # made, brought up to date, and refused here, once
            pass
        with TemporaryDirectory(prefix="turnout-") as folder:
            return run_workers(options.workers, partial(work, Path(folder)))


def _work(open_registry: OpenRegistry, options: Options, listener: socket.socket, folder: Path | None = None) -> int:
    """The whole life of a process that answers; *folder* is where it meets the others."""
    with logging_to_stderr(), open_registry() as registry, Deliverer(registry.webhooks):
        if not is_loopback(options.host):
            log.warning("there are no accounts yet: whoever reaches %s may change everything", options.host)
        hosts = (*options.allowed_hosts, options.host)
        app = create_app(registry, static_prefix=options.static_prefix, allowed_hosts=hosts)
        with (
            neighbours(folder, app.gateways.hear) as tell,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            app.gateways.share(tell)
            return runner.run(_serve(app, listener))


def check_address(options: Options) -> None:
    """Refuse an address that others can reach, unless that is wanted."""
    if not (is_loopback(options.host) or options.allow_unauthenticated):
        raise CannotListen(
            f"{options.host} can be reached by others, and this server has no accounts yet, so everybody there could "
            "change everything: listen on 127.0.0.1, or pass --allow-unauthenticated where a proxy asks who they are"
        )


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def listening(options: Options) -> Iterator[socket.socket]:
    """A socket that listens there."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as problem:
            raise CannotListen(
                f"cannot listen on {options.host}:{options.port}: {problem.strerror}; pass another --host or --port"
            ) from None
        listener.listen(BACKLOG)
        listener.setblocking(False)
        yield listener


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers of its own: how a server stops is decided below."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(app: RegistryServer, listener: socket.socket) -> int:
    server = _Uvicorn(_uvicorn_config(app))
    loop = asyncio.get_running_loop()

    def stop() -> None:
        """The first signal asks for a graceful end, the second for one at once."""
        if server.should_exit:
            server.force_exit = True
        log.info("stopping")
        app.stop_streams()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    log.info("listening on %s", _address(listener))
    await server.serve(sockets=[listener])
    log.info("stopped")
    return 0 if server.started else 1


def _uvicorn_config(app: RegistryServer) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
