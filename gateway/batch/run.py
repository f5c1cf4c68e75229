"""A batch prediction from its beginning to its end: resolve once, read, predict side by side, write in order."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

from gateway.batch.formats import Reading, check_locations, reading, writing
from gateway.batch.job import Job, resolve, take_up
from gateway.batch.parts import Key, Parts
from gateway.batch.predictor import Answer, Predictor
from gateway.batch.rows import Columns, Rows, counted
from gateway.batch.sinks import FileSink, Sink, StreamSink
from gateway.errors import BadRow, BatchFailed, BatchInterrupted, GatewayError
from gateway.runtimes.base import Resolved
from gateway.runtimes.local import LocalRuntime
from gateway.servable import Servable
from gateway.threads import in_thread

DIGEST_BYTES = 16
Progress = Callable[[int, int, int | None], None]  # rows and size of what is done on top, and the whole size if known


@dataclass(frozen=True, slots=True)
class Summary:
    """What was done."""

    output: str
    rows: int
    bad_rows: int
    parts: int
    parts_reused: int
    model: str
    version: str | None
    digest: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(job: Job, progress: Progress) -> Summary:
    """Predict the whole file, or raise and keep what is finished.

    Raises `BadRow`, `BatchFailed`, `BatchInterrupted` after Ctrl-C or SIGTERM, and what resolving or loading the
    model raises; the message says what is kept.
    """
    check_locations(job.source, job.target, job.overwrites)
    begun_s = time.monotonic()
    with contextlib.ExitStack() as stack:
        parts = None if job.target.path is None else stack.enter_context(Parts(job.target.path))
        resolved = resolve(job, parts.record if parts is not None and parts.finished and not job.restarts else None)
        signature = resolved.signature or {}
        form = writing(job.target, signature)
        if parts is None:
            sink: Sink = StreamSink(sys.stdout.buffer, form)
        else:
            take_up(job, resolved, parts)
            sink = FileSink(parts, form)
        source = stack.enter_context(reading(job.source, job.target, job.limit, signature))
        done = _run(_Batch(job, resolved, source, sink, progress), sink)
    return Summary(
        output=str(job.target),
        rows=done.rows,
        bad_rows=done.bad_rows,
        parts=done.parts,
        parts_reused=done.parts_reused,
        model=str(job.config.model),
        version=resolved.version.version if resolved.version else None,
        digest=resolved.digest,
        seconds=round(time.monotonic() - begun_s, 3),
    )


def _run(batch: _Batch, sink: Sink) -> _Batch:
    try:
        with asyncio.Runner() as runner:
            runner.run(batch.run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise BatchInterrupted(_told("stopped", sink)) from None
    except BrokenPipeError:
        raise
    except OSError as problem:
        what = f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem)
        raise BatchFailed(_told(what, sink)) from problem
    except GatewayError as problem:
        raise BatchFailed(_told(str(problem), sink)) from problem
    return batch


def _told(what: str, sink: Sink) -> str:
    kept = sink.kept()
    return f"{what}; {kept}" if kept else what


class _Chunk(NamedTuple):
    """Rows, what a part that answers them is known by, and the request's body."""

    rows: Rows
    key: Key
    body: bytes


class _Pending(NamedTuple):
    """Rows whose answer is asked for, or None where an earlier run has it."""

    rows: Rows
    key: Key
    answer: asyncio.Task[Answer] | None


class _Batch:
    """The pipeline: a chunk is read, others are predicted, and another is written, all at the same time."""

    def __init__(self, job: Job, resolved: Resolved, source: Reading, sink: Sink, progress: Progress) -> None:
        self._job = job
        self._resolved = resolved
        self._source = source
        self._sink = sink
        self._progress = progress
        self._unreadable: BadRow | None = None
        self.rows = self.bad_rows = self.parts = self.parts_reused = 0

    async def run(self) -> None:
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        async with LocalRuntime(self._job.cache) as runtime:
            servable = await Servable.start(runtime, self._resolved, self._job.config, lambda _: None)
            try:
                await self._predict_all(Predictor(servable, self._job.params, self._job.max_bad_rows))
            except BaseException:
                await servable.abandon()  # closing the runtime ends the replicas, whatever they work on
                raise
            await servable.retire()
        if self._unreadable is not None:
            raise self._unreadable
        await in_thread(self._sink.finish)

    async def _predict_all(self, predictor: Predictor) -> None:
        most_pending = 2 * self._job.config.replicas + 1
        pending: deque[_Pending] = deque()
        try:
            while (chunk := await in_thread(self._next)) is not None:
                pending.append(self._begin(chunk, predictor))
                if len(pending) > most_pending:
                    await self._write(pending.popleft(), predictor)
            while pending:
                await self._write(pending.popleft(), predictor)
        finally:
            await _cancel([each.answer for each in pending if each.answer is not None])

    def _begin(self, chunk: _Chunk, predictor: Predictor) -> _Pending:
        if self._sink.has(chunk.key):
            return _Pending(chunk.rows, chunk.key, None)
        return _Pending(chunk.rows, chunk.key, asyncio.create_task(predictor.answer(chunk.rows, chunk.body)))

    def _next(self) -> _Chunk | None:
        """The next rows; None at the end, or where the file cannot be read any further."""
        try:
            rows = next(self._source.rows, None)
        except BadRow as problem:
            self._unreadable = problem  # told once everything before it is written
            return None
        if rows is None:
            return None
        body = rows.body()
        digest = hashlib.blake2b(body, digest_size=DIGEST_BYTES).hexdigest()
        return _Chunk(rows, Key(rows.first, len(rows), digest), body)

    async def _write(self, chunk: _Pending, predictor: Predictor) -> None:
        if chunk.answer is None:
            bad_rows = await in_thread(partial(self._sink.take, chunk.key))
            predictor.count(bad_rows, chunk.rows.place(), f"{counted(bad_rows, 'bad row')} in the finished part")
            self.parts_reused += 1
        else:
            answer = await chunk.answer
            bad_rows = answer.bad_rows
            await in_thread(partial(self._put, chunk, answer))
        self.parts += 1
        self.rows += len(chunk.rows)
        self.bad_rows += bad_rows
        self._progress(len(chunk.rows), chunk.rows.size, self._source.size)

    def _put(self, chunk: _Pending, answer: Answer) -> None:
        columns = answer.columns
        if self._job.with_input:
            columns = _beside(chunk.rows.columns(), columns)
        self._sink.put(chunk.key, columns, answer.bad_rows)


def _beside(inputs: Columns, predictions: Columns) -> Columns:
    double = next((name for name in predictions if name in inputs), None)
    if double is not None:
        raise BatchFailed(
            f"the input has a column {double!r} as the prediction has; rename it, or leave out --with-input"
        )
    return {**inputs, **predictions}


async def _cancel(tasks: Sequence[asyncio.Task[Answer]]) -> None:
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
