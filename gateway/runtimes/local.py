"""Replicas as processes of this machine, forked from a warm fork server and spoken to over a socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import platform
import shutil
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

from gateway.config import EndpointConfig
from gateway.environments import Environment, ForkedProcess
from gateway.errors import DeadlineExceeded, LoadFailed, ModelError, ReplicaDied
from gateway.requirements import read_requirements
from gateway.runtimes.base import Proven, Resolved
from gateway.runtimes.folders import open_folder
from gateway.runtimes.output import relay
from gateway.threads import in_thread
from gateway.venvs import Venvs
from gateway.worker import frames
from gateway.worker.frames import Payload

log = logging.getLogger("turnout.replica")

BATCH_TAG = "turnout.batch"
CLOSE_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 1 << 30
OUT_OF_MEMORY_STATUS = 77  # replica.py's own

# A replica has one request that it works on, and as many on the way as keep it from waiting for the next: several
# of a quick model, none of a slow one. Only the first can have begun when it dies; the others go to another replica.
LONGEST_WINDOW = 4
ON_THE_WAY_S = 0.01
SMOOTHING = 0.1


class LocalReplica(asyncio.Protocol):
    """One forked process and this gateway's connection to it."""

    def __init__(self, process: ForkedProcess, label: str) -> None:
        self._process = process
        self._label = label
        self._decoder = frames.Decoder(MAX_ANSWER_BYTES)
        self._transport: asyncio.Transport | None = None
        self._unanswered: dict[int, asyncio.Future[Payload]] = {}  # in the order in which they were sent
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._proven: asyncio.Queue[Proven | None] = asyncio.Queue()
        self._progress: Callable[[str], None] = lambda _: None
        self._reason: str | None = None
        self._working_since = 0.0  # on the first of the unanswered
        self._service_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None

    @property
    def room(self) -> int:
        if self._transport is None:
            return 0
        window = 1 + int(ON_THE_WAY_S / (self._service_s or ON_THE_WAY_S))
        return min(LONGEST_WINDOW, window) - len(self._unanswered)

    @property
    def service_s(self) -> float:
        return self._service_s

    def memory_bytes(self) -> int:
        return self._process.memory_bytes()

    async def load(self, resolved: Resolved, config: EndpointConfig, progress: Callable[[str], None]) -> None:
        """Load and warm up, or raise `LoadFailed` with the cause."""
        self._progress = progress
        progress("loading")
        await self._loop.create_unix_connection(lambda: self, str(self._process.path))
        assert self._transport is not None
        order = {
            "op": "load",
            "path": str(resolved.path),
            "mlmodel": resolved.mlmodel,
            "memory_limit_bytes": config.memory_limit_bytes,
            "joins": _joins(resolved, config),
            "accelerates": config.accelerates,
        }
        self._transport.write(frames.encode(order))
        try:
            async with asyncio.timeout(config.load_timeout_s):
                await self._loaded
        except TimeoutError:
            raise LoadFailed(
                f"version {resolved.label} did not load within its load_timeout of {config.load_timeout_s:g} s"
            ) from None

    async def predict(self, payload: Payload, until_s: float) -> Payload:
        if self._transport is None:
            raise ReplicaDied(self._last_words(), started=False)
        self._last_id += 1
        identity = self._last_id
        answer: asyncio.Future[Payload] = self._loop.create_future()
        if not self._unanswered:
            self._working_since = self._loop.time()
        self._unanswered[identity] = answer
        order = {"op": "predict", "id": identity, "until": until_s, "meta": payload.meta}
        self._transport.write(frames.encode(order, payload.buffers))
        try:
            return await answer
        except asyncio.CancelledError:
            if self._transport is not None and identity != next(iter(self._unanswered), identity):
                self._transport.write(frames.encode({"op": "cancel", "id": identity}))  # it has not begun
            raise

    async def proven(self) -> AsyncIterator[Proven]:
        while (found := await self._proven.get()) is not None:
            yield found

    def given_up(self, limit_s: float) -> None:
        if self._watchdog is None and self._unanswered:
            rest_s = limit_s - (self._loop.time() - self._working_since)
            self._watchdog = self._loop.call_later(max(0.0, rest_s), self._end_if_it_overran, limit_s)

    def _end_if_it_overran(self, limit_s: float) -> None:
        self._watchdog = None
        if self._unanswered and self._loop.time() - self._working_since >= limit_s:
            self._kill("was ended: it overran its predict_timeout")
        else:
            self.given_up(limit_s)  # for what came to the front meanwhile

    def _kill(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._process.kill()

    async def closed(self) -> str:
        status = await asyncio.shield(self._process.ended)
        return self._reason or self._process.why or _phrase(status)

    async def close(self) -> None:
        if self._transport is not None:
            self._transport.write(frames.encode({"op": "stop"}))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.shield(self._process.ended)
        except TimeoutError:
            self._process.kill()
            await asyncio.shield(self._process.ended)
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass

    def data_received(self, data: bytes) -> None:
        try:
            for header, buffers in self._decoder.feed(data):
                self._heard(header, buffers)
        except (frames.BadFrame, KeyError, TypeError) as problem:
            self._kill(f"was ended: it sent what is no frame ({problem})")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._process.kill()  # a replica that closed its connection is of no more use, even if it still runs
        task = self._loop.create_task(self._bury())
        self._burial = task  # the loop keeps only a weak reference

    def _heard(self, header: dict[str, Any], buffers: tuple[memoryview, ...]) -> None:
        operation = header["op"]
        if operation == "answer":
            answer = self._answered(header["id"])
            if not answer.done():
                answer.set_result(Payload(header["meta"], buffers))
        elif operation == "error":
            answer = self._answered(header["id"])
            if not answer.done():
                answer.set_exception(ModelError(header["message"], header["code"], header["status"]))
        elif operation == "dropped":
            self._working_since = self._loop.time()
            answer = self._unanswered.pop(header["id"])
            if not answer.done():
                answer.set_exception(DeadlineExceeded(f"a replica of {self._label} was not free before its deadline"))
        elif operation == "warming":
            self._progress("warming")
        elif operation == "proven":
            self._proven.put_nowait(Proven(header["path"], header["joins"], header["proof"]))
        elif self._loaded.done():
            return
        elif operation == "ready":
            self._loaded.set_result(None)
        elif operation == "failed":
            self._loaded.set_exception(LoadFailed(header["message"]))

    def _answered(self, identity: int) -> asyncio.Future[Payload]:
        now = self._loop.time()
        self._service_s += SMOOTHING * (now - self._working_since - self._service_s)
        self._working_since = now
        return self._unanswered.pop(identity)

    async def _bury(self) -> None:
        """Tell everybody who waits how the process ended; only the first request can have been begun."""
        how = await self.closed()
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed(f"the process that loaded the model {how}"))
            self._loaded.exception()
        self._proven.put_nowait(None)
        started = True
        for answer in self._unanswered.values():
            if not answer.done():
                answer.set_exception(ReplicaDied(self._last_words(how), started=started))
                answer.exception()
            started = False
        self._unanswered.clear()

    def _last_words(self, how: str = "is gone") -> str:
        return f"a replica of {self._label} {how}; try again"


