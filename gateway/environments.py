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
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.errors import LoadFailed
from gateway.worker.timecard import Timecard
from registry import ENFORCEMENT, LOADER

log = logging.getLogger("turnout.environment")

WORKER = Path(__file__).with_name("worker")
STANDALONE = (
    *("accelerate", "ensembles", "frames", "lifetime", "parts", "peers", "replica", "samples", "tables", "timecard"),
    "trees",
)
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

    Only its own methods write its state, all on the event loop.
    """

    def __init__(self, folder: Path, python: Path, name: str) -> None:
        self.name = name
        self._labels = {"environment": name}
        self._folder = folder  # its own: sockets are named by a number
        self._python = python
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
                raise LoadFailed(
                    f"the fork server of {self.name} was not ready within {START_TIMEOUT_S:.0f} s"
                ) from None

    async def spawn(self, output: int) -> ForkedProcess:
        """Fork a process that listens on a socket of its own and writes what it prints to *output*."""
        await self.start()
        self._last_id += 1
        identity = self._last_id
        path = self._folder / f"r{identity}"
        async with self._spawning:
            with socket.socket(socket.AF_UNIX) as listener, _pipe() as (watched, lifetime):
                listener.bind(str(path))
                listener.listen(BACKLOG)
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
        options = {"control": theirs.fileno(), "parent": os.getpid(), "files": FILES, "preload": PRELOAD}
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [self._python, "-I", "-u", str(WORKER / "main.py"), json.dumps(options)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=scrubbed(dict(os.environ)),
                    process_group=0,  # Ctrl-C is for the gateway; it ends its replicas itself
                )
            except OSError as problem:
                control.close()
                raise LoadFailed(f"the fork server of {self.name} could not be started: {problem.strerror}") from None
        control.setblocking(False)
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
        control, self._control = self._control, None
        process, self._process = self._process, None
        self._outbox.clear()
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            asyncio.get_running_loop().remove_writer(control)
            control.close()
        is_early = self._ready is not None and not self._ready.done()
        status = None if process is None else _end(process, FAREWELL_S if is_early else 0.0)
        if self._ready is not None and is_early:
            how = f"the fork server of {self.name} ended with status {status} before it was ready; see the log above"
            self._ready.set_exception(LoadFailed(how))
        children, self._children = self._children, {}
        for child in children.values():
            child.end(-signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], farewell_s: float) -> int:
    """Kill a process that has had so long to end by itself; its status."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(farewell_s)
    process.kill()
    return process.wait()


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
