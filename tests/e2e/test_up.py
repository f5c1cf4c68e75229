"""`turnout up`: a registry server and a gateway as one thing, with real processes."""

import os
import signal
import subprocess
import sys
import time

import httpx2
import psutil
import pytest

from tests.e2e.gateways import behaving, eventually
from tests.e2e.servers import free_port


class Pair:
    """`turnout up` as a process, and its children."""

    def __init__(self, folder, *arguments):
        self.server_port, self.port = free_port(), free_port()
        self.log_path = folder / f"up-{self.port}.log"
        ports = ["--server-port", str(self.server_port), "--port", str(self.port)]
        command = [sys.executable, "-m", "gateway", "up", *ports, *arguments]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ, start_new_session=True
            )

    def log(self):
        return self.log_path.read_text()

    def child(self, command):
        """The child that runs `turnout` *command*."""
        children = psutil.Process(self.process.pid).children()
        return next((each for each in children if command in each.cmdline()), None)

    def ready(self):
        eventually(lambda: self._answers(self.port, "/ping"), "both are up")
        return self

    def serving(self):
        eventually(lambda: self._answers(self.server_port, "/health"), "the server is up")
        return self

    def _answers(self, port, path):
        assert self.process.poll() is None, self.log()
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{path}").status_code == 200
        except httpx2.HTTPError:
            return False

    def ask(self):
        body = {"dataframe_records": [{"do": "nothing"}]}
        return httpx2.post(f"http://127.0.0.1:{self.port}/invocations", json=body, timeout=30)

    def gateways(self):
        return httpx2.get(f"http://127.0.0.1:{self.server_port}/api/turnout/v1/gateways").json()["gateways"]

    def close(self):
        family = psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for each in family:
            each.kill() if each.is_running() else None


@pytest.fixture
def up(tmp_path):
    """Start pairs on the registry of `client`; all are gone at the end of the test."""
    started = []

    def up(*arguments):
        pair = Pair(tmp_path, "--registry-uri", f"sqlite:///{tmp_path}/turnout.db", *arguments)
        started.append(pair)
        return pair

    yield up
    for pair in started:
        pair.close()


def test_serves_follows_and_ends(up, client, add, champion):
    """Both come up; the gateway follows the alias through the server and reports to it; one SIGTERM ends both."""
    pair = up("-m", "models:/m@champion").ready()
    assert pair.ask().json() == {"predictions": [int(champion)]}
    children = [pair.child("server"), pair.child("serve")]

    second = add(behaving(2))
    client.set_registered_model_alias("m", "champion", second)
    eventually(lambda: pair.ask().json() == {"predictions": [2]}, "the new version answers")

    def reported():
        gateways = pair.gateways()
        counters = gateways and gateways[0]["counters"][-1]["counters"]["m"].get(second)
        return counters and counters["requests"] and gateways

    (gateway,) = eventually(reported, "the gateway reports what it serves")
    assert gateway["endpoints"][0]["versions"][0]["version"] == second

    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(30) == 0, pair.log()
    assert not any(each.is_running() for each in children)


def test_ctrl_c_ends_both_gracefully(up, champion):
    """Ctrl-C in a terminal, which signals the whole foreground group, ends both, and neither at once."""
    pair = up("-m", "models:/m@champion").ready()

    os.killpg(pair.process.pid, signal.SIGINT)

    assert pair.process.wait(30) == 0, pair.log()
    assert pair.log().count("stopped") == 2
    assert "at once" not in pair.log()


@pytest.mark.parametrize("command", ["server", "serve"])
def test_one_does_not_outlive_the_other(up, champion, command):
    """When one of the two is killed, the other is ended too, the status is 1, and the log says which it was."""
    pair = up("-m", "models:/m@champion").ready()
    other = pair.child("serve" if command == "server" else "server")

    pair.child(command).kill()

    assert pair.process.wait(30) == 1
    assert not other.is_running()
    assert f"the {'registry server' if command == 'server' else 'gateway'} ended with status -9" in pair.log()


def test_killed_supervisor_leaves_nobody(up, champion):
    """When `turnout up` itself is killed, the children are asked to end."""
    pair = up("-m", "models:/m@champion").ready()
    children = psutil.Process(pair.process.pid).children(recursive=True)

    pair.process.kill()

    eventually(lambda: not any(each.is_running() for each in children), "everybody is gone")


def test_without_a_model(up, client):
    """Without -m there is only the server, which says so."""
    pair = up().serving()

    assert pair.child("serve") is None
    pair.process.send_signal(signal.SIGTERM)

    assert pair.process.wait(30) == 0
    assert "only the registry server runs" in pair.log()


def test_port_is_taken(up, client):
    """A server that cannot begin ends the pair at once, with its own reason."""
    first = up().serving()
    began = time.monotonic()

    second = up("--server-port", str(first.server_port))
    eventually(lambda: second.process.poll() is not None, "the second one ends")

    assert second.process.returncode == 1
    assert "cannot listen" in second.log()
    assert time.monotonic() - began < 30


def test_unusable_model(up):
    """What can be no model is refused before anything is started."""
    pair = up("-m", "models:/")

    assert pair.process.wait(30) == 2
    assert "models:/" in pair.log()
