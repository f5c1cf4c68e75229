"""Several ingress processes in front of the same replicas: whichever takes a request, the answer is the same."""

import http.client
import json
import os
import signal
import threading
from contextlib import ExitStack, closing

import psutil
import pytest

from tests.e2e.gateways import Clients, behaving, eventually

COUNT = 3
PAGES = ("/ping", "/version", "/metrics", "/docs", "/openapi.json", "/v2/models/m", "/v2/health/ready", "/no")


class Connection(http.client.HTTPConnection):
    """One kept-alive connection, which stays with the process that took it."""

    def __init__(self, gateway):
        super().__init__("127.0.0.1", gateway.client.base_url.port, timeout=60)

    def ask(self, word="nothing", path="/invocations"):
        """A prediction: the status, the version, and what was said."""
        self.request(
            "POST", path, json.dumps({"dataframe_records": [{"do": word}]}), {"content-type": "application/json"}
        )
        answer = self.getresponse()
        return answer.status, answer.headers["X-Model-Version"], json.loads(answer.read())

    def get(self, path):
        self.request("GET", path)
        answer = self.getresponse()
        return answer.status, answer.read()

    def owner(self, gateway):
        """The process that has the other end."""
        self.get("/version")
        port = self.sock.getsockname()[1]
        (owner,) = (pid for pid in workers(gateway) if port in peers(pid))
        return owner


def workers(gateway):
    """The processes that take requests, the leader first."""
    return [each["pid"] for each in gateway.client.get("/status").json()["http_workers"]]


def peers(pid):
    """The ports of the clients that are connected to that process."""
    return {each.raddr.port for each in psutil.Process(pid).net_connections("tcp") if each.raddr}


def all_serve(gateway):
    """Wait until every process takes requests."""
    eventually(lambda: len(workers(gateway)) == COUNT, f"all processes serve; log:\n{gateway.log()}")
    return gateway


def one_each(gateway, stack):
    """A connection to each process, by its number."""
    found = {}
    wanted = set(workers(gateway))
    for _ in range(200):
        connection = stack.enter_context(closing(Connection(gateway)))
        found.setdefault(connection.owner(gateway), connection)
        if found.keys() >= wanted:
            return {pid: found[pid] for pid in workers(gateway)}
    pytest.fail(f"of 200 connections none went to {wanted - found.keys()}")
    return found


@pytest.fixture
def gateway(champion, serve):
    """Three processes, one replica, version 1."""
    return all_serve(serve("--http-workers", str(COUNT)).ready())


def test_every_process_answers_alike(gateway):
    """Connections are spread over the processes, and each answers predictions and everything else."""
    with ExitStack() as stack:
        connections = one_each(gateway, stack)

        answers = [each.ask() for each in connections.values()]
        pages = {path: {each.get(path)[0] for each in connections.values()} for path in PAGES}
        refused = {each.get("/invocations")[0] for each in connections.values()}
        epochs = {each.get("/status")[1].count(b'"epoch":1') for each in connections.values()}

    assert len(connections) == COUNT
    assert answers == [(200, "1", {"predictions": [1]})] * COUNT
    assert pages == {path: {200} for path in PAGES} | {"/no": {404}}
    assert refused == {405}
    assert epochs == {1 + COUNT}
    assert len(gateway.replicas()) == 1


def test_no_request_is_lost_while_the_alias_moves(client, add, gateway):
    """Under load every answer is right, and after /status says so no process gives one of the old version."""
    add(behaving(2))
    clients = Clients(gateway, 6)
    late = []

    with ExitStack() as stack:
        connections = one_each(gateway, stack)
        for move in range(12):
            version = str(2 - move % 2)
            client.set_registered_model_alias("m", "champion", version)
            gateway.serves(version)
            late += [(version, each.ask()[1]) for each in connections.values() for _ in range(2)]

    clients.stop()
    assert clients.wrong == []
    assert clients.versions == {"1", "2"}
    assert clients.answered > 50
    assert [pair for pair in late if pair[0] != pair[1]] == []
    assert {each["epoch"] for each in gateway.client.get("/status").json()["http_workers"]} == {13}


