"""One member as its leader sees it: a process, the line to it, and how far it has followed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from gateway.endpoints import Endpoint
from gateway.ingress.line import Line, Message
from gateway.servable import Servable
from gateway.worker.lifetime import ending

Heard = Callable[["MemberProcess", Message, bytes], None]


class MemberProcess:
    """Made by `start`. *epoch* is the last that it confirmed; *held* are the versions that it may have requests in."""

    def __init__(self, process: subprocess.Popen[bytes], listener: socket.socket) -> None:
        self.listener = listener
        self.how = "runs"
        self.epoch = 0
        self.connections = 0
        self.is_serving = False  # it takes connections, and what it confirms is waited for
        self.held: dict[int, Servable] = {}
        self.awaited: set[Endpoint] = set()  # where requests wait for a model to be loaded
        self.silence = 0  # how often it was looked at since it said something
        self.ended = asyncio.Event()
        self._process = process
        self._confirmations: list[tuple[int, asyncio.Future[None]]] = []
        self._line: Line | None = None
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._bury)

    @classmethod
    async def start(cls, listener: socket.socket, log_format: str, heard: Heard) -> MemberProcess:
        """Have a process run that will take the listener's connections, once it is told to."""
        ours, theirs = socket.socketpair()
        with theirs:
            options = {
                "line": theirs.fileno(),
                "listener": listener.fileno(),
                "parent": os.getpid(),
                "log_format": log_format,
            }
            member = cls(
                subprocess.Popen(
                    [sys.executable, "-m", "gateway.ingress", json.dumps(options)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno(), listener.fileno()],
                    process_group=0,  # Ctrl-C is for the leader, which tells its members when to end
                ),
                listener,
            )
        member._line = await Line.open(ours, lambda message, body: heard(member, message, body))
        return member

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message, body: bytes = b"") -> None:
        if self._line is not None:
            self._line.send(message, body)

    def confirmed(self, epoch: int) -> None:
        """It goes by every change up to there."""
        self.epoch = epoch
        for waited, future in self._confirmations:
            if waited <= epoch and not future.done():
                future.set_result(None)
        self._confirmations = [each for each in self._confirmations if not each[1].done()]

    def confirmation(self, epoch: int) -> asyncio.Future[None]:
        """Done when it has confirmed that, or is gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._confirmations.append((epoch, future))
        return future

    def let_go(self, identity: int) -> None:
        """It has no request in that version any more."""
        servable = self.held.pop(identity, None)
        if servable is not None:
            servable.let_go(self)

    def await_(self, endpoint: Endpoint) -> None:
        """Its requests wait for that to be loaded, until `awoken`: it is not to fall asleep before they are there."""
        self.awaited.add(endpoint)
        endpoint.awaited_by.add(self)

    def awoken(self, endpoint: Endpoint) -> None:
        """None waits any more, or it has been told of those that there are."""
        self.awaited.discard(endpoint)
        endpoint.awaited_by.discard(self)

    def kill(self) -> None:
        """End it now; a request that it has is lost."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _bury(self) -> None:
        if self.ended.is_set():
            return
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self.how = ending(status)
        self.is_serving = False
        self.ended.set()
        if self._line is not None:
            self._line.close()
        for identity in list(self.held):
            self.let_go(identity)
        for endpoint in list(self.awaited):
            self.awoken(endpoint)
        for _, future in self._confirmations:
            if not future.done():
                future.set_result(None)
