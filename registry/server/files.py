"""Files through the server, both ways: a megabyte at a time, however large they are and however slow the other side."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from starlette.responses import Response

from registry.artifacts import CHUNK_BYTES, StoredFile, Upload
from registry.server.bodies import BodyStalled, ClientGone, Receive
from registry.server.crew import Crew

T = TypeVar("T")

SILENCE_S = 60.0
SLOWEST_CHUNK_S = 300.0
PATIENCE_S = 30.0

# What a browser must never do with a file that somebody uploaded: show it as a page of ours.
_SAFE = {
    "content-type": "application/octet-stream",
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox",
    "accept-ranges": "bytes",
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class FileThreads:
    """Threads for files, beside those of other requests: a slow store holds up nothing else."""

    def __init__(self) -> None:
        self._crew = Crew()

    def close(self) -> None:
        """End the threads, each after what it is at."""
        self._crew.close()

    async def run(self, job: Callable[[], T]) -> T:
        """What *job* returns. Comes back only when the thread is done, also when the request was cancelled.

        So two threads never work on one file, and no file is closed while one does. A thread that hangs is given
        up after half a minute, since only the server's end cancels requests.
        """
        task = asyncio.ensure_future(self._crew.run(job))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            patience = asyncio.ensure_future(asyncio.wait([task], timeout=PATIENCE_S))
            while not patience.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(patience)
            if task.done() and not task.cancelled():
                task.exception()  # looked at, so that nobody reports it as forgotten
            raise


async def receive_file(
    threads: FileThreads, create: Callable[[], AbstractContextManager[Upload]], receive: Receive
) -> None:
    """Write a request's body to what *create* opens; unless all of it comes, nothing is stored.

    Raises `ClientGone` when it was cut off, `BodyStalled` when nothing came for a minute.
    """
    piece, is_last = await _next_piece(receive)
    if is_last:
        await threads.run(partial(_write_whole, create, piece))
        return
    stack = ExitStack()
    try:
        upload = await threads.run(lambda: stack.enter_context(create()))
        while piece:
            await threads.run(partial(upload.write, piece))
            piece, is_last = (b"", True) if is_last else await _next_piece(receive)
    except BaseException as problem:
        await threads.run(partial(stack.__exit__, type(problem), problem, problem.__traceback__))
        raise
    await threads.run(stack.close)


def _write_whole(create: Callable[[], AbstractContextManager[Upload]], data: bytes) -> None:
    with create() as upload:
        upload.write(data)


async def _next_piece(receive: Receive) -> tuple[bytes, bool]:
    """About a megabyte of the body, and whether it is the last."""
    parts: list[bytes] = []
    size = 0
    while size < CHUNK_BYTES:
        try:
            async with asyncio.timeout(SILENCE_S):
                message = await receive()
        except TimeoutError:
            raise BodyStalled(f"the upload stopped for {SILENCE_S:.0f} s: nothing of it was stored") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False):
            return b"".join(parts), True
    return b"".join(parts), False


async def send_file(
    threads: FileThreads,
    opened: Callable[[], AbstractContextManager[StoredFile]],
    path: str,
    method: str,
    headers: Mapping[str, str],
) -> Response:
    """The answer with the file that *opened* opens, or the one part of it that a `Range` header asks for."""
    return await threads.run(partial(_begin, threads, opened, path, method, headers))


@dataclass(frozen=True, slots=True)
class Part:
    """Which bytes are answered, and with which status."""

    status: int
    start: int
    stop: int


def choose_part(size: int, etag: str, headers: Mapping[str, str]) -> Part:
    """The part that the headers ask for. Several ranges at once, or one of other bytes, are answered by the whole."""
    whole = Part(200, 0, size)
    found = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if found is None or headers.get("if-range", f'"{etag}"') != f'"{etag}"':
        return whole
    first, last = found.groups()
    if not first and not last:
        return whole
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    return Part(206, start, stop) if start < stop else Part(416, 0, 0)


def _begin(
    threads: FileThreads,
    opened: Callable[[], AbstractContextManager[StoredFile]],
    path: str,
    method: str,
    headers: Mapping[str, str],
) -> Response:
    with ExitStack() as stack:
        file = stack.enter_context(opened())
        part = choose_part(file.size, file.etag, headers)
        told = _headers(path, file, part)
        if method == "HEAD" or part.status == 416:
            return Response(None, part.status, told)
        chunks = file.read(part.start, part.stop)
        if part.stop - part.start <= CHUNK_BYTES:
            return Response(b"".join(chunks), part.status, told)
        return FileResponse(threads, chunks, stack.pop_all(), part.status, told)


def _headers(path: str, file: StoredFile, part: Part) -> dict[str, str]:
    name = quote(path.rpartition("/")[2], safe="")
    told = {
        **_SAFE,
        "content-disposition": f"attachment; filename*=UTF-8''{name}",
        "content-length": str(part.stop - part.start),
        "etag": f'"{file.etag}"',
    }
    if part.status == 206:
        told["content-range"] = f"bytes {part.start}-{part.stop - 1}/{file.size}"
    elif part.status == 416:
        told["content-range"] = f"bytes */{file.size}"
    return told


class FileResponse(Response):
    """A large file on its way; the next chunk is read while one is sent. Closes the file when it ends."""

    def __init__(
        self, threads: FileThreads, chunks: Iterator[bytes], file: ExitStack, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(None, status, headers)
        self._threads = threads
        self._chunks = chunks
        self._file = file

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002  # ASGI's form
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async with _departure(receive) as gone:
                await self._send(send, gone)
        finally:
            await self._threads.run(self._file.close)

    async def _send(self, send: Any, gone: asyncio.Task[None]) -> None:
        chunk = await self._next()
        while chunk and not gone.done():
            following = asyncio.ensure_future(self._next())
            try:
                async with asyncio.timeout(SLOWEST_CHUNK_S):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                return  # unfinished, which ends the connection
            finally:
                await asyncio.wait([following])
            chunk = following.result()
        if not chunk:
            await send({"type": "http.response.body", "body": b""})

    async def _next(self) -> bytes:
        return await self._threads.run(partial(next, self._chunks, b""))


@asynccontextmanager
async def _departure(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """A task that is done when nobody reads any more: writing to such a connection raises nothing."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task = asyncio.ensure_future(watch())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
