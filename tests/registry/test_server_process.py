"""`turnout server` as a process: how it starts, stops, refuses, and works with several processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

START_TIMEOUT_S = 60
JSON = {"Content-Type": "application/json"}
CHANGES = "/api/turnout/v1/changes"

Start = Callable[..., "Server"]


class Server:
    """`turnout server` on a new SQLite registry, at a free port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.log = folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "gateway", "server", "--registry-uri", f"sqlite:///{folder / 'r.db'}"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*command, "--port", str(self.port), *arguments], stdout=log, stderr=log)

    def ready(self) -> Server:
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float = 30) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {} if body is None else JSON)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Server] = []

    def start(*arguments: str) -> Server:
        started.append(Server(tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_graceful_end(start: Start, number: int) -> None:
    """A signal answers long polls and ends event streams at once, and the exit status is 0."""
    server = start().ready()
    cursor = json.loads(server.ask("GET", CHANGES)[1])["cursor"]
    stream = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    stream.request("GET", CHANGES, headers={"Accept": "text/event-stream"})
    events = stream.getresponse()
    assert events.readline().startswith(b"id: ")
    poll = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    poll.request("GET", f"{CHANGES}?cursor={cursor}&timeout=60")
    server.ask("GET", "/health")  # answered after the poll was taken
    began = time.monotonic()
    assert server.end(number) == 0
    assert time.monotonic() - began < 10
    assert poll.getresponse().status == 200
    events.read()
    stream.close()
    poll.close()
    assert "Traceback" not in server.log.read_text()


def test_told_twice(start: Start) -> None:
    """The second signal ends it at once, and that is no failure to be reported."""
    server = start().ready()
    stalled = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    stalled.sendall(b"POST /api/2.0/mlflow/registered-models/create HTTP/1.1\r\nHost: localhost\r\n")
    stalled.sendall(b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    server.ask("GET", "/health")  # answered after the request was taken, which holds up a graceful end
    server.process.send_signal(signal.SIGTERM)
    while "stopping" not in server.log.read_text():
        time.sleep(0.01)
    assert server.end() == 0
    stalled.close()
    assert "Traceback" not in server.log.read_text()


def test_refused_before_it_listens(start: Start, tmp_path: Path) -> None:
    """What cannot be served is told in a sentence: a taken port, an open address, a server, models."""
    server = start().ready()
    for arguments, status, said in (
        (["--port", str(server.port)], 1, "cannot listen on"),
        (["--host", "0.0.0.0"], 1, "--allow-unauthenticated"),
        (["--registry-uri", "http://127.0.0.1:1"], 2, "is a server itself"),
        (["-m", "models:/wine@champion"], 2, "did you mean `turnout serve"),
    ):
        command = [sys.executable, "-m", "gateway", "server", "--registry-uri", f"sqlite:///{tmp_path / 'x.db'}"]
        done = subprocess.run([*command, "--port", "0", *arguments], capture_output=True, text=True, timeout=60)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr
        assert "Traceback" not in done.stderr


def test_an_address_that_nobody_gave_is_told_with_its_variable(tmp_path: Path) -> None:
    """Whoever trains in the same terminal has it set to the server itself, and has to hear which to override."""
    others = ("TURNOUT_REGISTRY_URI", "MLFLOW_REGISTRY_URI")  # which come before it
    environment = {name: value for name, value in os.environ.items() if name not in others}
    environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:1"
    for arguments, said in (
        (["server", "--port", "0"], "http://127.0.0.1:1 (from MLFLOW_TRACKING_URI) is a server itself; give"),
        (["import", "mlflow", "http://127.0.0.1:2"], "http://127.0.0.1:1 (from MLFLOW_TRACKING_URI) is a server: "),
    ):
        command = [sys.executable, "-m", "gateway", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path)
        assert said in " ".join(done.stderr.split())
        assert "--registry-uri sqlite:///" in done.stderr


def test_open_address_when_wanted(start: Start) -> None:
    """An address that others can reach is served on demand, and the log warns."""
    server = start("--host", "0.0.0.0", "--allow-unauthenticated").ready()
    assert server.end() == 0
    assert "whoever reaches" in server.log.read_text()


def test_workers(start: Start) -> None:
    """Several processes share one port and one database; one that is killed is replaced, and a signal ends all."""
    server = start("--workers", "2").ready()

    def create(number: int) -> int:
        return server.ask("POST", "/api/2.0/mlflow/registered-models/create", {"name": f"m{number}"})[0]

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(create, range(40))) == {200}
    time.sleep(5.5)  # what dies sooner is not replaced
    first = children_of(server.process.pid)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    give_up = time.monotonic() + 30
    while len(set(children_of(server.process.pid)) - {first[0]}) < 2:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert server.ask("GET", "/api/2.0/mlflow/registered-models/get?name=m1")[0] == 200
    workers = children_of(server.process.pid)
    assert server.end() == 0
    assert not any(Path(f"/proc/{each}").exists() for each in workers)


def test_killed_parent_takes_its_workers_along(start: Start) -> None:
    """No worker is left behind."""
    server = start("--workers", "2").ready()
    workers = children_of(server.process.pid)
    server.end(signal.SIGKILL)
    give_up = time.monotonic() + 30
    while any(Path(f"/proc/{each}").exists() for each in workers):
        assert time.monotonic() < give_up
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