def test_an_old_version_stays_open_for_a_request_in_any_process(client, add, gateway):
    """A prediction that a member has begun finishes on the version that it began on, and then its replica goes."""
    add(behaving(2))
    answers = []
    with ExitStack() as stack:
        member = list(one_each(gateway, stack).values())[-1]
        slow = threading.Thread(target=lambda: answers.append(member.ask("sleep 2")))
        slow.start()
        eventually(gateway.is_busy, "the request is under way")

        client.set_registered_model_alias("m", "champion", "2")
        gateway.serves(2)
        slow.join()

    assert answers == [(200, "1", {"predictions": [1]})]
    eventually(lambda: len(gateway.status()["versions"]) == 1, "the old version is retired")
    eventually(lambda: len(gateway.replicas()) == 1, "its process is gone")


def test_a_member_that_is_killed_is_replaced(client, add, gateway):
    """Its own connections break, everything else goes on, and the next one serves what is current."""
    add(behaving(2))
    with ExitStack() as stack:
        connections = one_each(gateway, stack)
        leader, victim, other = connections
        os.kill(victim, signal.SIGKILL)
        clients = Clients(gateway, 4)
        client.set_registered_model_alias("m", "champion", "2")
        gateway.serves(2)

        with pytest.raises((http.client.HTTPException, ConnectionError)):
            connections[victim].ask()
        assert [connections[pid].ask()[:2] for pid in (leader, other)] == [(200, "2")] * 2
        all_serve(gateway)
        clients.stop()

        answers = {pid: each.ask() for pid, each in one_each(gateway, stack).items()}

    assert clients.wrong == []
    assert victim not in answers
    assert list(answers.values()) == [(200, "2", {"predictions": [2]})] * COUNT


def test_a_signal_that_has_no_name_ends_a_process_like_any_other(gateway):
    """A real-time signal to a member, or to a replica: what it ended is replaced, and the log names it by number."""
    number = signal.SIGRTMIN + 3
    _, victim, *_ = workers(gateway)
    (replica,) = gateway.replicas()

    os.kill(victim, number)
    eventually(lambda: victim not in workers(gateway), "the leader sees that it is gone")
    all_serve(gateway)
    os.kill(replica.pid, number)

    eventually(lambda: gateway.ask().status_code == 200 and gateway.replicas() != [replica], "it is replaced")
    assert gateway.log().count(f"was killed by signal {number}") >= 2


def test_a_member_that_hangs_holds_up_no_change(client, add, gateway):
    """It does not confirm, so it is ended, and the version is served by all that are left, and by the next."""
    add(behaving(2))
    with ExitStack() as stack:
        connections = one_each(gateway, stack)
        leader, victim, other = connections
        os.kill(victim, signal.SIGSTOP)

        client.set_registered_model_alias("m", "champion", "2")
        eventually(lambda: connections[leader].ask()[1] == "2", "the leader serves it")

        assert connections[other].ask()[:2] == (200, "2")
        eventually(lambda: len(json.loads(connections[other].get("/status")[1])["http_workers"]) == COUNT, "all serve")
        assert victim not in workers(gateway)
        assert {each.ask()[:2] for each in one_each(gateway, stack).values()} == {(200, "2")}


def test_a_replica_that_dies_is_replaced_for_all(gateway):
    """Each process asks the new one."""
    with ExitStack() as stack:
        connections = one_each(gateway, stack)
        (before,) = connections[workers(gateway)[0]].ask("pid")[2]["predictions"]
        os.kill(before, signal.SIGKILL)

        after = {
            eventually(lambda each=each: (found := each.ask("pid"))[0] == 200 and found, "an answer")[2]["predictions"][
                0
            ]
            for each in connections.values()
        }

    assert len(after) == 1
    assert before not in after


def test_a_replica_that_dies_fails_only_the_request_that_it_worked_on(gateway):
    """What waited behind it, in whichever process, goes to the next replica."""
    with ExitStack() as stack:
        first, *others = one_each(gateway, stack).values()
        answers = []
        slow = threading.Thread(target=lambda: answers.append(first.ask("sleep 30")))
        slow.start()
        eventually(gateway.is_busy, "the request is under way")
        waiting = [threading.Thread(target=lambda each=each: answers.append(each.ask())) for each in others]
        for each in waiting:
            each.start()
        eventually(lambda: 'turnout_requests_in_flight{endpoint="m"} 3.0' in gateway.client.get("/metrics").text, "3")

        os.kill(gateway.replicas()[0].pid, signal.SIGKILL)
        for each in (slow, *waiting):
            each.join()

    assert sorted(status for status, _, _ in answers) == [200, 200, 503]


