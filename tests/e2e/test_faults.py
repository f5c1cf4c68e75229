"""What goes wrong, and what happens then: the old version serves, and the cause can be read."""

import contextlib
import os
import shutil
import signal
import sqlite3
import threading

import httpx2
import psutil
import pytest

import registry
from tests.e2e.gateways import behaving, eventually


def failure(gateway, version):
    """Wait for /status to tell of the failure of *version*; gives the message."""

    def told():
        error = gateway.status()["last_error"]
        return error if error and error["version"] == str(version) else None

    return eventually(told, f"version {version} fails; log:\n{gateway.log()[-2000:]}")["message"]


@pytest.mark.parametrize(
    ("on_load", "cause"),
    [
        ("raise", "ValueError: bad luck"),
        ("hang", "load_timeout of 5 s"),
        ("spin", "load_timeout of 5 s"),
        ("exit", "exited with status 3"),
        ("die", "killed by SIGKILL"),
        ("eat", "MemoryError"),
    ],
)
def test_tf104_a_version_that_cannot_load_leaves_the_old_one_serving(client, add, champion, serve, on_load, cause):
    """Whatever its load does, the old version answers, and /status and the log say why."""
    add(behaving(2, on_load))
    gateway = serve("--load-timeout", "5s", "--memory-limit", "1GiB").ready()

    client.set_registered_model_alias("m", "champion", "2")

    assert cause in failure(gateway, 2)
    assert gateway.status()["last_error"]["retry_in_s"] > 0
    assert cause in gateway.log()
    assert gateway.ask().json() == {"predictions": [1]}
    client.set_registered_model_alias("m", "champion", "1")
    eventually(lambda: gateway.status()["last_error"] is None, "moving back clears the error")
    eventually(lambda: len(gateway.replicas()) == 1, "nothing of the failed version is left running")


def test_a_failed_warm_up_leaves_the_old_one_serving(client, add, champion, serve):
    """A version that cannot predict on its own input example never takes traffic."""
    import pandas

    example = pandas.DataFrame({"do": ["nothing"]})
    add(behaving(2), input_example=example)
    add(behaving(3, "sour"), input_example=example, signature=registry.infer_signature(example))
    gateway = serve().ready()

    client.set_registered_model_alias("m", "champion", "3")

    assert "warm-up on the input example raised ValueError: gone sour" in failure(gateway, 3)
    assert gateway.ask().json() == {"predictions": [1]}
    client.set_registered_model_alias("m", "champion", "2")
    gateway.serves(2)


