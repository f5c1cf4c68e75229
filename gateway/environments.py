"""An interpreter that can import a model's requirements, and its fork server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.errors import LoadFailed
from gateway.forkserver import ForkServer
from gateway.worker.timecard import Timecard

log = logging.getLogger("turnout.environment")

PRIVATE = re.compile(rb"^Private_(?:Clean|Dirty): +([0-9]+) kB$", re.MULTILINE)
START_TIMEOUT_S = 120.0
FAREWELL_S = 0.05  # so long the event loop may stand still, when a fork server has crashed
CLOSE_TIMEOUT_S = 5.0
TIMECARD = ".timecard"  # beside the socket
SPAWNS_AT_ONCE = 32
BACKLOG = 128  # every ingress process connects, also while the replica is at work
MAX_MESSAGE_BYTES = 64 << 10


class ForkedProcess:
    """One child of a fork server: its listening socket's path, and how it ended."""

    def __init__(self, path: Path, lifetime: int, kill: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.path = path
        self._kill = kill
        self.pid: int | None = None
        self.timecard: Timecard | None = None
        self.started: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.why: str | None = None
        self._lifetime = lifetime

    def memory_bytes(self) -> int:
        """The pages that it shares with nobody; 0 when it has none any more. Blocks, as reading a file does."""
        try:
            rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_bytes() if not self.ended.done() else b""
        except OSError:
            return 0
        return sum(int(kibibytes) << 10 for kibibytes in PRIVATE.findall(rollup))

    def share(self) -> str:
        """Have it keep a timecard, which those read with whom it is shared; the file's path."""
        path = f"{self.path}{TIMECARD}"
        self.timecard = Timecard(path, is_new=True)
        return path

    def kill(self, why: str | None = None) -> None:
        """End it by force, for that reason."""
        self.why = self.why or why
        self._kill()

    def lost(self) -> None:
        """Its connection is closed: it is of no more use, even if it still runs."""
        self.kill()

    async def close(self, stop: Callable[[], None]) -> None:
        """Have it end by the order *stop*, and by force if it will not."""
        stop()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.shield(self.ended)
        except TimeoutError:
            self.kill()
            await asyncio.shield(self.ended)

    def end(self, status: int, why: str | None = None) -> None:
        """Said once, by the environment that hears of it."""
        if self.ended.done():
            return
        os.close(self._lifetime)
        self.path.unlink(missing_ok=True)
        if self.timecard is not None:
            Path(f"{self.path}{TIMECARD}").unlink(missing_ok=True)
        self.why = self.why or why
        self.ended.set_result(status)
        if not self.started.done():
            self.started.set_result(None)


class Environment:
    """One interpreter as a place for replicas; starts its fork server on first use, and again when that was lost.

    A *fork_server* that was launched already is the first to be used, and is ended with the rest. Only its own methods
    write its state, all on the event loop.
    """

    def __init__(self, folder: Path, python: Path, name: str, fork_server: ForkServer | None = None) -> None:
        self.name = name
        self._labels = {"environment": name}
        self._folder = folder  # its own: sockets are named by a number
        self._python = python
        self._fork_server = fork_server
        self._children: dict[int, ForkedProcess] = {}
        self._last_id = 0
        self._ready: asyncio.Future[None] | None = None
        self._starting = asyncio.Lock()
        self._spawning = asyncio.Semaphore(SPAWNS_AT_ONCE)
        self._outbox: deque[tuple[dict[str, Any], list[int]]] = deque()

    async def start(self) -> None:
        """Have the fork server ready; raises `LoadFailed` when it cannot start."""
        async with self._starting:
            ready = self._ready or self._follow()
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await asyncio.shield(ready)
            except TimeoutError:
                self._lost()
                raise LoadFailed(
                    f"the fork server of {self.name} was not ready within {START_TIMEOUT_S:.0f} s"
                ) from None

    async def spawn(self, output: int, imports: Sequence[str] = ()) -> ForkedProcess:
        """Fork a process that listens on a socket of its own and writes what it prints to *output*.

        The libraries that it *imports* are from then on imported for every other, too.
        """
        async with self._spawning:
            await self.start()
            self._last_id += 1
            identity = self._last_id
            path = self._folder / f"r{identity}"
            with socket.socket(socket.AF_UNIX) as listener, _pipe() as (watched, lifetime):
                listener.bind(str(path))
                listener.listen(BACKLOG)
                child = ForkedProcess(path, os.dup(lifetime), lambda: self._send({"op": "kill", "id": identity}))
                self._children[identity] = child
                order = {"op": "spawn", "id": identity, "imports": imports}
                self._send(order, [listener.fileno(), output, watched])
                # The descriptors stay open until the fork server has them.
                try:
                    await asyncio.shield(child.started)
                except BaseException:
                    if not self._take_back(order):
                        child.kill()
                    raise
        return child

    def close(self) -> None:
        """End the fork server and with it every process that it forked."""
        self._lost()

    def _follow(self) -> asyncio.Future[None]:
        self._fork_server = self._fork_server or ForkServer.launch(self._python, self.name)
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fork_server.control, self._heard)
        self._ready = loop.create_future()
        return self._ready

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        if self._fork_server is not None:
            self._outbox.append((message, descriptors or []))
            self._flush()

    def _take_back(self, order: dict[str, Any]) -> bool:
        """Whether it had not been sent, and never will be: its descriptors are about to be closed."""
        kept = deque(each for each in self._outbox if each[0] is not order)
        if len(kept) == len(self._outbox):
            return False
        self._outbox = kept
        self._children.pop(order["id"]).end(-signal.SIGKILL)
        return True

    def _flush(self) -> None:
        assert self._fork_server is not None
        loop, control = asyncio.get_running_loop(), self._fork_server.control
        while self._outbox:
            message, descriptors = self._outbox[0]
            try:
                socket.send_fds(control, [json.dumps(message).encode()], descriptors)
            except BlockingIOError:
                loop.add_writer(control, self._flush)
                return
            except OSError:
                self._lost()
                return
            self._outbox.popleft()
        loop.remove_writer(control)

    def _heard(self) -> None:
        assert self._fork_server is not None
        try:
            data = self._fork_server.control.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        try:
            self._obey(json.loads(data))
        except Exception as problem:  # its libraries are a model's choice, so what it says may be anything
            log.warning("the fork server is ended: it sent what is no message (%r)", problem, extra=self._labels)
            self._lost()

    def _obey(self, message: dict[str, Any]) -> None:
        if message["op"] == "ready":
            self._report(message)
        elif message["op"] == "spawned":
            child = self._children[message["id"]]
            child.pid = message["pid"]
            child.started.set_result(None)
        elif message["op"] == "exited":
            self._children.pop(message["id"]).end(message["status"], message.get("why"))

    def _report(self, message: dict[str, Any]) -> None:
        for library, why in message["missing"].items():
            if why.startswith("ModuleNotFoundError"):
                continue  # what a model needs is its requirements' to say
            log.warning("models cannot import %s: %s", library, why, extra=self._labels)
        log.info("fork server ready", extra={**self._labels, "seconds": round(message["seconds"], 3)})
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def _lost(self) -> None:
        """The fork server is gone, or is to go: so are its children, by their parent-death signal."""
        fork_server, self._fork_server = self._fork_server, None
        ready, self._ready = self._ready, None
        self._outbox.clear()
        if fork_server is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(fork_server.control)
            loop.remove_writer(fork_server.control)
            is_early = ready is not None and not ready.done()
            status = fork_server.end(FAREWELL_S if is_early else 0.0)
            if ready is not None and is_early:
                how = (
                    f"the fork server of {self.name} ended with status {status} before it was ready; see the log above"
                )
                ready.set_exception(LoadFailed(how))
        children, self._children = self._children, {}
        for child in children.values():
            child.end(-signal.SIGKILL)


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)