def test_while_no_replica_is_up_every_process_says_so(client, add, serve):
    """Replicas that die again and again are brought up with pauses, and in a pause nobody waits."""
    client.set_registered_model_alias("m", "champion", add(behaving(1)))
    gateway = all_serve(serve("--http-workers", str(COUNT)).ready())
    with ExitStack() as stack:
        connections = one_each(gateway, stack).values()

        def refused():
            gateway.ask("die")
            answers = [each.ask() for each in connections]
            return {status for status, _, _ in answers} == {503} and answers

        assert all("SIGKILL" in text["message"] for _, _, text in eventually(refused, "nothing is up"))
        for each in connections:
            eventually(lambda each=each: each.ask()[0] == 200, "it is up again")


def test_an_overrun_in_any_process_is_answered_504_and_the_replica_replaced(champion, serve):
    """The process that waited says so; the replica is another one for everybody."""
    gateway = all_serve(serve("--http-workers", str(COUNT), "--predict-timeout", "2s").ready())
    (before,) = gateway.ask("pid").json()["predictions"]
    with ExitStack() as stack:
        connections = one_each(gateway, stack)

        overrun = list(connections.values())[-1].ask("hang")

        assert overrun[0] == 504
        assert "predict_timeout" in overrun[2]["message"]
        for each in connections.values():
            after = eventually(lambda each=each: (found := each.ask("pid"))[0] == 200 and found, "an answer")
            assert after[2]["predictions"] != [before]
    assert "overran its predict_timeout" in gateway.log()


def test_a_replica_that_stands_still_between_two_requests_is_replaced(champion, serve):
    """It has been sent one and does not begin it: that is an overrun too, whichever process it was sent from."""
    gateway = all_serve(serve("--http-workers", str(COUNT), "--predict-timeout", "2s").ready())
    with ExitStack() as stack:
        for each in one_each(gateway, stack).values():
            (before,) = eventually(lambda each=each: (found := each.ask("pid"))[0] == 200 and found, "an answer")[2][
                "predictions"
            ]
            os.kill(before, signal.SIGSTOP)

            assert each.ask()[0] == 504
            eventually(lambda before=before: not psutil.pid_exists(before), "it is ended")


