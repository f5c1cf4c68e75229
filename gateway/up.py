"""`turnout up`: a registry server and a gateway that follows it, as two processes that begin and end together. Linux.

Each child has a process group of its own: a Ctrl-C in a terminal reaches this process alone, and a child is never
asked twice, which would mean at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import click

POLL_S = 0.05
START_TIMEOUT_S = 60.0
ENDINGS = {signal.SIGTERM, signal.SIGINT}
WATCHED = {*ENDINGS, signal.SIGCHLD}
PR_SET_PDEATHSIG = 1

_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up once, before any fork


def run(server: Sequence[str], address: tuple[str, int], gateway: Sequence[str] | None) -> int:
    """Run `turnout` with the arguments *server*, which listens at *address*, then with *gateway*; the exit status.

    The first SIGTERM or Ctrl-C ends both gracefully, the gateway first; the next one ends them at once. When one ends
    by itself, the other is ended too and the status is 1.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    children = _Children()
    children.start("registry server", server)
    if _wait_until_healthy(children, address):
        if gateway is not None:
            children.start("gateway", gateway)
        _wait_for_end(children)
    return children.stop()


class _Children:
    """The processes in the order of their start; they are ended in the opposite one."""

    def __init__(self) -> None:
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._failed = False

    def start(self, name: str, arguments: Sequence[str]) -> None:
        parent = os.getpid()
        command = [sys.executable, "-m", "gateway", *arguments]
        child = subprocess.Popen(
            command,
            process_group=0,
            preexec_fn=lambda: _prepare_child(parent),  # noqa: PLW1509  # this process has one thread
        )
        self._started.append((name, child))

    def all_run(self) -> bool:
        """Whether nobody ended; says who did."""
        for name, child in self._started:
            if child.poll() is not None:
                click.echo(f"the {name} ended with status {child.returncode}: stopping", err=True)
                self._failed = True
        return not self._failed

    def stop(self) -> int:
        for _, child in reversed(self._started):
            if child.poll() is None:
                child.terminate()
                self._wait(child)
        return 1 if self._failed or any(child.returncode for _, child in self._started) else 0

    def _wait(self, child: subprocess.Popen[bytes]) -> None:
        while child.poll() is None:
            if signal.sigwait(WATCHED) in ENDINGS:
                for _, each in self._started:
                    if each.poll() is None:
                        each.send_signal(signal.SIGINT)


def _wait_until_healthy(children: _Children, address: tuple[str, int]) -> bool:
    """Whether the server answers; not when it, or this process, is to end before."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while children.all_run() and time.monotonic() < deadline:
        if _is_healthy(address):
            return children.all_run()
        found = signal.sigtimedwait(WATCHED, POLL_S)
        if found is not None and found.si_signo in ENDINGS:
            return False
    return children.all_run()  # slow: the gateway waits for it


def _is_healthy(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=1)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def _wait_for_end(children: _Children) -> None:
    while children.all_run():
        if signal.sigwait(WATCHED) in ENDINGS:
            return


def _prepare_child(parent: int) -> None:
    """Between fork and exec: hear signals again, and be asked to end when the parent is gone, however it went."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
