"""Servers that a client cannot tell apart, as processes: `turnout server`, and the real `mlflow server`."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STARTS_WITHIN_S = 120
ENDS_WITHIN_S = 30


@contextlib.contextmanager
def stock_server(python: Path, folder: Path) -> Iterator[str]:
    """The address of an `mlflow server` of its own, on SQLite, with proxied artifacts."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    command = [python, "-m", "mlflow", "server", *stores, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # Its job runners are eight more processes, which none of these tests needs.
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running([str(part) for part in command], folder, environment) as (process, log):
        address = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{address}/health"), process, log)
        yield address


@contextlib.contextmanager
def turnout_server(folder: Path, registry_uri: str, *, actor: str = "ana") -> Iterator[str]:
    """The address of a `turnout server` on a registry, whose artifacts are in *folder*."""
    arguments = ["--registry-uri", registry_uri, "--artifacts-destination", f"{folder}/artifacts", "--port", "0"]
    command = [sys.executable, "-m", "gateway", "server", *arguments]
    environment = {"PYTHONPATH": str(REPOSITORY), "TURNOUT_ACTOR": actor, "TURNOUT_SECRET_KEY": "only for tests " * 3}
    with running(command, folder, environment) as (process, log):
        until(lambda: listening(log), process, log)
        address = listening(log)
        until(lambda: answers(f"{address}/ready"), process, log)
        yield address


@contextlib.contextmanager
def running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen, Path]]:
    """The process and its log, in a group of its own that is ended together."""
    log = folder / f"server-{time.monotonic_ns()}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=os.environ | environment, start_new_session=True
        )
    try:
        yield process, log
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDS_WITHIN_S)


def until(condition, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")
        time.sleep(0.05)


def listening(log: Path) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
    return found[0] if found else ""


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
