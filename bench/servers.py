"""Starting and stopping the servers that are measured, each as the real command in a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from processes import of_session

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its port, the process that was started, the file it logs to, and how it is asked."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    path: str = "/invocations"
    speaks_v2: bool = False  # the Open Inference Protocol, else MLflow's

    @property
    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One model under one name, as `turnout serve -m name=uri` takes it."""

    name: str
    uri: str


@contextlib.contextmanager
def turnout(
    folder: Path, endpoints: Sequence[Endpoint], options: Sequence[str] = (), name: str = "turnout"
) -> Iterator[Server]:
    """`turnout serve` on the registry `r.db` in *folder*."""
    command = [sys.executable, "-m", "gateway", "serve", "--registry-uri", registry_uri(folder)]
    command += ["--cache", str(folder / "cache"), *options]
    for each in endpoints:
        command += ["-m", f"{each.name}={each.uri}"]
    with running(name, _at(command), folder, {}) as server:
        yield server


@contextlib.contextmanager
def mlflow(folder: Path, model: Path, python: Path) -> Iterator[Server]:
    """`mlflow models serve` with one worker, as its documentation starts it."""
    command = [str(python), "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local"]
    # It runs `uvicorn` through a shell and finds it on the PATH.
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with running("mlflow", _at([*command, "--workers", "1"]), folder, environment) as server:
        yield server


@contextlib.contextmanager
def fastapi(folder: Path, model_file: Path) -> Iterator[Server]:
    """`bench/fastapi_app.py` on uvicorn with uvloop and httptools, one process."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(ROOT / "bench")]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    with running("fastapi", _at(command), folder, {"MODEL_FILE": str(model_file)}) as server:
        yield server


@contextlib.contextmanager
def turnout_server(folder: Path) -> Iterator[Server]:
    """`turnout server` on the registry `r.db` in *folder*, one process."""
    command = [sys.executable, "-m", "gateway", "server", "--registry-uri", registry_uri(folder)]
    with running("turnout", _at(command), folder, {}, ready="/health") as server:
        yield server


@contextlib.contextmanager
def mlflow_server(folder: Path, python: Path) -> Iterator[Server]:
    """`mlflow server` with one worker on a SQLite database of its own, artifacts proxied."""
    command = [str(python), "-m", "mlflow", "server", "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "mlflow-artifacts")]
    environment = {
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with running("mlflow", _at(command), folder, environment, ready="/health") as server:
        yield server


def registry_uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'r.db'}"


def ask(port: int, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
    """One GET on a connection of its own: status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def status(port: int) -> dict[str, Any]:
    """Turnout's `/status`."""
    return json.loads(ask(port, "/status")[1])


def wait_until_proven(server: Server, limit_s: float = 120.0) -> None:
    """Until every version that Turnout serves has tried its faster ways, also those that are tried beside requests."""
    give_up_s = monotonic() + limit_s
    while monotonic() < give_up_s:
        proofs = [each.get("proof") for entry in status(server.port)["endpoints"] for each in entry["versions"]]
        if all(proof and "being tried" not in proof for proof in proofs):
            return
        sleep(0.05)
    raise SystemExit(f"{server.name} still tries its ways after {limit_s:.0f} s:\n{server.log_tail}")


def _at(command: Sequence[str]) -> Callable[[int], list[str]]:
    """The command for the port that it is given."""
    return lambda port: [*command, "--host", "127.0.0.1", "--port", str(port)]


@contextlib.contextmanager
def running(
    name: str,
    command: Callable[[int], Sequence[str]],
    folder: Path,
    environment: Mapping[str, str],
    limit_s: float = 120.0,
    ready: str = "/ping",
    path: str = "/invocations",
    speaks_v2: bool = False,
) -> Iterator[Server]:
    """A server as a process, from when it is ready to the end of the block; `PORT` names its port as *command* does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended then, too
    port = free_port()
    log = folder / f"{name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(port),
            cwd=folder,
            env={**os.environ, **environment, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, port, process, log, path, speaks_v2)
    try:
        _wait_until_ready(server, limit_s, ready)
        yield server
    finally:
        _stop(server)


def _wait_until_ready(server: Server, limit_s: float, path: str) -> None:
    give_up_s = monotonic() + limit_s
    while monotonic() < give_up_s:
        if server.process.poll() is not None:
            raise SystemExit(f"{server.name} ended with {server.process.returncode}:\n{server.log_tail}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(server.port, path)[0] == 200:
                return
        sleep(0.05)
    raise SystemExit(f"{server.name} was not ready after {limit_s:.0f} s:\n{server.log_tail}")


def _stop(server: Server) -> None:
    """SIGTERM, then SIGKILL to whatever is left of the session that was started for it."""
    process = server.process
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    left = of_session(process.pid)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(10)
    if left and server.name == "turnout":
        print(f"turnout left {len(left)} processes behind\n{server.log_tail}", file=sys.stderr)


def free_port() -> int:
    """Of the loopback, at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