@pytest.mark.parametrize("damage", ["flip", "add", "remove", "all"])
def test_tf086_altered_files_are_never_loaded(client, add, champion, serve, tmp_path, damage):
    """A byte flipped, a file added or removed, or all of them gone: refused before anything is unpickled."""
    version = add(behaving(2))
    prefix = client.get_model_version_download_uri("m", version).removeprefix("mlflow-artifacts:/")
    files = tmp_path / "artifacts" / prefix
    pickled = next(files.rglob("*.pkl"))
    if damage == "flip":
        content = bytearray(pickled.read_bytes())
        content[len(content) // 2] ^= 1
        pickled.write_bytes(content)
    elif damage == "add":
        (files / "extra.py").write_text("print('planted')")
    elif damage == "remove":
        (files / "requirements.txt").unlink()
    else:
        shutil.rmtree(files)
    gateway = serve().ready()

    client.set_registered_model_alias("m", "champion", version)

    assert failure(gateway, version)
    assert gateway.ask().json() == {"predictions": [1]}


def test_tf102_a_mended_version_is_taken_at_the_next_try(client, add, champion, serve, tmp_path):
    """Retries back off, and the first that succeeds swaps."""
    version = add(behaving(2))
    prefix = client.get_model_version_download_uri("m", version).removeprefix("mlflow-artifacts:/")
    pickled = next((tmp_path / "artifacts" / prefix).rglob("*.pkl"))
    good = pickled.read_bytes()
    pickled.write_bytes(b"not what was registered")
    gateway = serve().ready()
    client.set_registered_model_alias("m", "champion", version)
    failure(gateway, version)

    pickled.write_bytes(good)

    gateway.serves(version)
    assert gateway.status()["last_error"] is None


def test_a_deleted_alias_leaves_what_is_served(client, champion, serve):
    """Deleting the alias is no command to unload; /status says what is missing."""
    gateway = serve().ready()

    client.delete_registered_model_alias("m", "champion")

    eventually(lambda: "champion" in str(gateway.status()["last_error"]), "the error is told")
    assert gateway.ask().json() == {"predictions": [1]}
    client.set_registered_model_alias("m", "champion", "1")
    eventually(lambda: gateway.status()["last_error"] is None, "setting it again clears the error")


def test_tf122_a_registry_that_is_gone_changes_nothing_and_is_taken_up_again(client, add, champion, serve, tmp_path):
    """The database file moves away and comes back with the alias moved: serving never stops, then catches up."""
    version = add(behaving(2))
    gateway = serve().ready()
    away = tmp_path / "away"
    away.mkdir()
    client.close()
    for name in ("turnout.db", "turnout.db-wal", "turnout.db-shm"):
        if (tmp_path / name).exists():
            (tmp_path / name).rename(away / name)
    eventually(lambda: gateway.client.get("/status").json()["registry"]["reachable"] is False, "it is missed")
    assert gateway.ask().json() == {"predictions": [1]}
    assert gateway.client.get("/ping").status_code == 200
    assert not (tmp_path / "turnout.db").exists()

    moved = registry.connect(f"sqlite:///{away}/turnout.db")
    moved.set_registered_model_alias("m", "champion", version)
    moved.close()
    for path in sorted(away.iterdir(), reverse=True):
        path.rename(tmp_path / path.name)

    gateway.serves(version)


def test_tf140_a_locked_registry_changes_nothing(client, champion, serve, tmp_path):
    """While another process holds the write lock, and after it, the same version answers."""
    gateway = serve().ready()
    lock = sqlite3.connect(tmp_path / "turnout.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")

    answers = [gateway.ask().json() for _ in range(20)]

    lock.execute("ROLLBACK")
    lock.close()
    assert answers == [{"predictions": [1]}] * 20


def test_tf123_a_gateway_starts_from_the_last_known_good_set(client, champion, serve, tmp_path):
    """With the registry away, a new gateway serves what the last one served, verified, and says that it is stale."""
    serve().ready().stop()
    client.close()
    (tmp_path / "turnout.db").rename(tmp_path / "away.db")

    gateway = serve().ready()

    assert gateway.ask().json() == {"predictions": [1]}
    assert gateway.status()["stale"] is True
    assert gateway.client.get("/status").json()["registry"]["reachable"] is False


def test_tf158_a_poisoned_cache_is_not_served(client, champion, serve, tmp_path):
    """Known-good files that were altered on disk are refused: nothing is served rather than something else."""
    serve().ready().stop()
    client.close()
    (tmp_path / "turnout.db").rename(tmp_path / "away.db")
    pickled = next((tmp_path / "cache").rglob("*.pkl"))
    os.chmod(pickled, 0o600)
    pickled.write_bytes(b"poison")

    gateway = serve()

    eventually(lambda: gateway.status()["state"] == "failed", "it is refused")
    assert gateway.client.get("/ping").status_code == 503
    assert gateway.ask().status_code == 503


def test_tf108_a_replica_that_dies_is_replaced(champion, serve):
    """The request that it worked on gets 503 with Retry-After; the next one is answered by another replica."""
    gateway = serve().ready()
    before = gateway.ask("pid").json()

    died = gateway.ask("die")
    after = gateway.ask("pid")

    assert died.status_code == 503
    assert died.headers["Retry-After"]
    assert died.json()["error_code"] == "TEMPORARILY_UNAVAILABLE"
    assert after.status_code == 200
    assert after.json() != before


def test_a_replica_killed_from_outside_costs_no_idle_client_anything(champion, serve):
    """kill -9 of an idle replica: the next requests wait for the new one and are answered."""
    gateway = serve().ready()
    (pid,) = gateway.ask("pid").json()["predictions"]

    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid), "it is reaped")

    assert [gateway.ask().status_code for _ in range(10)] == [200] * 10


def test_tf106_a_hung_prediction_is_ended_at_its_deadline(champion, serve):
    """The caller gets 504, the replica is replaced, the next caller is answered."""
    gateway = serve("--predict-timeout", "1s").ready()

    hung = gateway.ask("spin")

    assert hung.status_code == 504
    assert hung.json()["error_code"] == "DEADLINE_EXCEEDED"
    assert gateway.ask().json() == {"predictions": [1]}


def test_an_exception_in_the_model_is_400_without_a_trace(champion, serve):
    """As in MLflow; the trace is in the log, with endpoint and version."""
    gateway = serve().ready()

    answer = gateway.ask("raise")

    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert "bad luck" in answer.json()["message"]
    assert "Traceback" not in answer.text
    eventually(lambda: "Traceback" in gateway.log(), "the trace is logged")