def test_waiting_behind_others_is_no_overrun(champion, serve):
    """A request that waited for its whole time behind other processes' is answered 504, and the replica stays."""
    gateway = all_serve(serve("--http-workers", str(COUNT), "--predict-timeout", "3s").ready())
    (before,) = gateway.ask("pid").json()["predictions"]
    answers = []
    with ExitStack() as stack:
        connections = one_each(gateway, stack).values()
        threads = [
            threading.Thread(target=lambda each=each: answers.append(each.ask("sleep 2"))) for each in connections
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    assert sorted(status for status, _, _ in answers) == [200, 504, 504]
    eventually(lambda: gateway.ask("pid").status_code == 200, "it answers again")
    assert gateway.ask("pid").json()["predictions"] == [before]


def test_sigterm_lets_every_process_finish(gateway):
    """Requests that are under way anywhere are answered, then all processes end."""
    family = gateway.family()
    answers = []
    with ExitStack() as stack:
        connections = one_each(gateway, stack).values()
        threads = [
            threading.Thread(target=lambda each=each: answers.append(each.ask("sleep 1"))) for each in connections
        ]
        for each in threads:
            each.start()
        eventually(lambda: 'turnout_requests_in_flight{endpoint="m"} 3.0' in gateway.client.get("/metrics").text, "3")

        status = gateway.stop()
        for each in threads:
            each.join()

    assert status == 0
    assert answers == [(200, "1", {"predictions": [1]})] * COUNT
    assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_leader_leaves_no_process(gateway):
    """Members and replicas end with it."""
    family = gateway.family()

    gateway.stop(signal.SIGKILL)

    eventually(lambda: not [each for each in family if each.is_running()], "all are gone")


def test_a_sleeping_model_is_loaded_through_any_process(champion, serve):
    """`--lazy`: requests that come together to all processes load it once."""
    gateway = all_serve(serve("--http-workers", str(COUNT), "--lazy").ready())
    answers = []
    with ExitStack() as stack:
        connections = one_each(gateway, stack).values()
        assert gateway.replicas() == []
        threads = [threading.Thread(target=lambda each=each: answers.append(each.ask())) for each in connections]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    assert answers == [(200, "1", {"predictions": [1]})] * COUNT
    assert gateway.log().count("serving endpoint=m") == 1


def test_a_model_that_cannot_be_loaded_says_why_through_any_process(client, add, serve):
    """A request that waited for a sleeping model hears what went wrong, whichever process it came to."""
    client.set_registered_model_alias("m", "champion", add(behaving(1, on_load="raise")))
    gateway = all_serve(serve("--http-workers", str(COUNT), "--lazy").ready())
    with ExitStack() as stack:
        answers = [each.ask() for each in one_each(gateway, stack).values()]

    assert {status for status, _, _ in answers} == {503}
    assert all("bad luck" in said["message"] for _, _, said in answers)


def test_models_make_room_for_others_whichever_process_is_asked(client, add, serve):
    """`--models-memory` for one: each request is answered, and one that is under way in a member is never cut."""
    for number, name in enumerate(("a", "b")):
        client.set_registered_model_alias(name, "champion", add(behaving(number), name=name))
    models = ("models:/a@champion", "models:/b@champion")
    gateway = all_serve(serve("--http-workers", str(COUNT), "--models-memory", "1B", models=models).ready())
    answers = []
    with ExitStack() as stack:
        _, member, other = one_each(gateway, stack).values()
        slow = threading.Thread(target=lambda: answers.append(member.ask("sleep 2", "/endpoints/a/invocations")))
        slow.start()
        eventually(gateway.is_busy, "the slow request is under way")

        others = [other.ask(path=f"/endpoints/{name}/invocations")[2] for name in ("b", "b")]
        slow.join()
        again = [other.ask(path=f"/endpoints/{name}/invocations")[2] for name in ("a", "b", "a")]

    assert others == [{"predictions": [1]}] * 2
    assert answers == [(200, "1", {"predictions": [0]})]
    assert again == [{"predictions": [0]}, {"predictions": [1]}, {"predictions": [0]}]


def test_metrics_count_what_every_process_answers(gateway):
    """The predictions of all are one number, and so are the model's calls."""
    with ExitStack() as stack:
        for each in one_each(gateway, stack).values():
            for _ in range(5):
                each.ask()

        def metrics():
            return gateway.client.get("/metrics").text

        labels = 'endpoint="m",outcome="ok",role="primary",version="1"'
        eventually(lambda: f"turnout_predictions_total{{{labels}}} 15.0" in metrics(), f"15 predictions: {metrics()}")

        assert 'turnout_model_calls_total{endpoint="m",version="1"} 15.0' in metrics()
        assert f"turnout_http_workers {COUNT}.0" in metrics()


def test_endpoints_come_and_go_in_every_process(client, add, champion, serve, tmp_path):
    """A change of the configuration file is one for all."""
    path = tmp_path / "turnout.toml"
    path.write_text('[endpoints.one]\nmodel = "models:/m@champion"\n')
    gateway = all_serve(serve("--http-workers", str(COUNT), "--config", str(path), models=()).ready())
    with ExitStack() as stack:
        connections = one_each(gateway, stack).values()

        path.write_text('[endpoints.two]\nmodel = "models:/m@champion"\n')
        eventually(lambda: gateway.client.get("/endpoints/two/invocations").status_code == 405, "it is there")
        gateway.ready()
        new = [
            eventually(lambda each=each: each.ask(path="/endpoints/two/invocations")[0] == 200, "served")
            for each in connections
        ]
        old = [each.ask(path="/endpoints/one/invocations")[0] for each in connections]

    assert new == [True] * COUNT
    assert old == [404] * COUNT


def test_whoever_leaves_before_a_page_is_there_is_no_news(gateway):
    """The leader is slow to answer what a member has asked it; nothing of that is an error."""
    with ExitStack() as stack:
        leader, member, _ = connections = one_each(gateway, stack)
        os.kill(leader, signal.SIGSTOP)
        connections[member].request("GET", "/status")
        connections[member].close()
        os.kill(leader, signal.SIGCONT)

        for each in one_each(gateway, stack).values():
            assert each.get("/status")[0] == 200

    assert "Traceback" not in gateway.log()


def test_a_port_is_never_shared_with_another_gateway(gateway, serve):
    """A second one is refused, though the processes of one share their port among themselves."""
    import subprocess
    import sys

    port = str(gateway.client.base_url.port)
    second = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "-m", "models:/m@champion", "--port", port, "--http-workers", "2"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert second.returncode == 1
    assert "cannot listen" in second.stderr
