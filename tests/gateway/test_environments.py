"""A fork server that does not start says why; one that was launched early is used, and imports what is asked for."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from gateway.environments import Environment
from gateway.errors import LoadFailed
from gateway.forkserver import LOCAL, ForkServer


@pytest.fixture
def interpreter(tmp_path):
    """Write an executable that stands where an environment's Python should."""

    def interpreter(script):
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n{script}\n")
        path.chmod(0o700)
        return path

    return interpreter


@pytest.fixture
def output():
    """Where replicas may print."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def children():
    """The processes that this one has started and not yet waited for."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_a_fork_server_that_was_launched_is_used_and_ended(tmp_path, output):
    """It is the one that replicas come from, and it goes with the environment, used or not."""
    before = children()
    environment = Environment(tmp_path, *LOCAL, ForkServer.launch(*LOCAL))
    [launched] = children() - before

    replica = await environment.spawn(output)

    assert parent(replica.pid) == launched
    environment.close()
    Environment(tmp_path, *LOCAL, ForkServer.launch(*LOCAL)).close()
    assert children() == before


async def test_what_a_replica_imports_is_imported_once(tmp_path, output, capfd):
    """By the fork server, so that the second finds it there; a library that is not there keeps no replica away."""
    environment = Environment(tmp_path, *LOCAL)

    for _ in range(2):
        replica = await environment.spawn(output, ["this", "not_there"])
        assert replica.pid is not None

    environment.close()
    assert capfd.readouterr().out.count("The Zen of Python") == 1


async def test_what_is_given_up_before_it_was_begun_is_never_sent(tmp_path, output):
    """By then its descriptors are closed, or another file's: those that run are not lost over it."""
    before = children()
    launched = ForkServer.launch(*LOCAL)
    [pid] = children() - before
    launched.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as small as can be
    environment = Environment(tmp_path, *LOCAL, launched)
    serving = await environment.spawn(output)

    os.kill(pid, signal.SIGSTOP)  # as if it imported something large
    given_up = [asyncio.create_task(environment.spawn(output)) for _ in range(20)]
    await asyncio.sleep(0)
    for each in given_up:
        each.cancel()
    await asyncio.wait(given_up)
    os.kill(pid, signal.SIGCONT)
    another = await environment.spawn(output)

    assert not serving.ended.done()
    assert parent(another.pid) == parent(serving.pid) == pid
    environment.close()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("raise SystemExit(3)", "ended with status 3 before it was ready"),
        ("import os; os.kill(os.getpid(), 11)", "ended with status -11 before it was ready"),
    ],
)
async def test_a_fork_server_that_ends_is_told_with_its_status(tmp_path, interpreter, script, message):
    """The failure names the environment, and the next start tries anew."""
    environment = Environment(tmp_path, interpreter(script), "uv:broken")

    for _ in range(2):
        with pytest.raises(LoadFailed, match=f"the fork server of uv:broken {message}"):
            await environment.start()
    environment.close()


async def test_an_interpreter_that_is_gone_is_told(tmp_path):
    """Somebody has deleted the environment."""
    environment = Environment(tmp_path, tmp_path / "none", "uv:gone")

    with pytest.raises(LoadFailed, match=r"the fork server of uv:gone could not be started: .*No such file"):
        await environment.start()
    environment.close()


async def test_a_fork_server_that_talks_nonsense_is_ended(tmp_path, interpreter):
    """Its libraries are a model's choice: nothing that it sends disturbs the gateway."""
    talker = (
        "import json, socket, sys\n"
        "control = socket.socket(fileno=json.loads(sys.argv[-1])['control'])\n"
        'control.send(b\'{"op": "exited", "id": []}\')\n'
        "control.recv(1)\n"
    )
    environment = Environment(Path(tmp_path), interpreter(talker), "uv:hostile")

    with pytest.raises(LoadFailed, match="the fork server of uv:hostile ended"):
        await environment.start()
    environment.close()
