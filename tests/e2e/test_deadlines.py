"""A request's own deadline in a real gateway: 504 in time, no work for nobody, and no harm to others."""

import threading
import time

import psutil
import pytest

from tests.e2e.gateways import behaving, eventually


@pytest.fixture
def busy(champion, serve):
    """A gateway whose only replica works on a request, and the thread that waits for its answer."""

    def busy(seconds, *flags):
        gateway = serve(*flags).ready()
        thread = threading.Thread(target=gateway.ask, args=(f"sleep {seconds}",))
        thread.start()
        eventually(gateway.is_busy, "the replica is busy")
        return gateway, thread

    return busy


def ask(gateway, word, patience, **attributes):
    return gateway.ask(word, headers={"X-Request-Timeout": patience}, **attributes)


def test_a_short_patience_is_504_and_costs_no_replica(champion, serve):
    """The caller hears in time; the replica that it gave up on answers the next."""
    gateway = serve().ready()
    (pid,) = gateway.ask("pid").json()["predictions"]

    answer = ask(gateway, "sleep 1", "100ms")

    assert (answer.status_code, answer.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
    assert answer.json()["message"] == (
        "version 1 of endpoint 'm' did not answer within its X-Request-Timeout of 0.1 s"
    )
    assert gateway.ask("pid").json()["predictions"] == [pid]


def test_tf114_what_expires_in_the_line_is_never_begun(busy):
    """It is answered 504 while the replica is busy, and the model does not see it afterwards."""
    gateway, first = busy(2)

    answer = ask(gateway, "print", "0.1")

    assert first.is_alive()
    assert (answer.status_code, answer.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")
    first.join()
    assert gateway.ask().status_code == 200
    assert "the model says hello" not in gateway.log()
    assert 'outcome="deadline"' in gateway.client.get("/metrics").text


def test_nobody_waits_longer_than_the_endpoint_allows(champion, serve):
    """A longer patience changes nothing: 504 at the predict_timeout, and the replica is replaced."""
    gateway = serve("--predict-timeout", "1s").ready()
    (pid,) = gateway.ask("pid").json()["predictions"]

    answer = ask(gateway, "hang", "1h")

    assert answer.status_code == 504
    assert "its predict_timeout of 1 s" in answer.json()["message"]
    assert eventually(lambda: gateway.ask("pid").json().get("predictions"), "a new replica") != [pid]


def test_a_replica_that_all_gave_up_on_is_still_ended_at_the_predict_timeout(champion, serve):
    """Callers with little patience do not keep a hung replica alive."""
    gateway = serve("--predict-timeout", "1s").ready()
    (pid,) = gateway.ask("pid").json()["predictions"]

    assert ask(gateway, "hang", "50ms").status_code == 504
    assert ask(gateway, "nothing", "50ms").status_code == 504

    eventually(lambda: not psutil.pid_exists(pid), "it is ended, though nobody asks")
    assert eventually(lambda: gateway.ask("pid").json().get("predictions"), "a new replica") != [pid]


def test_tf113_what_would_come_too_late_is_refused_at_once(busy):
    """A request with less time than the line in front of it takes is 429, with the time after which to try again."""
    gateway, first = busy(0.5)
    first.join()
    for _ in range(3):
        gateway.ask("sleep 0.5")
    others = [threading.Thread(target=gateway.ask, args=("sleep 0.5",)) for _ in range(4)]
    for each in others:
        each.start()
    eventually(lambda: 'requests_waiting{endpoint="m"} 3' in gateway.client.get("/metrics").text, "a line")

    answer = ask(gateway, "print", "150ms")

    for each in others:
        each.join()
    assert (answer.status_code, answer.json()["error_code"]) == (429, "REQUEST_LIMIT_EXCEEDED")
    assert "and this one has" in answer.json()["message"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert "the model says hello" not in gateway.log()


def test_an_endpoint_that_sleeps_is_waited_for_no_longer(client, add, serve):
    """504 while the model is being loaded, which goes on: a later request finds it up."""
    client.set_registered_model_alias("m", "champion", add(behaving(1, on_load="sleep 2")))
    gateway = serve("--lazy")
    eventually(lambda: gateway.status()["state"] == "idle", "it is known, and not loaded")

    answer = ask(gateway, "nothing", "200ms")

    assert answer.status_code == 504
    assert "was not loaded within its X-Request-Timeout of 0.2 s" in answer.json()["message"]
    assert gateway.ask().json() == {"predictions": [1]}


def test_a_body_that_is_not_there_in_time_is_504(champion, serve):
    """The deadline counts from the headers; the rest of the body is not waited for."""
    gateway = serve().ready()

    def body():
        yield b'{"dataframe_records": '
        time.sleep(1)
        yield b"[]}"

    headers = {"X-Request-Timeout": "200ms", "Content-Type": "application/json"}
    answer = gateway.client.post("/invocations", content=body(), headers=headers)

    assert (answer.status_code, answer.headers["Connection"]) == (504, "close")
    assert "the body was not sent within its X-Request-Timeout" in answer.json()["message"]


@pytest.mark.parametrize("patience", ["soon", "0s", "-1", "10 parsecs"])
def test_a_patience_that_cannot_be_read_is_400(champion, serve, patience):
    """The answer says what would do."""
    answer = ask(serve().ready(), "nothing", patience)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "BAD_REQUEST")
    assert "such as 250ms" in answer.json()["message"]
