"""Several processes that answer on one socket: the parent starts them, replaces one that dies, and ends them. Linux."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable

ENDINGS = {signal.SIGTERM, signal.SIGINT}
WATCHED = {*ENDINGS, signal.SIGCHLD}
PR_SET_PDEATHSIG = 1
TOO_SOON_S = 5.0

_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up once, before any fork


def run_workers(count: int, work: Callable[[], int]) -> int:
    """Run *work* in *count* processes until a signal ends them; the exit status. This process must have no threads.

    A signal is passed on as SIGTERM. A worker that dies is replaced, but one that dies as soon as it has started
    ends them all, with status 1.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    started_at = {_fork(work): time.monotonic() for _ in range(count)}
    is_stopping, status = False, 0
    while started_at:
        if signal.sigwait(WATCHED) in ENDINGS:
            is_stopping = True
            _end(started_at)
            continue
        for pid, exit_status in _ended():
            lived_s = time.monotonic() - started_at.pop(pid)
            if is_stopping:
                if exit_status != -signal.SIGTERM:  # that one was still starting, so it had nothing to finish
                    status = status or exit_status
            elif lived_s < TOO_SOON_S:
                is_stopping, status = True, 1
                _end(started_at)
            else:
                print(f"a worker died (status {exit_status}) and is replaced", file=sys.stderr, flush=True)
                started_at[_fork(work)] = time.monotonic()
    return status


def _fork(work: Callable[[], int]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        # The kernel ends a worker whose parent is killed; the parent may have died before it was asked to.
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            status = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _end(pids: dict[int, float]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGTERM)


def _ended() -> list[tuple[int, int]]:
    """Children that have ended, each with its exit status; one signal may stand for several."""
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))
