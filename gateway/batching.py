"""Requests that gather while a version computes, and go as one call when it is free. Nobody waits for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable

from gateway.errors import ModelError
from gateway.worker import parts
from gateway.worker.frames import Payload

Call = Callable[[Payload, float], Awaitable[Payload]]


class _Waiting:
    """One request until it is answered."""

    __slots__ = ("answer", "batch", "payload", "rows", "until_s")

    def __init__(self, payload: Payload, until_s: float) -> None:
        self.payload = payload
        self.until_s = until_s
        self.rows = parts.rows(payload.meta)
        self.answer: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        self.batch: _Batch | None = None


class _Batch:
    """Requests that are on their way as one call."""

    __slots__ = ("is_begun", "members", "task")

    def __init__(self, members: list[_Waiting]) -> None:
        self.members = members
        self.task: asyncio.Task[None] | None = None
        self.is_begun = False

    @property
    def is_left(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(each.answer.done() for each in self.members)

    def give_up(self) -> None:
        # A task that is cancelled before its first step never takes one: its place among the calls would stay taken.
        if self.is_begun and self.task is not None:
            self.task.cancel()


class Batcher:
    """Joins requests for one version. Everything happens on one event loop.

    *call* answers one payload, of use until a moment; *slots* says how many calls may be under way at once. At most
    *max_rows* rows go as one call, unless one request alone has more. With *max_wait_s* a request waits so long for
    others to join it.
    """

    def __init__(self, call: Call, slots: Callable[[], int], max_rows: int, max_wait_s: float = 0.0) -> None:
        self._call = call
        self._slots = slots
        self._max_rows = max_rows
        self._max_wait_s = max_wait_s
        self._groups: dict[Hashable, deque[_Waiting]] = {}  # the one that was begun first stands first
        self._running = 0
        self._patience: asyncio.TimerHandle | None = None
        self.waiting = 0

    @property
    def is_free(self) -> bool:
        """Whether a request that comes now goes at once."""
        return not self._groups and self._running < self._slots()

    @property
    def calls(self) -> int:
        """In how many calls those who wait would go, or in more where they have very many rows."""
        return len(self._groups)

    async def predict(self, key: Hashable, payload: Payload, until_s: float) -> Payload:
        """The answer to *payload*, alone or in a call with others of the same key.

        Raises what *call* raises, and `TimeoutError` at *until_s*; others that it was joined with go on.
        """
        if self.is_free and not self._max_wait_s:
            async with asyncio.timeout_at(until_s):
                return await self._at_once(payload, until_s)
        mine = _Waiting(payload, until_s)
        self._groups.setdefault(key, deque()).append(mine)
        self.waiting += 1
        if self._max_wait_s:
            self._be_patient(until_s)
        else:
            self._start()
        # This runs for every request, and nothing has to be cancelled then: an alarm on the future is enough.
        alarm = asyncio.get_running_loop().call_at(until_s, _run_out, mine.answer)
        try:
            return await mine.answer
        except (asyncio.CancelledError, TimeoutError):
            self._leave(key, mine)
            raise
        finally:
            alarm.cancel()

    def look_again(self) -> None:
        """There are more slots than before."""
        self._start()

    async def _at_once(self, payload: Payload, until_s: float) -> Payload:
        """Nobody waits, and there is room: no task, no other turn of the loop."""
        self._running += 1
        try:
            return await self._call(payload, until_s)
        finally:
            self._running -= 1
            self._start()

    def _be_patient(self, until_s: float) -> None:
        """Start when the rows are enough, when the first has waited long enough, or has half of its time left."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        start_s = now_s + min(self._max_wait_s, (until_s - now_s) / 2)
        have_waited = self._patience is None and self.waiting > 1  # long enough, and there was no slot
        if have_waited or self._is_full():
            self._start()
        elif self._patience is None or start_s < self._patience.when():
            if self._patience is not None:
                self._patience.cancel()
            self._patience = loop.call_at(start_s, self._patience_ends)

    def _patience_ends(self) -> None:
        self._patience = None
        self._start()

    def _is_full(self) -> bool:
        return any(sum(each.rows for each in group) >= self._max_rows for group in self._groups.values())

    def _start(self) -> None:
        while self._groups and self._running < self._slots() and (self._patience is None or self._is_full()):
            batch = _Batch(self._take())
            for each in batch.members:
                each.batch = batch
            self._running += 1
            batch.task = asyncio.create_task(self._run(batch))

    def _take(self) -> list[_Waiting]:
        key, group = next(iter(self._groups.items()))
        taken = [group.popleft()]
        rows = taken[0].rows
        while group and rows + group[0].rows <= self._max_rows:
            rows += group[0].rows
            taken.append(group.popleft())
        del self._groups[key]
        if group:
            self._groups[key] = group  # behind the others, whose turn it is now
        self.waiting -= len(taken)
        return taken

    async def _run(self, batch: _Batch) -> None:
        batch.is_begun = True
        try:
            if not batch.is_left:
                await self._answer(batch.members)
        except asyncio.CancelledError:
            raise  # nobody waits any more
        except Exception as problem:  # it is everybody's
            for each in batch.members:
                if not each.answer.done():
                    each.answer.set_exception(problem)
        finally:
            batch.members.clear()  # they name it: such a ring would stay until the garbage collector finds it
            self._running -= 1
            self._start()

    async def _answer(self, members: list[_Waiting]) -> None:
        if len(members) == 1:
            answers = [await self._call(members[0].payload, members[0].until_s)]
        else:
            meta, buffers = parts.join([each.payload for each in members])
            until_s = max(each.until_s for each in members)
            timings = tuple(timing for each in members for timing in each.payload.timings)
            for timing in timings:
                timing.requests, timing.rows = len(members), parts.rows(meta)
            whole = await self._call(Payload(meta, tuple(buffers), timings), until_s)
            cuts = parts.cut(whole.meta, whole.buffers, [each.rows for each in members])
            answers = [Payload(own, tuple(its_buffers)) for own, its_buffers in cuts]
        for each, answer in zip(members, answers, strict=True):
            if each.answer.done():
                continue
            if answer.meta["kind"] == "error":
                each.answer.set_exception(
                    ModelError(answer.meta["message"], answer.meta["code"], answer.meta["status"])
                )
            else:
                each.answer.set_result(answer)

    def _leave(self, key: Hashable, mine: _Waiting) -> None:
        """A caller gives up. A call that nobody waits for any more is given up too."""
        if mine.batch is None:
            group = self._groups[key]
            group.remove(mine)
            self.waiting -= 1
            if not group:
                del self._groups[key]
        elif mine.batch.is_left:
            mine.batch.give_up()


def _run_out(answer: asyncio.Future[Payload]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())
