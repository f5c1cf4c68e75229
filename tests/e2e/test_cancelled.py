"""Clients that go away from a real gateway: what they waited for is not done, and nobody else notices."""

import contextlib
import json
import socket
import threading

import pandas
import pytest

import registry
from tests.e2e.gateways import eventually

ROWS_SOURCE = '''
import time

class Rows(Base):
    """Doubles `a`, row by row, after the longest pause that `pause` asks for; prints every `a` that it sees."""

    def predict(self, context, model_input, params=None):
        print("saw", *model_input["a"])
        if model_input["pause"].max() > 0:
            print("the model sleeps")
            time.sleep(model_input["pause"].max())
        return [float(2 * each) for each in model_input["a"]]
'''


class Caller:
    """A connection that asks, and may leave without its answer."""

    def __init__(self, gateway):
        url = gateway.client.base_url
        self.socket = socket.create_connection((url.host, url.port), timeout=30)

    def send(self, records, **more):
        body = json.dumps({"dataframe_records": records} | more).encode()
        head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.socket.sendall(head.encode() + b"\r\n\r\n" + body)

    def answers(self, count):
        """The bodies of so many answers."""
        data = b""
        while data.count(b"}") < count:
            part = self.socket.recv(65536)
            if not part:
                break
            data += part
        return [json.loads(each.rpartition(b"\r\n\r\n")[2]) for each in data.split(b"HTTP/1.1 200")[1:]]

    def close(self):
        self.socket.close()


def metric(gateway, name):
    text = gateway.client.get("/metrics").text
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name)), 0.0)


def waiting(gateway):
    return metric(gateway, "turnout_requests_waiting")


def cancelled(gateway):
    name = 'turnout_predictions_total{endpoint="m",outcome="cancelled",role="primary",version="1"}'
    return metric(gateway, name)


@contextlib.contextmanager
def busy(gateway, seconds):
    """While this lasts, the only replica works on a request."""
    before = gateway.log().count("the model sleeps")
    thread = threading.Thread(target=gateway.ask, args=(f"sleep {seconds}",))
    thread.start()
    eventually(lambda: gateway.log().count("the model sleeps") > before, "the replica is busy")
    yield thread
    thread.join()


def leave_by_closing(caller):
    caller.close()


def leave_by_resetting(caller):
    caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    caller.close()


def leave_by_half(caller):
    caller.socket.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("leave", [leave_by_closing, leave_by_resetting, leave_by_half])
def test_tf114_who_leaves_the_line_is_not_worked_for(champion, serve, leave):
    """The place is free while the replica is still busy, the model never sees the request, and it is counted."""
    gateway = serve().ready()
    gateway.ask("sleep 0.5")  # of a slow model none is on the way to the replica before its turn
    caller = Caller(gateway)
    with busy(gateway, 3) as first, contextlib.closing(caller):
        caller.send([{"do": "print"}])
        eventually(lambda: waiting(gateway) == 1, "it waits")

        leave(caller)

        eventually(lambda: waiting(gateway) == 0, "it left")
        assert first.is_alive()
        assert cancelled(gateway) == 1
    assert gateway.ask().status_code == 200
    assert "the model says hello" not in gateway.log()


def test_tf114_what_is_on_its_way_to_the_replica_is_not_worked_for(champion, serve):
    """A model that was quick has the next requests in its socket; who leaves then is not served either."""
    gateway = serve().ready()
    callers = [Caller(gateway) for _ in range(3)]
    for _ in range(30):
        gateway.ask()
    with busy(gateway, 2):
        for caller, word in zip(callers, ("sleep 0.5", "print", "nothing"), strict=True):
            caller.send([{"do": word}])
        eventually(lambda: metric(gateway, "turnout_requests_in_flight") == 4, "they are taken")
        assert waiting(gateway) == 0
    eventually(lambda: gateway.log().count("the model sleeps") == 2, "the one before it is begun")

    callers[1].close()

    assert len(callers[2].answers(1)) == 1
    assert cancelled(gateway) == 1
    assert "the model says hello" not in gateway.log()
    for caller in callers:
        caller.close()