class LocalPlace:
    """Where the replicas of one version run: an environment, held until it is left."""

    def __init__(self, environment: Environment, name: str, resolved: Resolved, config: EndpointConfig) -> None:
        self.environment = name
        self._environment = environment
        self._resolved = resolved
        self._config = config

    async def start(self, progress: Callable[[str], None]) -> LocalReplica:
        endpoint, version = self._config.name, self._resolved.label
        readable, writable = os.pipe()
        try:
            await relay(readable, endpoint, version)
            process = await self._environment.spawn(writable)
        finally:
            os.close(writable)
        replica = LocalReplica(process, f"{endpoint} version {version}")
        try:
            await replica.load(self._resolved, self._config, progress)
        except BaseException as problem:
            process.kill()
            how = await replica.closed()
            if isinstance(problem, OSError):
                raise LoadFailed(f"the process that was to load the model {how}") from None
            raise
        return replica


class LocalRuntime:
    """Starts replicas here. Open it with `async with`; leaving ends every process it started.

    Versions with equal environments share a fork server, which ends when the last of them has left. That of the
    gateway's own interpreter stays.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    async def __aenter__(self) -> Self:
        self._folder, self._lock = open_folder()
        self._venvs = Venvs(self._cache / "environments", os.environ)
        self._environments: dict[Path, Environment] = {}
        self._guests: Counter[Path] = Counter()
        self._numbers = itertools.count()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def build(self, resolved: Resolved, config: EndpointConfig) -> None:
        async with self._interpreter(resolved, config):
            pass

    @contextlib.asynccontextmanager
    async def prepare(self, resolved: Resolved, config: EndpointConfig) -> AsyncIterator[LocalPlace]:
        async with self._interpreter(resolved, config) as (python, name), self._fork_server(python, name) as server:
            yield LocalPlace(server, name, resolved, config)

    async def close(self) -> None:
        await self._venvs.close()
        for environment in self._environments.values():
            await environment.close()
        os.close(self._lock)
        shutil.rmtree(self._folder, ignore_errors=True)  # a lock and a few sockets

    @contextlib.asynccontextmanager
    async def _interpreter(self, resolved: Resolved, config: EndpointConfig) -> AsyncIterator[tuple[Path, str]]:
        """The Python that the version runs under, and what the environment is called."""
        if config.env_manager == "local":
            yield Path(sys.executable), f"local python {platform.python_version()}"
            return
        requirements = await in_thread(partial(read_requirements, resolved.path))
        async with self._venvs.hold(requirements) as venv:
            yield venv.python, str(venv)

    @contextlib.asynccontextmanager
    async def _fork_server(self, python: Path, name: str) -> AsyncIterator[Environment]:
        """The one of this interpreter, ready; whoever is the last to leave ends it."""
        if python not in self._environments:
            folder = self._folder / str(next(self._numbers))
            folder.mkdir()
            self._environments[python] = Environment(folder, python, name)
        environment = self._environments[python]
        self._guests[python] += 1
        try:
            await environment.start()
            yield environment
        finally:
            self._guests[python] -= 1
            if not self._guests[python] and python != Path(sys.executable):
                del self._environments[python]
                await environment.close()


def _joins(resolved: Resolved, config: EndpointConfig) -> str:
    """Whether requests may be joined: the endpoint's word, else the version's tag."""
    tagged = None if resolved.version is None else resolved.version.tags.get(BATCH_TAG)
    return tagged if config.batch == "auto" and tagged in ("on", "off") else config.batch


def _phrase(status: int) -> str:
    if status == OUT_OF_MEMORY_STATUS:
        return "ran out of memory"
    if status >= 0:
        return f"exited with status {status}"
    return f"was killed by {signal.Signals(-status).name}"
