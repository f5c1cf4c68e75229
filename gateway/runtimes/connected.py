"""A replica on this machine: the connection to the process that has the model loaded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol, cast

from gateway.config import EndpointConfig
from gateway.errors import DeadlineExceeded, LoadFailed, ModelError, ReplicaDied
from gateway.runtimes.base import Proven, Resolved
from gateway.runtimes.timings import Timings
from gateway.worker import frames
from gateway.worker.frames import Payload
from gateway.worker.lifetime import ending
from gateway.worker.timecard import Timecard

BATCH_TAG = "turnout.batch"
MAX_ANSWER_BYTES = 1 << 30
OUT_OF_MEMORY_STATUS = 77  # replica.py's own

# A replica has one request that it works on, and as many on the way as keep it from waiting for the next: several
# of a quick model, none of a slow one. Only the first can have begun when it dies; the others go to another replica.
LONGEST_WINDOW = 4
ON_THE_WAY_S = 0.01
SMOOTHING = 0.1
OVERRAN = "was ended: it overran its predict_timeout"


class Process(Protocol):
    """The process behind a replica: forked for this one, or lent by the process that had it forked."""

    @property
    def path(self) -> Path:
        """Of its listening socket."""

    @property
    def timecard(self) -> Timecard | None:
        """What it is at, where others ask it too."""

    @property
    def ended(self) -> asyncio.Future[int]:
        """Its exit status."""

    @property
    def why(self) -> str | None:
        """How it ended, where the status does not say it."""

    def kill(self, why: str | None = None) -> None:
        """End it by force, for that reason."""

    def lost(self) -> None:
        """The connection to it is closed."""

    async def close(self, stop: Callable[[], None]) -> None:
        """It is not needed any more; *stop* orders it to end. Returns when it has `ended`."""

    def memory_bytes(self) -> int:
        """The pages that it shares with nobody."""


class LocalReplica(asyncio.Protocol):
    """One process of this machine that has a model loaded, and this gateway process's connection to it."""

    def __init__(self, process: Process, label: str) -> None:
        self._process = process
        self._label = label
        self._decoder = frames.Decoder(MAX_ANSWER_BYTES)
        self._transport: asyncio.Transport | None = None
        self._unanswered: dict[int, asyncio.Future[Payload]] = {}  # in the order in which they were sent
        self._timings = Timings()
        self._last_id = 0
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._proven: asyncio.Queue[Proven | None] = asyncio.Queue()
        self._progress: Callable[[str], None] = lambda _: None
        self._working_since = 0.0  # on the first of the unanswered
        self._service_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._caller = 0  # the one that had it loaded
        self.freed: Callable[[], None] = lambda: None

    @property
    def address(self) -> str:
        return str(self._process.path)

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

    async def load(
        self,
        resolved: Resolved,
        config: EndpointConfig,
        progress: Callable[[str], None],
        on_idle_cores: bool,
        timecard: str | None = None,
    ) -> None:
        """Load and warm up, or raise `LoadFailed` with the cause. It keeps a *timecard* where it is to be shared.

        It does so *on_idle_cores* alone, or at a low priority.
        """
        self._progress = progress
        progress("loading")
        transport = await self._connect()
        order = {
            "op": "load",
            "path": str(resolved.path),
            "mlmodel": resolved.mlmodel,
            "memory_limit_bytes": config.memory_limit_bytes,
            "joins": _joins(resolved, config),
            "accelerates": config.accelerates,
            "on_idle_cores": on_idle_cores,
            "timecard": timecard,
        }
        transport.write(frames.encode(order))
        try:
            async with asyncio.timeout(config.load_timeout_s):
                await self._loaded
        except TimeoutError:
            raise LoadFailed(
                f"version {resolved.label} did not load within its load_timeout of {config.load_timeout_s:g} s"
            ) from None

    async def attach(self) -> None:
        """Ask what another process has had loaded; raises `OSError` when it is gone.

        Nothing is waited for: it may be at work for others.
        """
        transport = await self._connect()
        self._caller = os.getpid()
        transport.write(frames.encode({"op": "attach", "caller": self._caller}))
        self._loaded.set_result(None)

    async def _connect(self) -> asyncio.Transport:
        await self._loop.create_unix_connection(lambda: self, str(self._process.path))
        assert self._transport is not None
        return self._transport

    async def predict(self, payload: Payload, until_s: float) -> Payload:
        if self._transport is None:
            raise ReplicaDied(self._last_words(), started=False)
        self._last_id += 1
        identity = self._last_id
        order = {"op": "predict", "id": identity, "until": until_s, "meta": payload.meta}
        if payload.timings:
            order["timed"] = True
        try:
            frame = frames.encode(order, payload.buffers)
        except Exception:
            self.freed()  # the room that this one does not take
            raise
        answer: asyncio.Future[Payload] = self._loop.create_future()
        if not self._unanswered:
            self._working_since = self._loop.time()
        self._unanswered[identity] = answer
        if payload.timings:
            self._timings.sent(identity, payload.timings)
        self._transport.write(frame)
        try:
            return await answer
        except asyncio.CancelledError:
            if self._transport is not None and identity != next(iter(self._unanswered), identity):
                self._transport.write(frames.encode({"op": "cancel", "id": identity}))  # it has not begun
                self._timings.not_begun(identity)
            raise
        finally:
            if payload.timings:
                del self._timings.pending[identity]

    async def proven(self) -> AsyncIterator[Proven]:
        while (found := await self._proven.get()) is not None:
            yield found

    def given_up(self, limit_s: float) -> None:
        if self._watchdog is None and self._unanswered:
            rest_s = limit_s - self._worked_s()
            self._watchdog = self._loop.call_later(max(0.0, rest_s), self._end_if_it_overran, limit_s)

    def _end_if_it_overran(self, limit_s: float) -> None:
        self._watchdog = None
        if self._unanswered and self._worked_s() >= limit_s:
            self._process.kill(OVERRAN)
        else:
            self.given_up(limit_s)  # for what came to the front meanwhile

    def _worked_s(self) -> float:
        """For how long it has been at the call that it is at, or at none, although it was sent one."""
        since_s = self._working_since
        if self._process.timecard is not None:
            noted_s, _ = self._process.timecard.read()
            since_s = noted_s if noted_s > 0 else max(since_s, -noted_s)
        return self._loop.time() - since_s

    def _may_have_begun(self) -> bool:
        """Whether it can be that it worked on what it was sent from here when it ended."""
        return self._process.timecard is None or self._process.timecard.read()[1] == self._caller

    def accuse(self, reason: str, limit_s: float) -> None:
        if reason != OVERRAN or self._worked_s() >= limit_s:
            self._process.kill(reason)

    async def closed(self) -> str:
        status = await asyncio.shield(self._process.ended)
        return self._process.why or _phrase(status)

    async def close(self) -> None:
        await self._process.close(self._stop)
        if self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        if self._transport is not None:
            self._transport.write(frames.encode({"op": "stop"}))

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is not a subclass

    def data_received(self, data: bytes) -> None:
        try:
            for header, buffers in self._decoder.feed(data):
                self._heard(header, buffers)
        except (frames.BadFrame, KeyError, TypeError) as problem:
            self._process.kill(f"was ended: it sent what is no frame ({problem})")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._process.lost()
        task = self._loop.create_task(self._bury())
        self._burial = task  # the loop keeps only a weak reference

    def _heard(self, header: dict[str, Any], buffers: tuple[memoryview, ...]) -> None:
        operation = header["op"]
        if self._timings.pending:
            self._timings.heard(header)
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
            answer = self._settle(header["id"])
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
        return self._settle(identity)

    def _settle(self, identity: int) -> asyncio.Future[Payload]:
        answer = self._unanswered.pop(identity)
        self.freed()
        return answer

    async def _bury(self) -> None:
        """Tell everybody who waits how the process ended; only the first request can have been begun."""
        how = await self.closed()
        if not self._loaded.done():
            self._loaded.set_exception(LoadFailed(f"the process that loaded the model {how}"))
            self._loaded.exception()
        self._proven.put_nowait(None)
        started = self._may_have_begun()
        for answer in self._unanswered.values():
            if not answer.done():
                answer.set_exception(ReplicaDied(self._last_words(how), started=started))
                answer.exception()
            started = False
        self._unanswered.clear()

    def _last_words(self, how: str = "is gone") -> str:
        return f"a replica of {self._label} {how}; try again"


def _joins(resolved: Resolved, config: EndpointConfig) -> str:
    """Whether requests may be joined: the endpoint's word, else the version's tag."""
    tagged = None if resolved.version is None else resolved.version.tags.get(BATCH_TAG)
    return tagged if config.batch == "auto" and tagged in ("on", "off") else config.batch


def _phrase(status: int) -> str:
    return "ran out of memory" if status == OUT_OF_MEMORY_STATUS else ending(status)
