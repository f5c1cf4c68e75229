"""Hard cases that reviews found: each held up, killed or misled a gateway once."""

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pandas
import psutil
import pytest

import registry
from tests.e2e.gateways import behaving, eventually


def test_a_dead_replica_does_not_freeze_the_gateway(champion, serve):
    """Between a replica's death and the news of it, requests wait; the event loop goes on."""
    gateway = serve("--predict-timeout", "5s").ready()
    (pid,) = gateway.ask("pid").json()["predictions"]
    fork_server = psutil.Process(pid).parent()
    fork_server.suspend()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "it is dead and nobody was told")
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(gateway.ask().status_code))
    waiting.start()

    alive = [gateway.client.get("/version").status_code for _ in range(5)]

    fork_server.resume()
    waiting.join()
    assert alive == [200] * 5
    assert answers == [200]


def test_a_version_comes_up_where_no_core_is_idle(client, add, champion, serve, request):
    """Loading keeps to idle cores, so that nobody notices; where there are none, it gets a share all the same."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    request.addfinalizer(lambda: (spinning.kill(), spinning.wait()))
    gateway = serve()
    os.sched_setaffinity(0, cores)
    gateway.ready()

    client.set_registered_model_alias("m", "champion", add(behaving(2, on_load="burn 0.2")))

    eventually(lambda: gateway.ask().json() == {"predictions": [2]}, "the new version serves", 90)
    assert "no core is idle; loading again at low priority" in gateway.log()


def test_tf113_overload_kills_no_healthy_replica(champion, serve):
    """More than can be done in time is refused; the replica that works is left to work."""
    gateway = serve("--predict-timeout", "2s").ready()
    (pid,) = gateway.ask("pid").json()["predictions"]
    codes = []

    def ask_often():
        for _ in range(3):
            codes.append(gateway.ask("sleep 0.2").status_code)

    threads = [threading.Thread(target=ask_often) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(codes) <= {200, 429, 504}
    assert codes.count(200) >= 6
    assert gateway.ask("pid").json()["predictions"] == [pid]


def test_a_second_signal_ends_it_at_once(champion, serve):
    """Neither the notice nor a running request holds it then, and nothing is left behind."""
    gateway = serve("--shutdown-notice", "60s").ready()
    family = gateway.family()
    slow = threading.Thread(target=lambda: _ignore(lambda: gateway.ask("sleep 50")))
    slow.start()
    gateway.process.send_signal(signal.SIGTERM)
    eventually(lambda: gateway.client.get("/ping").status_code == 503, "it is not ready any more")

    assert gateway.stop(timeout=20) == 0

    slow.join()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


def test_tf118_what_outlasts_the_shutdown_timeout_gets_a_clean_error(champion, serve):
    """503 in the wire's shape, not a bare 500."""
    gateway = serve("--shutdown-timeout", "1s").ready()
    answers = []
    slow = threading.Thread(target=lambda: answers.append(gateway.ask("sleep 30")))
    slow.start()
    eventually(gateway.is_busy, "the request is under way")

    assert gateway.stop() == 0

    slow.join()
    assert answers[0].status_code == 503
    assert answers[0].json()["error_code"] == "TEMPORARILY_UNAVAILABLE"


def test_sigterm_to_every_process_drains_all_the_same(champion, serve):
    """Service managers signal the whole group; the request that runs is answered."""
    gateway = serve().ready()
    answers = []
    slow = threading.Thread(target=lambda: answers.append(gateway.ask("sleep 1").status_code))
    slow.start()
    eventually(gateway.is_busy, "the request is under way")

    for process in gateway.family():
        process.terminate()

    assert gateway.stop() == 0
    slow.join()
    assert answers == [200]


def test_what_a_model_started_ends_with_its_replica(champion, serve):
    """A child process of a model does not outlive it."""
    gateway = serve().ready()
    (pid,) = gateway.ask("child").json()["predictions"]
    assert psutil.pid_exists(pid)

    gateway.stop()

    eventually(lambda: not psutil.pid_exists(pid), "the child is gone")


def test_a_model_that_prints_without_end_holds_up_nobody(client, add, champion, serve):
    """Its output is read slowly; another endpoint answers, and the log says what was left out."""
    gateway = serve(models=("models:/m@champion", "other=models:/m/1")).ready()
    loud = threading.Thread(target=lambda: _ignore(lambda: gateway.ask("shout", "/endpoints/m/invocations")))
    loud.start()
    eventually(lambda: "more lines in this second" in gateway.log(), "the flood is cut")

    answers = [gateway.ask(path="/endpoints/other/invocations").status_code for _ in range(20)]

    gateway.stop(signal.SIGKILL)
    loud.join()
    assert answers == [200] * 20


