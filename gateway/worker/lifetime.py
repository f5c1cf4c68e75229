"""How a process of ours ends: with its parent, within its memory, and without asking. Linux.

The file stands alone and runs on Python 3.9.
"""

import contextlib
import ctypes
import os
import resource
import signal
import threading

PR_SET_PDEATHSIG = 1
LOADING_NICENESS = 10

_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up once, before any fork


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when *parent* ends, even while native code spins here."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have ended between the fork and the call above; then nobody will send the signal.
    if os.getppid() != parent:
        os._exit(1)


def limit_memory(max_bytes: int) -> None:
    """Bound what this process can allocate, and let the kernel choose it first when memory runs out.

    The limit counts private writable memory (brk and anonymous maps), not shared libraries. What was
    inherited from the fork server counts too.
    """
    if max_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = max_bytes if hard == resource.RLIM_INFINITY else min(max_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # a container without a writable /proc: the kernel's own choice stands


def give_way(on_idle_cores: bool) -> None:
    """Let every prediction go before what this thread does; *on_idle_cores* alone, it may have to wait for ever.

    Linux keeps a policy and a niceness per thread. An unprivileged process could not raise its own again, so loading
    runs in a thread that ends, and predictions in one that was never lowered. Only a core that runs nothing but idle
    threads is taken for an idle one when another thread is woken: niceness would have that one wait elsewhere.
    """
    if on_idle_cores:
        with contextlib.suppress(OSError):  # some sandboxes refuse it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            return
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOADING_NICENESS)


def ending(status: int) -> str:
    """How a process ended that had that exit status, as a phrase; negative is a signal, which may have no name."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


def end_quietly() -> None:
    """Let every prediction go before this process's end: the kernel takes milliseconds to give its memory back."""
    give_way(on_idle_cores=True)
