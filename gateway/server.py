"""The composition root: from settings to a gateway that serves, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

import uvloop

from gateway import heartbeat, tracing
from gateway.admission import Admission
from gateway.app import Gateway
from gateway.config import Settings
from gateway.configfile import ConfigFile
from gateway.connections import raise_descriptor_limit
from gateway.endpoints import EndpointTable
from gateway.forkserver import ForkServer
from gateway.http import SWITCH_INTERVAL_S, HttpServer, listening, several
from gateway.ingress.crew import Crew
from gateway.meters import LoopLag
from gateway.metrics import Exposition
from gateway.reconciler import Reconciler
from gateway.runtimes.local import LocalRuntime
from gateway.tracing import MakePredictions
from registry import ModelUri, Unavailable, connect

log = logging.getLogger("turnout.server")

DRAIN_MARGIN_S = 5.0  # beyond the shutdown timeout, for members to end


def run(settings: Settings, file: ConfigFile | None, log_format: str, fork_server: ForkServer | None) -> int:
    """Serve until SIGTERM or Ctrl-C; the exit status. What changes in the *file* that they came from is taken over.

    A *fork_server* that was launched for models without an environment of their own is used, and ended. Raises
    `CannotListen` when the port is taken, `InvalidUri` for what can never be a registry, and `InvalidSettings` for
    what can never be an exporter of traces; a registry that is merely away is waited for.
    """
    if any(isinstance(endpoint.model, ModelUri) for endpoint in settings.endpoints):
        with contextlib.suppress(Unavailable), contextlib.closing(connect(settings.registry_uri, create=False)):
            pass
    raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with (
        listening(settings.host, settings.port, settings.http_workers) as listeners,
        tracing.exporting() as predictions,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(serve(settings, file, listeners, log_format, predictions, fork_server))


async def serve(
    settings: Settings,
    file: ConfigFile | None,
    listeners: Sequence[socket.socket],
    log_format: str,
    predictions: MakePredictions,
    fork_server: ForkServer | None,
) -> int:
    """The whole life of a gateway, in order: warm, follow, serve, stop."""
    stop = _Stop()
    endpoints, lag = EndpointTable(()), LoopLag()
    listener, *more = listeners
    async with LocalRuntime(settings.cache, bool(more), fork_server) as runtime:
        reconciler = Reconciler(settings, endpoints, runtime)

        def processes() -> list[dict[str, Any]]:
            own = {"pid": os.getpid(), "epoch": reconciler.routing.epoch, "connections": server.connections}
            return [own, *(crew.as_json() if crew is not None else ())]

        def registry_uri() -> str | None:
            return reconciler.settings.registry_uri

        metrics = Exposition(endpoints, reconciler, lag, file, processes)
        gateway = Gateway(endpoints, reconciler, metrics, file, processes)
        admission = Admission(endpoints, lambda: reconciler.settings)
        application = predictions(endpoints, lambda: reconciler.settings, admission, gateway)
        server = HttpServer(application, admission, settings)
        crew = Crew(more, server, gateway, endpoints, settings, lag, log_format) if more else None
        reconciler.routing.members, news = crew, reconciler.routing.news
        async with (
            _background(reconciler.run(), stop),
            _background(lag.watch(), stop),
            _background(_take_over(file, reconciler), stop),
            _background(server.serve(several(listener)), stop) as serving,
            _background(crew.run() if crew else stop.asked.wait(), stop) as crewing,
            _background(heartbeat.beat(registry_uri, _place(listener), endpoints, news), stop),
        ):
            log.info("listening on %s", _address(listener))
            await stop.asked.wait()
            gateway.is_draining = True
            log.info("stopping: not ready any more")
            await stop.unless_at_once(asyncio.sleep(reconciler.settings.shutdown_notice_s))
            server.should_exit = True
            if crew is not None:
                crew.drain()
            limit_s = reconciler.settings.shutdown_timeout_s + DRAIN_MARGIN_S
            await stop.unless_at_once(asyncio.wait({serving, crewing}, timeout=limit_s))
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


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, object], stop: _Stop) -> AsyncIterator[asyncio.Task[object]]:
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


def _place(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port


def _address(listener: socket.socket) -> str:
    host, port = _place(listener)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