def test_tf100_no_credential_reaches_a_model(champion, serve):
    """What looks like a secret by its name or its value is not in a replica's environment; the rest is."""
    secrets = {
        "TURNOUT_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "MY_DB_URL": "postgresql://u:sekret@h/d",
        "WEBHOOK_KEY": "x",
        "SOME_PASSWORD": "x",
    }
    gateway = serve(environment=secrets | {"HARMLESS": "x"}).ready()

    (names,) = gateway.ask("environment").json()["predictions"]

    assert "HARMLESS" in names
    assert not secrets.keys() & set(names)


def test_a_failed_fork_fails_one_load_only(client, add, champion, serve):
    """Where no process can be made, the new version fails; what serves goes on."""
    # root has no limit on processes
    resource = psutil.RLIMIT_NOFILE if os.getuid() == 0 else psutil.RLIMIT_NPROC
    add(behaving(2))
    gateway = serve().ready()
    (fork_server,) = psutil.Process(gateway.process.pid).children()
    before = fork_server.rlimit(resource)
    fork_server.rlimit(resource, (1, before[1]))

    client.set_registered_model_alias("m", "champion", "2")

    eventually(lambda: (gateway.status()["last_error"] or {}).get("version") == "2", "the load fails")
    assert gateway.ask().json() == {"predictions": [1]}
    fork_server.rlimit(resource, before)
    gateway.serves(2)


def test_tf121_one_broken_endpoint_leaves_the_gateway_ready(client, add, champion, serve):
    """Readiness is for the process; /status says which endpoint serves."""
    add(behaving(2, "raise"))

    gateway = serve(models=("models:/m@champion", "broken=models:/m/2"))

    eventually(lambda: gateway.status(1)["state"] == "failed", "the broken one is told")
    assert gateway.ready().ask(path="/endpoints/m/invocations").status_code == 200
    assert gateway.ask(path="/endpoints/broken/invocations").status_code == 503


def test_many_endpoints_start_together(client, add, champion, serve):
    """More spawns than the control socket holds at once come up without a retry."""
    names = [f"e{number}" for number in range(40)]

    gateway = serve(models=[f"{name}=models:/m@champion" for name in names]).ready()

    assert all(row["state"] == "serving" for row in gateway.client.get("/status").json()["endpoints"])
    assert "killed" not in gateway.log()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_no_obstacle(champion, tmp_path, closed):
    """Started by something that closes them, it ends as it should."""
    command = f"exec {sys.executable} -m gateway serve -m models:/m@champion --port 0 {closed}"
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        env=os.environ
        | {"TURNOUT_REGISTRY_URI": f"sqlite:///{tmp_path}/turnout.db"}
        | {"TURNOUT_CACHE": str(tmp_path / "cache")},
    )
    eventually(lambda: len(psutil.Process(process.pid).children(recursive=True)) == 2, "a replica is up")

    process.terminate()

    assert process.wait(30) == 0


def _ignore(work):
    try:
        work()
    except Exception as problem:
        print("ignored:", problem)


V2_INPUT = {"name": "do", "shape": [1], "datatype": "BYTES", "data": ["nothing"]}


@pytest.mark.parametrize(
    ("path", "name", "body"),
    [
        ("/invocations", "params", {"dataframe_records": [{"do": "nothing"}]}),
        ("/v2/models/m/infer", "parameters", {"inputs": [V2_INPUT]}),
    ],
)
def test_params_of_any_depth_take_nobodys_place(client, add, serve, path, name, body):
    """They are refused, also where they can just be read and not be passed on, and who waits behind is answered."""
    example = pandas.DataFrame({"do": ["nothing"]})
    signature = registry.infer_signature(example, [1], params={"k": "x"})
    client.set_registered_model_alias("m", "champion", add(behaving(1), signature=signature))
    gateway = serve("--batch", "off").ready()

    def nested(depth):
        text = json.dumps(body)[:-1] + f', "{name}": {{"k": {"[" * depth}{"]" * depth}}}}}'
        return gateway.client.post(path, content=text, headers={"content-type": "application/json"}, timeout=20)

    def are_waiting(count):
        return f'turnout_requests_waiting{{endpoint="m"}} {count:.1f}' in gateway.client.get("/metrics").text

    answers = {depth: nested(depth) for depth in range(900, 1000)}
    assert {each.status_code for each in answers.values()} == {400}
    too_deep = next(depth for depth, each in answers.items() if "params are nested too deeply" in each.text)
    gateway.ask("sleep 0.5")  # of a slow model none is on the way to the replica before its turn
    with ThreadPoolExecutor(3) as threads:
        slow = threads.submit(gateway.ask, "sleep 2")
        eventually(lambda: gateway.log().count("the model sleeps") == 2, "the replica is busy")
        refused = threads.submit(nested, too_deep)
        eventually(lambda: are_waiting(1), "it waits")
        behind = threads.submit(gateway.ask)
        eventually(lambda: are_waiting(2), "another one waits behind it")

    assert [each.result().status_code for each in (slow, refused, behind)] == [200, 400, 200]
