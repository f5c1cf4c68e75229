"""Blocking work beside the event loop, in threads that never hold up the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T]) -> T:
    """What *work* returns or raises. Cancelling leaves the thread to itself.

    `asyncio.to_thread` would do, but its threads are joined at the end: a copy of gigabytes would outlive SIGTERM.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as problem:
            _tell(loop, outcome, None, problem)
        else:
            _tell(loop, outcome, result, None)

    threading.Thread(target=run, name=getattr(work, "__name__", "work"), daemon=True).start()
    return await outcome


def _tell(
    loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T], result: T | None, problem: BaseException | None
) -> None:
    def settle() -> None:
        if outcome.done():
            return
        if problem is not None:
            outcome.set_exception(problem)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]  # None only where T holds None

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)