def test_what_the_model_prints_is_in_the_log_with_its_version(champion, serve):
    """Standard output of a replica comes out as log lines that name endpoint and version."""
    gateway = serve("--log-format", "json").ready()

    gateway.ask("print")

    line = eventually(
        lambda: next((each for each in gateway.log().splitlines() if "says hello" in each), None), "the line"
    )
    assert '"endpoint": "m"' in line
    assert '"version": "1"' in line


def test_tf118_sigterm_finishes_what_runs_and_leaves_nothing(champion, serve):
    """A request in flight is answered, new ones are not taken, and the exit status is 0."""
    gateway = serve().ready()
    family = gateway.family()
    answers = []
    slow = threading.Thread(target=lambda: answers.append(gateway.ask("sleep 1").json()))
    slow.start()
    eventually(gateway.is_busy, "the request is under way")

    assert gateway.stop() == 0

    slow.join()
    assert answers == [{"predictions": [1]}]
    assert [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_process_is_left_behind(champion, serve, number):
    """After Ctrl-C and after SIGTERM the fork server and its replicas are gone."""
    gateway = serve().ready()
    family = gateway.family()
    assert len(family) == 2

    assert gateway.stop(number) == 0

    psutil.wait_procs(family, timeout=10)
    assert not any(each.is_running() for each in family)


def test_tf120_a_killed_gateway_leaves_no_orphan_even_one_that_spins(champion, serve):
    """SIGKILL: the kernel ends the fork server and a replica that is busy in native code."""
    gateway = serve().ready()
    family = gateway.family()
    spinning = threading.Thread(target=_ask_for_nothing, args=(gateway, "spin"))
    spinning.start()
    eventually(lambda: gateway.replicas()[0].cpu_percent(0.1) > 50, "the model spins")

    gateway.stop(signal.SIGKILL)

    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    spinning.join()


def _ask_for_nothing(gateway, word, path="/invocations"):
    with contextlib.suppress(httpx2.TransportError):
        gateway.ask(word, path)


def test_tf119_sigterm_while_a_version_loads_ends_in_time(client, add, champion, serve):
    """A load that hangs does not hold the gateway."""
    add(behaving(2, "hang"))
    gateway = serve().ready()
    client.set_registered_model_alias("m", "champion", "2")
    eventually(lambda: gateway.status()["state"] == "updating", "it is loading")

    assert gateway.stop() == 0


def test_tf109_a_crash_loop_backs_off_and_says_so(champion, serve):
    """A model that dies on every request is not restarted without end; callers get 503 quickly."""
    gateway = serve().ready()

    codes = [gateway.ask("die").status_code for _ in range(6)]

    assert set(codes) == {503}
    eventually(lambda: gateway.ask().status_code == 200, "it comes back after a pause")


def test_tf113_a_full_line_is_refused_quickly(champion, serve):
    """More than may wait: 429 with Retry-After at once; those in the line are answered."""
    gateway = serve("--max-queue", "2").ready()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(gateway.ask("sleep 0.5"))) for _ in range(12)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    codes = [answer.status_code for answer in answers]
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert set(codes) == {200, 429}
    assert codes.count(200) >= 3
    assert refused.headers["Retry-After"]
    assert refused.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"


def test_tf115_a_hung_endpoint_leaves_the_others_alone(client, add, champion, serve):
    """While one model hangs, another endpoint answers."""
    gateway = serve(models=("models:/m@champion", "other=models:/m/1")).ready()
    hanging = threading.Thread(target=_ask_for_nothing, args=(gateway, "hang", "/endpoints/m/invocations"))
    hanging.start()

    answers = [gateway.ask(path="/endpoints/other/invocations").status_code for _ in range(5)]

    gateway.stop(signal.SIGKILL)
    hanging.join()
    assert answers == [200] * 5


def test_the_fork_server_has_one_thread(champion, serve):
    """Forking a process that has threads is how locks stay locked for ever."""
    gateway = serve().ready()

    (fork_server,) = psutil.Process(gateway.process.pid).children()

    assert fork_server.num_threads() == 1


def test_replicas_draw_different_random_numbers(champion, serve):
    """Forks of one process do not share its generator's state."""
    gateway = serve().ready()
    first = gateway.ask("random").json()
    gateway.ask("die")

    assert gateway.ask("random").json() != first


def test_a_long_temporary_folder_is_no_obstacle(champion, serve, tmp_path):
    """A socket's path is short; TMPDIR need not be."""
    long = tmp_path / ("x" * 100)
    long.mkdir()

    gateway = serve(environment={"TMPDIR": str(long)}).ready()

    assert gateway.ask().status_code == 200
