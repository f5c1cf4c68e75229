"""The threads that handlers run on: cheaper per request than `run_in_executor`, and only as many as are needed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeVar

from registry.errors import Unavailable

T = TypeVar("T")

FEW = 1
MANY = 40
MAX_WAITING = 1_000
LOOK_S = 0.02

Job = tuple[asyncio.AbstractEventLoop, "asyncio.Future[object]", Callable[[], object]]


class Crew:
    """Runs jobs on threads, for callers on one event loop.

    A few threads are quickest, since they share the interpreter. More join, up to a limit, only while jobs wait and
    none is finished: then the threads there are hang on something slow. They leave when no job waits any more.
    """

    def __init__(self, few: int = FEW, many: int = MANY, max_waiting: int = MAX_WAITING) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._few = few
        self._many = many
        self._max_waiting = max_waiting
        self._threads: set[threading.Thread] = set()
        self._leaving = threading.Lock()
        self._taken = 0
        self._done = 0
        self._looked_at_done = 0
        self._is_looking = False
        self._is_closed = False

    @property
    def load(self) -> int:
        """How many jobs wait or run."""
        return self._taken - self._done

    async def run(self, job: Callable[[], T]) -> T:
        """What *job* returns. Raises `Unavailable` when too many wait already.

        A job that was begun is finished, whatever becomes of the caller.
        """
        if self._jobs.qsize() >= self._max_waiting or self._is_closed:
            raise Unavailable("the server has too much to do; try again")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._taken += 1
        self._jobs.put((loop, future, job))  # type: ignore[arg-type]  # a future's type cannot be widened
        if len(self._threads) < self._few:
            self._add_thread()
        elif not self._is_looking:
            self._is_looking = True
            loop.call_later(LOOK_S, self._look, loop)
        return await future

    def close(self) -> None:
        """End the threads, each after the job that it is at; jobs that wait are dropped."""
        with self._leaving:
            self._is_closed = True
        while True:
            try:
                self._jobs.get_nowait()
            except Empty:
                break
        with self._leaving:
            for _ in self._threads:
                self._jobs.put(None)

    def _add_thread(self) -> None:
        # Daemons: a thread that hangs in a database must not keep a process that was told to stop.
        thread = threading.Thread(target=self._work, name="request", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_looking = False
        if not self._jobs.qsize() or self._is_closed:
            return
        if self._done == self._looked_at_done and len(self._threads) < self._many:
            self._add_thread()
        self._looked_at_done = self._done
        self._is_looking = True
        loop.call_later(LOOK_S, self._look, loop)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            loop, future, function = job
            try:
                outcome: object = function()
            except BaseException as problem:
                self._tell(loop, self._fail, future, problem)
            else:
                self._tell(loop, self._finish, future, outcome)
            del job, future, function
            if len(self._threads) > self._few and self._may_leave():
                return

    def _may_leave(self) -> bool:
        with self._leaving:
            if self._is_closed or self._jobs.qsize() or len(self._threads) <= self._few:
                return False
            self._threads.discard(threading.current_thread())
            return True

    @staticmethod
    def _tell(loop: asyncio.AbstractEventLoop, how: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(how, *arguments)

    # On the loop, which alone counts

    def _finish(self, future: asyncio.Future[object], outcome: object) -> None:
        self._done += 1
        if not future.done():
            future.set_result(outcome)

    def _fail(self, future: asyncio.Future[object], problem: BaseException) -> None:
        self._done += 1
        if not future.done():
            future.set_exception(problem)
