"""Real processes on one registry: who sees what and when, and what a killed one leaves behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from registry.connection import connect
from registry.sql.sqlite import choose_driver

ROOT = Path(__file__).parents[2]
MOVES = """
import sys, time
from registry.connection import connect
client = connect(sys.argv[1])
for line in sys.stdin:
    client.set_registered_model_alias("wine", "champion", int(line))
    print(time.monotonic(), flush=True)
"""
CREATES = """
import sys
from registry.connection import connect
client = connect(sys.argv[1])
while True:
    version = client.create_model_version("wine", "dummy-source", tags={"k": "v"}).version
    client.set_registered_model_alias("wine", "champion", version)
    print(version, flush=True)
"""
OPENS = """
import sys
from registry.connection import connect
sys.stdin.read()
client = connect(sys.argv[1], actor=sys.argv[2])
client.create_registered_model(f"m{sys.argv[2]}")
print(client.cursor().split(".")[0])
"""


def start(program, *arguments):
    """A Python process that runs a program with pipes at both ends."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    """The address of a registry with a prompt named wine that has two versions."""
    uri = f"sqlite:///{tmp_path}/r.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")()
    with connect(uri) as registry:
        registry.create_registered_model("wine", {"mlflow.prompt.is_prompt": "true"})
        for _ in range(2):
            registry.create_model_version("wine", "dummy-source")
    return uri


def test_wait_sees_another_process_at_once(address):
    """A commit of another process ends a wait within a fraction of the slow poll."""
    delays = []
    with connect(address) as registry, start(MOVES, address) as mover:
        cursor = registry.cursor()
        for turn in range(20):
            mover.stdin.write(f"{1 + turn % 2}\n")
            mover.stdin.flush()
            cursor = registry.wait(cursor, 60)
            seen = time.monotonic()
            delays.append(seen - float(mover.stdout.readline()))
            assert registry.resolve("models:/wine@champion").version == str(1 + turn % 2)
        mover.stdin.close()

    assert sorted(delays)[len(delays) // 2] < 0.1


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
def test_tf136_a_killed_writer_loses_nothing(address, acknowledged):
    """After kill -9 in a loop of writes each acknowledged one is there, whole, and the rest of the file is sound."""
    writer = start(CREATES, address)
    seen = [int(writer.stdout.readline()) for _ in range(acknowledged)]
    writer.kill()
    seen += [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.communicate()

    with connect(address) as registry:
        kept = sorted(
            int(each.version)
            for each in registry.search_model_versions("tags.k = 'v' AND tags.`mlflow.prompt.is_prompt` != 'true'")
        )
        assert kept == list(range(3, kept[-1] + 1))
        assert set(seen) <= set(kept)
        champion = int(registry.get_model_version_by_alias("wine", "champion").version)
        assert champion >= seen[-1]
        assert registry.get_alias_history("wine", "champion")[0].to_version == str(champion)
        assert int(registry.create_model_version("wine", "dummy-source").version) == kept[-1] + 1
    if address.startswith("sqlite"):
        connection = choose_driver().connect(address.removeprefix("sqlite:///"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_tf146_four_processes_open_a_new_registry_at_once(kind, tmp_path, request):
    """Four processes that open what is not there yet all get the same registry, made once."""
    if kind == "sqlite":
        uri = f"sqlite:///{tmp_path}/r.db"
    else:
        uri = request.getfixturevalue("postgres_cluster").new_database()
    opening = [start(OPENS, uri, str(each)) for each in range(4)]

    answers = [each.stdin.close() or each for each in opening]
    identities = {each.stdout.read().strip() for each in answers}
    codes = [each.wait() for each in opening]
    for each in opening:
        each.stdout.close()

    assert codes == [0, 0, 0, 0]
    assert len(identities) == 1
    with connect(uri) as registry:
        assert [each.name for each in registry.search_registered_models()] == ["m0", "m1", "m2", "m3"]
    if kind == "sqlite":
        assert {each.name for each in tmp_path.iterdir()} == {"r.db"}


FILLS = """
import resource, sys
from registry.connection import connect
from registry.errors import Unavailable
client = connect(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
made = 0
try:
    while made < 1000:
        client.create_registered_model(f"m{made:04}", description="x" * 5000)
        made += 1
except Unavailable as refusal:
    found = client.search_registered_models(max_results=1000)
    assert [each.name for each in found] == [f"m{each:04}" for each in range(made)], refusal
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
client.create_registered_model("after")
print(made)
"""
OLD_SQLITE = """
import sys, threading
sys.modules["pysqlite3"] = None
from registry.connection import connect
client = connect(sys.argv[1])
cursor = client.cursor()
thread = threading.Thread(target=client.create_registered_model, args=["wine"])
thread.start()
assert client.wait(cursor, 60) != cursor
thread.join()
print(client.search_registered_models("name LIKE 'w%' AND name ILIKE 'WINE'")[0].name)
client.close()
"""


def test_tf138_a_full_disk(tmp_path):
    """When no more can be written a change is Unavailable and leaves nothing, reads go on, and room heals it."""
    with start(FILLS, f"sqlite:///{tmp_path}/r.db") as filling:
        made = int(filling.stdout.readline())

    assert 0 < made < 1000
    with connect(f"sqlite:///{tmp_path}/r.db") as registry:
        assert len(registry.search_registered_models(max_results=1000)) == made + 1


def test_pythons_own_sqlite_serves_too(tmp_path):
    """Without pysqlite3 the registry works on Python's SQLite, whatever its version."""
    with start(OLD_SQLITE, f"sqlite:///{tmp_path}/r.db") as running:
        assert running.stdout.readline() == "wine\n"

    assert running.returncode == 0
