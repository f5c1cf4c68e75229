"""A fork server that does not start says why."""

import sys
from pathlib import Path

import pytest

from gateway.environments import Environment
from gateway.errors import LoadFailed


@pytest.fixture
def interpreter(tmp_path):
    """Write an executable that stands where an environment's Python should."""

    def interpreter(script):
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n{script}\n")
        path.chmod(0o700)
        return path

    return interpreter


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
    await environment.close()


async def test_an_interpreter_that_is_gone_is_told(tmp_path):
    """Somebody has deleted the environment."""
    environment = Environment(tmp_path, tmp_path / "none", "uv:gone")

    with pytest.raises(LoadFailed, match=r"the fork server of uv:gone could not be started: .*No such file"):
        await environment.start()
    await environment.close()


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
    await environment.close()