def test_tf114_who_waits_behind_those_that_left_has_their_place(champion, serve):
    """When all that the replica had been sent are gone, it is not an answer that makes room."""
    gateway = serve().ready()
    for _ in range(30):
        gateway.ask()
    gone, stays = [Caller(gateway) for _ in range(4)], Caller(gateway)
    gone[0].send([{"do": "sleep 2"}])
    eventually(gateway.is_busy, "the replica is busy")
    for caller in gone[1:]:
        caller.send([{"do": "print"}])
    eventually(lambda: metric(gateway, "turnout_requests_in_flight") == 4, "all are on the way to the replica")
    stays.send([{"do": "nothing"}])
    eventually(lambda: waiting(gateway) == 1, "the last one waits")

    for caller in gone:
        caller.close()

    assert stays.answers(1) == [{"predictions": [1]}]
    stays.close()
    assert cancelled(gateway) == 4
    assert "the model says hello" not in gateway.log()


def test_tf114_a_large_request_leaves_too(champion, serve):
    """Though a body of that size pauses the reading of its connection."""
    gateway = serve().ready()
    gateway.ask("sleep 0.5")  # of a slow model none is on the way to the replica before its turn
    caller = Caller(gateway)
    with busy(gateway, 3) as first:
        caller.send([{"do": "print"}], params={"filling": "a" * 3_000_000})
        eventually(lambda: waiting(gateway) == 1, "it waits")

        caller.close()

        eventually(lambda: waiting(gateway) == 0, "it left")
        assert first.is_alive()


def test_tf114_who_leaves_a_batch_that_has_not_begun_is_not_in_it(client, add, serve):
    """The others go together as before and get their own answers."""
    namespace = {"__name__": "__main__", "Base": registry.PythonModel}
    exec(ROWS_SOURCE, namespace)
    example = pandas.DataFrame({"a": [1.0, 2.0, 3.0], "pause": [0.0, 0.0, 0.0]})
    version = add(namespace["Rows"](), signature=registry.infer_signature(example), input_example=example)
    client.set_registered_model_alias("m", "champion", version)
    gateway = serve("--batch", "on").ready()
    eventually(lambda: "batch" in gateway.status()["versions"][0]["path"], "requests are joined")
    callers = [Caller(gateway) for _ in range(4)]
    callers[0].send([{"a": 10.0, "pause": 3.0}])
    eventually(gateway.is_busy, "the replica is busy")
    for number, caller in enumerate(callers[1:], 20):
        caller.send([{"a": float(number), "pause": 0.0}])
        eventually(lambda number=number: waiting(gateway) == number - 19, "it waits")

    callers[2].close()

    eventually(lambda: waiting(gateway) == 2, "it left")
    assert cancelled(gateway) == 1
    found = [callers[at].answers(1)[0]["predictions"] for at in (0, 1, 3)]
    for caller in callers:
        caller.close()
    assert found == [[20.0], [40.0], [44.0]]
    eventually(lambda: "saw 20.0 22.0" in gateway.log(), "the two that stayed were joined")
    assert "21.0" not in gateway.log()


def test_who_leaves_while_the_model_works_harms_nobody(champion, serve):
    """The replica ends what it began, keeps its process and answers the next."""
    gateway = serve().ready()
    (pid,) = gateway.ask("pid").json()["predictions"]
    caller = Caller(gateway)
    caller.send([{"do": "sleep 1"}])
    eventually(gateway.is_busy, "the replica is busy")

    caller.close()

    assert gateway.ask("pid").json()["predictions"] == [pid]
    assert cancelled(gateway) == 1


def test_requests_that_come_together_are_answered_in_order(champion, serve):
    """Also when a connection is kept, used again and closed in between; nothing of it counts as cancelled."""
    gateway = serve().ready()
    for _ in range(2):
        with contextlib.closing(Caller(gateway)) as caller:
            caller.send([{"do": "nothing"}] * 2)
            caller.send([{"do": "sleep 0.1"}])
            caller.send([{"do": "nothing"}] * 3)
            assert [len(each["predictions"]) for each in caller.answers(3)] == [2, 1, 3]
            caller.send([{"do": "nothing"}])
            assert caller.answers(1) == [{"predictions": [1]}]

    assert cancelled(gateway) == 0


def test_a_gateway_forgets_those_who_left(champion, serve):
    """Many that come and go leave no request in flight and no line behind."""
    gateway = serve("--max-queue", "50").ready()
    with busy(gateway, 2):
        for _ in range(300):
            caller = Caller(gateway)
            caller.send([{"do": "print"}])
            caller.close()
        eventually(lambda: metric(gateway, "turnout_requests_in_flight") == 1, "only the first is left")

    assert gateway.ask().json() == {"predictions": [1]}
    assert "the model says hello" not in gateway.log()
    assert "Traceback" not in gateway.log()
