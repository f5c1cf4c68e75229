"""One version, warm: its replicas, the line in front of them, and the leases that keep it open."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from gateway.batching import Batcher
from gateway.config import EndpointConfig
from gateway.deadlines import Deadline
from gateway.errors import BadRequest, GatewayError, LoadFailed, NotReady, Overloaded, ReplicaDied
from gateway.leases import Leases
from gateway.line import Line
from gateway.runtimes.base import Place, Replica, Resolved, Runtime
from gateway.worker import parts
from gateway.worker.frames import Payload

log = logging.getLogger("turnout.servable")

QUICK_DEATHS = 2  # so many in a row are replaced at once, then the pauses grow
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
MARGIN = 2.0  # of the estimated wait: what is taken should be answered in time, also when the machine is busy


class Servable:
    """A version that can predict. `lease` it, `predict`, and it stays open until the lease ends.

    States: starting -> ready -> draining -> closed; any -> failed. Written by its own methods only.
    """

    def __init__(self, place: Place, resolved: Resolved, config: EndpointConfig) -> None:
        self.resolved = resolved
        self.config = config
        self.state = "starting"
        self.last_error: str | None = None
        self.last_end = "is gone"  # how a replica ended, the last that did
        self.calls = 0
        self.environment = place.environment
        self._place = place
        self._held = AsyncExitStack()  # the place
        self._replicas: list[Replica] = []
        self._line = Line()
        self._leases = Leases()
        self._keepers: list[asyncio.Task[None]] = []
        self._listeners: set[asyncio.Task[None]] = set()
        self._batcher: Batcher | None = None
        self._pausing = 0
        self._is_lent = False
        self.elsewhere: dict[object, tuple[int, int]] = {}  # leases and waiting, by those who hold it
        self.replicas_changed: Callable[[], None] = lambda: None
        self.path = "plain"
        self.proof: str | None = None  # None: not known yet

    @classmethod
    async def start(
        cls,
        runtime: Runtime,
        resolved: Resolved,
        config: EndpointConfig,
        progress: Callable[[str], None],
        is_awaited: bool = True,
    ) -> Self:
        """Bring up every replica, loaded and warm; raises `LoadFailed`, and then nothing is left running.

        It disturbs nobody while it is not *is_awaited*, since another version serves.
        """
        progress("starting")
        async with AsyncExitStack() as stack:
            place = await stack.enter_async_context(runtime.prepare(resolved, config))
            servable = cls(place, resolved, config)
            await servable._start(progress, is_awaited)
            servable._held = stack.pop_all()
        return servable

    async def _start(self, progress: Callable[[str], None], is_awaited: bool) -> None:
        starts = [asyncio.ensure_future(self._place.start(progress, is_awaited)) for _ in range(self.config.replicas)]
        try:
            replicas = await asyncio.gather(*starts)
        except BaseException as problem:
            for start in starts:
                start.cancel()
            for outcome in await asyncio.gather(*starts, return_exceptions=True):
                if not isinstance(outcome, BaseException):
                    await outcome.close()
            self.state = "failed"
            if isinstance(problem, OSError):
                raise LoadFailed(f"no process could be started for the model: {problem}") from problem
            raise
        self._replicas.extend(replicas)
        for replica in replicas:
            self._listen(replica)
        self._keepers = [asyncio.create_task(self._keep(replica)) for replica in replicas]
        self.state = "ready"

    @classmethod
    def lent(cls, place: Place, resolved: Resolved, config: EndpointConfig) -> Self:
        """One whose replicas another process keeps: they come, and come again, when that process lends them."""
        servable = cls(place, resolved, config)
        servable._is_lent = True
        servable._keepers = [asyncio.create_task(servable._keep(None)) for _ in range(config.replicas)]
        servable.state = "ready"
        return servable

    @property
    def replicas(self) -> int:
        """How many are up at this moment."""
        return len(self._replicas)

    @property
    def replicas_up(self) -> tuple[Replica, ...]:
        """Those themselves."""
        return tuple(self._replicas)

    @property
    def leases(self) -> int:
        """Requests that keep it open, in whichever process."""
        return self._leases.here + sum(leases for leases, _ in self.elsewhere.values())

    @property
    def requests(self) -> int:
        """That it was given, in whichever process."""
        return self._leases.requests

    @property
    def errors(self) -> int:
        """Of them, those that were not answered with a prediction."""
        return self._leases.errors

    @property
    def waiting_everywhere(self) -> int:
        """Requests that no replica has been given yet, in whichever process."""
        return self.waiting + sum(waiting for _, waiting in self.elsewhere.values())

    @property
    def waiting(self) -> int:
        """Requests in this process that no replica has been given yet."""
        return len(self._line) + (0 if self._batcher is None else self._batcher.waiting)

    @property
    def is_free(self) -> bool:
        """Whether a request that comes now need not wait."""
        if self._batcher is not None:
            return self._batcher.is_free
        return not self._line and self._free_replica() is not None

    def take_counts(self) -> tuple[int, int, int]:
        """Requests, errors and calls since this was last called, to be added up elsewhere."""
        counts = self.requests, self.errors, self.calls
        self._leases.requests = self._leases.errors = self.calls = 0
        return counts

    def add_counts(self, requests: int, errors: int, calls: int) -> None:
        """Count what another process has taken."""
        self._leases.requests += requests
        self._leases.errors += errors
        self.calls += calls

    def lease(self) -> Leases:
        """Keep it open for the length of a `with` block, which is one request and counted as such."""
        return self._leases

    def hold(self, holder: object) -> None:
        """Keep it open for another process, which may have requests in it, until `let_go`."""
        self._leases.hold(holder)

    def let_go(self, holder: object) -> None:
        """That process has none in it any more. Safe to call twice."""
        self.elsewhere.pop(holder, None)
        self._leases.let_go(holder)

    async def predict(self, payload: Payload, own: Deadline | None = None) -> Payload:
        """The model's answer.

        Raises `ModelError` as the model refused, `BadRequest` for what no replica can be sent, `Overloaded` when the
        line is full or longer than the caller has time, `NotReady` while no replica is up for longer than a restart,
        `ReplicaDied` when the one that worked on it died, `DeadlineExceeded` at the caller's *own* deadline or after
        `predict_timeout`, whichever comes first. A replica that works on one request for a whole `predict_timeout` is
        replaced.
        """
        deadline = self._deadline(own)
        try:
            key = None if self._batcher is None else parts.key(payload.meta)
            if self._batcher is None or key is None:
                async with asyncio.timeout_at(deadline.at_s):
                    return await self._call(payload, deadline.at_s)
            if not self._batcher.is_free:
                self._refuse_what_cannot_be_done(deadline.at_s)
            return await self._batcher.predict(key, payload, deadline.at_s)
        except TimeoutError:
            raise deadline.exceeded(self._did_not_answer()) from None
        except RecursionError:  # read a few frames further up the stack, where there was just room for it
            raise BadRequest("the request's params are nested too deeply") from None

    def _deadline(self, own: Deadline | None) -> Deadline:
        now_s, limit_s = asyncio.get_running_loop().time(), self.config.predict_timeout_s
        if own is None:
            return Deadline(now_s + limit_s, limit_s)
        if own.at_s <= now_s:
            raise own.exceeded(self._did_not_answer())
        return own.sooner(now_s, limit_s)

    def _did_not_answer(self) -> str:
        return f"version {self.resolved.label} of endpoint {self.config.name!r} did not answer"

    async def _call(self, payload: Payload, until_s: float) -> Payload:
        """One call of one replica, and of another one if the first dies before it has begun."""
        was_sent = False
        while True:
            replica = await self._next_replica(until_s, was_sent)
            was_sent = True
            self.calls += 1
            try:
                return await replica.predict(payload, until_s)
            except ReplicaDied as death:
                if death.started:
                    raise
            except asyncio.CancelledError:
                replica.given_up(self.config.predict_timeout_s)
                raise

    async def retire(self) -> None:
        """Wait for the last lease and the last holder, then close the replicas.

        The caller has taken it out of every split. Safe to call twice. Never raises.
        """
        if self.state == "closed":
            return
        self.state = "draining"
        await self._leases.none_left()
        await self._stop_keeping()
        await asyncio.gather(*(replica.close() for replica in self._replicas), return_exceptions=True)
        self._replicas.clear()
        await self._held.aclose()
        self.state = "closed"

    async def abandon(self) -> None:
        """Wait for nobody: whoever closes the runtime ends the replicas, whatever they work on."""
        await self._stop_keeping()
        self._replicas.clear()
        await self._held.aclose()
        self.state = "closed"

    async def _stop_keeping(self) -> None:
        watchers = [*self._keepers, *self._listeners]
        for each in watchers:
            each.cancel()
        await asyncio.gather(*watchers, return_exceptions=True)

    # Waiting for room

    async def _next_replica(self, until_s: float, was_sent: bool) -> Replica:
        if not was_sent:  # whoever comes new goes behind those who wait
            free = self._free_replica()
            if free is not None and not self._line:
                return free
            self._refuse_what_cannot_be_done(until_s)
            await self._line.wait()
        while (free := self._free_replica()) is None:
            if self.trouble is not None:
                raise NotReady(self._nothing_is_up())
            await self._line.wait(in_front=True)  # somebody was quicker, or the replica died: the place is kept
        return free

    def _free_replica(self) -> Replica | None:
        free = max(self._replicas, key=_room, default=None)
        return free if free is not None and free.room > 0 else None

    def _go_on(self) -> None:
        """It is the turn of as many as there is room for: an answer may show that a replica takes more than before."""
        if self._line:
            room = sum(each.room for each in self._replicas if each.room > 0)
            for _ in range(room - self._line.called):
                self._line.advance()

    def _refuse_what_cannot_be_done(self, until_s: float) -> None:
        problem = self.refusal(until_s - asyncio.get_running_loop().time())
        if problem is not None:
            raise problem

    def refusal(self, left_s: float) -> GatewayError | None:
        """What a request that has to wait is told at once, if a place in the line could only say it later.

        *left_s* is the time that it has. None: it may wait.
        """
        if self.trouble is not None:
            return NotReady(self._nothing_is_up())
        waiting, of_queue = self.waiting, self.config.max_queue
        calls = len(self._line) + (0 if self._batcher is None else self._batcher.calls)
        call_s = max((each.service_s for each in self._replicas), default=0.0) / max(1, len(self._replicas))
        if waiting < of_queue and calls * call_s * MARGIN <= left_s:
            return None
        wait_s = (calls + 1) * call_s  # and the one that is under way
        known = f"endpoint {self.config.name!r} has {waiting} requests waiting, of max_queue {of_queue}"
        patience = "" if waiting >= of_queue else f", and this one has {_about(left_s)}"
        return Overloaded(f"{known}; it would take about {_about(wait_s)}{patience}; try again", wait_s)

    def _nothing_is_up(self) -> str:
        return f"no replica of endpoint {self.config.name!r} is up: {self.last_error}"

    # Keeping: each replica has a task that waits for its end and brings up another.

    async def _keep(self, replica: Replica | None) -> None:
        deaths, loop = 0, asyncio.get_running_loop()
        while True:
            if replica is None:
                replica, deaths = await self._replace(deaths)
                self._replicas.append(replica)
                self._listen(replica)
                self.replicas_changed()
                self._go_on()
                if self._batcher is not None:
                    self._batcher.look_again()
            born = loop.time()
            how = await replica.closed()
            self._replicas.remove(replica)
            replica = None
            deaths = 1 if loop.time() - born > LONGEST_PAUSE_S else deaths + 1
            self.last_end = how
            self.last_error = f"a replica of version {self.resolved.label} {how}"
            self._tell_of_trouble()  # which the lender may have told before
            if not self._is_lent:
                log.warning("%s; bringing up another", self.last_error, extra=self._labels())
            self.replicas_changed()

    async def _replace(self, deaths: int) -> tuple[Replica, int]:
        while True:
            if deaths > QUICK_DEATHS and not self._is_lent:
                await self._pause(min(FIRST_PAUSE_S * 2 ** (deaths - QUICK_DEATHS - 1), LONGEST_PAUSE_S))
            try:
                return await self._place.start(lambda _: None), deaths
            except Exception as problem:  # whatever it is, the next try may succeed
                deaths += 1
                self.last_error = str(problem) or type(problem).__name__
                log.warning("a replica could not be replaced: %s", problem, extra=self._labels())

    async def _pause(self, seconds: float) -> None:
        self._pausing += 1
        self.replicas_changed()
        try:
            self._tell_of_trouble()
            await asyncio.sleep(seconds)
        finally:
            self._pausing -= 1
            self.replicas_changed()

    @property
    def trouble(self) -> str | None:
        """Why no replica is up, and none will be for a while."""
        all_pause = self._pausing == len(self._keepers)
        return self.last_error if all_pause and not self._replicas else None

    @trouble.setter
    def trouble(self, why: str | None) -> None:
        """As the process says that lends the replicas."""
        self._pausing = 0 if why is None else len(self._keepers)
        if why is not None:
            self.last_error = why
            self._tell_of_trouble()

    def _tell_of_trouble(self) -> None:
        """Who waits hears at once that it takes longer; while another replica is up, they keep their order."""
        if self.trouble is not None:
            self._line.advance_all()

    # Proving: what one replica finds holds for the version, for all have the same files.

    def _listen(self, replica: Replica) -> None:
        replica.freed = self._go_on
        task = asyncio.create_task(self._learn(replica))
        self._listeners.add(task)
        task.add_done_callback(self._listeners.discard)

    async def _learn(self, replica: Replica) -> None:
        async for found in replica.proven():
            self.path, self.proof = found.path, found.proof
            if not found.joins:
                self._batcher = None
            elif self._batcher is None:
                config = self.config
                self._batcher = Batcher(self._call, self._slots, config.batch_max_rows, config.batch_max_wait_s)
            if not self._is_lent:
                log.info("answers", extra={**self._labels(), "path": found.path, "proof": found.proof})

    def _slots(self) -> int:
        return max(1, len(self._replicas))

    def _labels(self) -> dict[str, str]:
        return {"endpoint": self.config.name, "version": self.resolved.label}


def _about(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _room(replica: Replica) -> int:
    return replica.room
