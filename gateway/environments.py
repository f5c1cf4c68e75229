"""An interpreter that can import a model's requirements, and its fork server.

There is one environment here, the gateway's own interpreter (`local`); others are keyed by requirements later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.errors import LoadFailed
from registry import ENFORCEMENT, LOADER

log = logging.getLogger("turnout.environment")

WORKER = Path(__file__).with_name("worker")
STANDALONE = ("accelerate", "frames", "lifetime", "parts", "replica", "samples", "tables")
FILES = {name: str(WORKER / f"{name}.py") for name in STANDALONE} | {
    "loader": str(LOADER),
    "enforcement": str(ENFORCEMENT),
}
# What a model of the scikit-learn flavor or a PythonModel imports while it is unpickled: a fork that finds it
# imported is ready in milliseconds.
PRELOAD = (
    *("ctypes", "threading", "traceback", "cloudpickle", "numpy", "pandas", "scipy.sparse", "joblib", "skops.io"),
    *(
        f"sklearn.{module}"
        for module in (
            *("base", "pipeline", "compose", "preprocessing", "impute", "linear_model", "ensemble", "tree", "svm"),
            *("neighbors", "naive_bayes", "decomposition", "cluster", "feature_extraction.text", "model_selection"),
            "neural_network",
        )
    ),
)
SECRET = re.compile(r"(?i)token|secret|passw|credential|_key$|apikey|auth")
SECRET_VALUE = re.compile(r"://[^/\s]*@")  # an address with a password in it
OURS = ("TURNOUT_", "MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "GCP_", "PG", "PYTHON", "DATABASE_")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# No library may start a thread before the fork: it would be missing in the replicas, with whatever it had locked.
THREADLESS = dict.fromkeys(ONE_THREAD, "1") | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own pool costs every replica megabytes
}
PRIVATE = re.compile(rb"^Private_(?:Clean|Dirty): +([0-9]+) kB$", re.MULTILINE)
START_TIMEOUT_S = 120.0
SPAWNS_AT_ONCE = 32
MAX_MESSAGE_BYTES = 64 << 10


class ForkedProcess:
    """One child of a fork server: its listening socket's path, and how it ended."""

    def __init__(self, path: Path, lifetime: int, kill: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.path = path
        self.kill = kill
        self.pid: int | None = None
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

    def end(self, status: int, why: str | None = None) -> None:
        """Said once, by the environment that hears of it."""
        if self.ended.done():
            return
        os.close(self._lifetime)
        self.path.unlink(missing_ok=True)
        self.why = why
        self.ended.set_result(status)
        if not self.started.done():
            self.started.set_result(None)


class Environment:
    """The gateway's own interpreter as a place for replicas; starts its fork server on first use.

    Only its own methods write its state, all on the event loop.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._children: dict[int, ForkedProcess] = {}
        self._last_id = 0
        self._ready: asyncio.Future[None] | None = None
        self._starting = asyncio.Lock()
        self._spawning = asyncio.Semaphore(SPAWNS_AT_ONCE)
        self._outbox: deque[tuple[bytes, list[int]]] = deque()

    async def start(self) -> None:
        """Have the fork server ready; raises `LoadFailed` when it cannot start."""
        async with self._starting:
            if self._control is None:
                self._launch()
            assert self._ready is not None
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    await asyncio.shield(self._ready)
            except TimeoutError:
                self._lost()
                raise LoadFailed(f"the fork server was not ready within {START_TIMEOUT_S:.0f} s") from None

    async def spawn(self, output: int) -> ForkedProcess:
        """Fork a process that listens on a socket of its own and writes what it prints to *output*."""
        await self.start()
        self._last_id += 1
        identity = self._last_id
        path = self._folder / f"r{identity}"
        async with self._spawning:
            with socket.socket(socket.AF_UNIX) as listener, _pipe() as (watched, lifetime):
                listener.bind(str(path))
                listener.listen(8)
                child = ForkedProcess(path, os.dup(lifetime), lambda: self._send({"op": "kill", "id": identity}))
                self._children[identity] = child
                self._send({"op": "spawn", "id": identity}, [listener.fileno(), output, watched])
                # The descriptors stay open until the fork server has them.
                try:
                    await asyncio.shield(child.started)
                except BaseException:
                    child.kill()
                    raise
        return child

    async def close(self) -> None:
        """End the fork server and with it every process that it forked."""
        process = self._process
        self._lost()
        if process is not None:
            process.wait()

    def _launch(self) -> None:
        loop = asyncio.get_running_loop()
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        options = {"control": theirs.fileno(), "parent": os.getpid(), "files": FILES, "preload": PRELOAD}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-u", str(WORKER / "main.py"), json.dumps(options)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=scrubbed(dict(os.environ)),
                process_group=0,  # Ctrl-C is for the gateway; it ends its replicas itself
            )
        self._control = control
        self._ready = loop.create_future()
        loop.add_reader(control, self._heard)

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        self._outbox.append((json.dumps(message).encode(), descriptors or []))
        self._flush()

    def _flush(self) -> None:
        while self._outbox and self._control is not None:
            try:
                socket.send_fds(self._control, [self._outbox[0][0]], self._outbox[0][1])
            except BlockingIOError:
                asyncio.get_running_loop().add_writer(self._control, self._flush)
                return
            except OSError:
                self._lost()
                return
            self._outbox.popleft()
        if self._control is not None:
            asyncio.get_running_loop().remove_writer(self._control)

    def _heard(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        message = json.loads(data)
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
            log.warning("models cannot import %s: %s", library, why)
        log.info("fork server ready", extra={"seconds": round(message["seconds"], 3)})
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def _lost(self) -> None:
        """The fork server is gone, or is to go: so are its children, by their parent-death signal."""
        control, self._control = self._control, None
        process, self._process = self._process, None
        self._outbox.clear()
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            asyncio.get_running_loop().remove_writer(control)
            control.close()
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(LoadFailed("the fork server ended before it was ready; see the log above"))
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


def scrubbed(environment: dict[str, str]) -> dict[str, str]:
    """What a model may see of the environment: no credential of the registry, a database or a store."""
    kept = {
        name: value
        for name, value in environment.items()
        if not (name.startswith(OURS) or SECRET.search(name) or SECRET_VALUE.search(value))
    }
    return kept | THREADLESS
