"""The fork server: imports the libraries once, then forks a replica on request and hands it its socket.

Started by path with `-I`, under the interpreter of the model's environment, with one argument: JSON that
names the control socket's descriptor, the files to load and the libraries to import. It is single-threaded,
never loads a model and never handles a request. The file stands alone and runs on Python 3.9.

It reads messages {"op": "spawn", "id", "imports"} with three descriptors (the replica's listening socket, the pipe
for its output, the read end of its lifetime pipe) and {"op": "kill", "id"}; it writes {"op": "ready"},
{"op": "spawned", "id", "pid"} and {"op": "exited", "id", "status", "why"}, where a negative status is a signal's
number. The first spawn that imports a library has it imported here, for all that come after it.
"""

import array
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from types import ModuleType
from typing import Any, Dict, List, Tuple

MAX_MESSAGE_BYTES = 64 << 10
DESCRIPTORS_PER_SPAWN = 3


def load_by_path(name: str, path: str) -> ModuleType:
    """Run a file of ours as a module that no import statement can name."""
    spec = importlib.util.spec_from_file_location(f"<turnout {name}>", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and typing look a class's module up here
    spec.loader.exec_module(module)
    return module


def preload(libraries: List[str]) -> Dict[str, str]:
    """Import what models of this environment will need; say which could not be, and why."""
    missing = {}
    for library in libraries:
        try:
            importlib.import_module(library)
        except Exception as problem:  # an environment without pandas still serves models that need none
            missing[library] = f"{type(problem).__name__}: {problem}"
    return missing


def rehearse() -> None:
    """Do once what every model's first prediction does: both libraries import the rest of themselves then."""
    try:
        import pandas
        from sklearn.linear_model import LinearRegression

        table = pandas.DataFrame([[0.0, 1.0], [1.0, 0.0]], columns=["a", "b"])
        LinearRegression().fit(table, table["a"]).predict(table)
    except Exception:  # a prediction will say what is wrong, to whom it concerns
        traceback.print_exc()


def settle() -> None:
    """Keep what is alive here out of the replicas' collections, so that its pages stay shared."""
    gc.collect()
    gc.freeze()


class ForkServer:
    """One control socket, and the replicas forked from this process by their ids."""

    def __init__(self, control: socket.socket, modules: Dict[str, ModuleType]) -> None:
        self._control = control
        self._modules = modules
        self._ids: Dict[int, int] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._wakeup_write = os.pipe()
        for end in (self._wakeup, self._wakeup_write):
            os.set_blocking(end, False)

    def run(self) -> None:
        """Serve until the gateway closes its end."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    message, descriptors = self._receive()
                    if not message:
                        return
                    self._obey(message, descriptors)
                else:
                    os.read(self._wakeup, 4096)
                    self._reap()

    def send(self, message: Dict[str, Any]) -> None:
        self._control.sendall(json.dumps(message).encode())

    def _receive(self) -> Tuple[Dict[str, Any], List[int]]:
        descriptors = array.array("i")
        room = socket.CMSG_LEN(DESCRIPTORS_PER_SPAWN * descriptors.itemsize)
        data, ancillary, _, _ = self._control.recvmsg(MAX_MESSAGE_BYTES, room)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        return (json.loads(data) if data else {}), list(descriptors)

    def _obey(self, message: Dict[str, Any], descriptors: List[int]) -> None:
        if message["op"] == "spawn":
            if not sys.modules.keys() >= set(message["imports"]):
                preload(message["imports"])  # what cannot be imported, the replica will say
                settle()
            self._spawn(message["id"], descriptors)
        elif message["op"] == "kill":
            for pid, identity in self._ids.items():
                if identity == message["id"]:
                    end_group(pid)

    def _spawn(self, identity: int, descriptors: List[int]) -> None:
        parent = os.getpid()
        news: Dict[str, Any] = {"op": "spawned", "id": identity}
        try:
            pid = os.fork()
            if pid == 0:
                self._become_replica(parent, descriptors)
            self._ids[pid] = identity
            news["pid"] = pid
        except OSError as problem:
            news = {"op": "exited", "id": identity, "status": os.EX_OSERR, "why": f"could not be forked: {problem}"}
        for descriptor in descriptors:
            os.close(descriptor)
        self.send(news)

    def _become_replica(self, parent: int, descriptors: List[int]) -> None:
        status = 1
        try:
            self._modules["lifetime"].die_with_parent(parent)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            self._control.close()
            os.close(self._wakeup)
            os.close(self._wakeup_write)
            status = self._modules["replica"].run(self._modules, *descriptors)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)  # never the fork server's own exit handlers

    def _reap(self) -> None:
        while self._ids:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            end_group(ended.si_pid)
            pid, status = os.waitpid(ended.si_pid, 0)
            code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            self.send({"op": "exited", "id": self._ids.pop(pid), "status": code})


def end_group(pid: int) -> None:
    """Kill a replica with whatever processes its model started. It is not reaped yet, so the numbers are its own."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):  # it has not made its group yet
            end(pid, signal.SIGKILL)


def main() -> None:
    options = json.loads(sys.argv[1])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the gateway decides when replicas end, also when all are told to
    modules = {name: load_by_path(name, path) for name, path in options["files"].items()}
    modules["lifetime"].die_with_parent(options["parent"])
    started = time.monotonic()
    missing = preload(options["preload"])
    if not missing.keys() & {"pandas", "sklearn.linear_model"}:
        rehearse()
    control = socket.socket(fileno=options["control"])
    server = ForkServer(control, modules)
    settle()
    server.send({"op": "ready", "missing": missing, "seconds": time.monotonic() - started})
    server.run()


if __name__ == "__main__":
    main()
