"""Requests joined by a real gateway: the same answers, one bad request alone, and `/status` that says which way."""

import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy
import pandas
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

import registry
from tests.e2e.gateways import eventually

RANDOM = numpy.random.RandomState(7)
DATA = pandas.DataFrame(RANDOM.rand(60, 3), columns=["a", "b", "c"])
TARGET = DATA.to_numpy() @ [1.0, -2.0, 3.0]
FOREST = RandomForestRegressor(50, random_state=0).fit(DATA, TARGET)
CLASSES = RandomForestClassifier(50, random_state=0).fit(DATA, numpy.where(TARGET > 0.8, "high", "low"))
TOO_LARGE = 1e300  # for a tree's 32 bits: scikit-learn refuses it


def body(table):
    return {"dataframe_split": {"columns": list(table.columns), "data": table.to_numpy().tolist()}}


@pytest.fixture
def served(serve, add, client):
    """Serve a model and wait for its proof; gives the gateway and the primary's entry in `/status`."""

    def served(model, *flags, tag=None):
        version = add(model, signature=registry.infer_signature(DATA), input_example=DATA.head(3))
        if tag:
            client.set_model_version_tag("m", version, "turnout.batch", tag)
        client.set_registered_model_alias("m", "champion", version)
        gateway = serve(*flags).ready()

        def proven():
            row = gateway.status()["versions"][0]
            return row["proof"] is not None and row

        return gateway, eventually(proven, "a proof")

    return served


def ask_together(gateway, bodies):
    """All at once, each on a connection of its own."""
    together = threading.Barrier(len(bodies))

    def ask(each):
        together.wait(30)
        return gateway.client.post("/invocations", json=each)

    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(ask, bodies))


@pytest.mark.parametrize("model", [FOREST, CLASSES], ids=["numbers", "labels"])
def test_everybody_gets_the_answers_to_their_own_rows(served, model):
    """Requests of one to five rows at once, several times over; numbers come in one array, labels in parts."""
    gateway, row = served(model)
    tables = [DATA.iloc[at : at + 1 + at % 5] for at in range(24)]

    for _ in range(5):
        for table, answer in zip(tables, ask_together(gateway, [body(each) for each in tables]), strict=True):
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"predictions": model.predict(table).tolist()}

    assert row["path"].endswith("array+batch")
    assert row["proof"].startswith("equal; ")


def test_one_bad_request_fails_alone(served):
    """The refused one gets what it gets when nobody else asks, and the others their answers."""
    gateway, _ = served(FOREST)
    bad = body(DATA.head(1).assign(a=TOO_LARGE))
    alone = gateway.client.post("/invocations", json=bad)
    bodies = [bad if at % 4 == 0 else body(DATA.iloc[at : at + 1]) for at in range(16)]

    for _ in range(5):
        for at, answer in enumerate(ask_together(gateway, bodies)):
            if at % 4 == 0:
                assert (answer.status_code, answer.json()) == (400, alone.json())
            else:
                assert answer.json() == {"predictions": FOREST.predict(DATA.iloc[at : at + 1]).tolist()}
    assert "too large" in alone.json()["message"]


class Whole(registry.PythonModel):
    """Tells how many rows it was shown."""

    def predict(self, context, model_input, params=None):
        return numpy.full(len(model_input), float(len(model_input)))


def test_a_model_that_sees_its_neighbours_is_never_joined(served):
    """Its author may claim what he likes: every request sees its own rows only."""
    gateway, row = served(Whole(), tag="on")
    answers = ask_together(gateway, [body(DATA.head(1 + at % 3)) for at in range(24)])

    assert [each.json()["predictions"][0] for each in answers] == [1.0 + at % 3 for at in range(24)]
    assert row["path"] == "plain"
    assert "otherwise" in row["proof"]


def test_a_replica_that_is_replaced_proves_again(served):
    """After a kill the new one answers alike, and the version is joined as before."""
    gateway, _ = served(FOREST)
    for each in gateway.replicas():
        each.kill()
    bodies = [body(DATA.iloc[at : at + 1]) for at in range(8)]

    def all_answered():
        answers = ask_together(gateway, bodies)
        return all(each.status_code == 200 for each in answers) and answers

    answers = eventually(all_answered, "answers of the new replica")
    assert [each.json()["predictions"] for each in answers] == [
        FOREST.predict(DATA.iloc[at : at + 1]).tolist() for at in range(8)
    ]
    eventually(lambda: gateway.log().count("equal") >= 2, "a second proof in the log")


class Pausing(registry.PythonModel):
    """Stands still where `a` is 25, and prints where."""

    def predict(self, context, model_input, params=None):
        import os
        import time

        if (model_input["a"] == 25).any():
            print("stands still in", os.getpid())
            time.sleep(25)
        return model_input["b"].to_numpy()


def test_whoever_waits_goes_to_a_replica_that_is_up_again(served):
    """Though the other one is at work for long, and nobody else comes."""
    gateway, row = served(Pausing(), "--replicas", "2", "--batch", "on")
    assert row["path"].endswith("+batch")
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(gateway.client.post, "/invocations", json=body(DATA.head(1).assign(a=25.0)))
        busy = int(eventually(lambda: re.search(r"stands still in (\d+)", gateway.log()), "one is at work")[1])
        for _ in range(4):  # so often that there is a pause before the next is brought up
            (idle,) = eventually(lambda: [each for each in gateway.replicas() if each.pid != busy], "the other is up")
            idle.kill()
            idle.wait(30)
        eventually(lambda: gateway.status()["versions"][0]["replicas"] == 1, "the gateway knows")

        answer = gateway.client.post("/invocations", json=body(DATA.head(1)))

        assert answer.json() == {"predictions": DATA["b"].head(1).tolist()}
        assert not slow.done()
        os.kill(busy, signal.SIGKILL)


def test_told_not_to(served):
    """`--batch off` leaves every request alone, and `/status` says why."""
    _, row = served(FOREST, "--batch", "off", "--accelerate", "off")

    assert (row["path"], row["proof"]) == ("plain", "batching is off")


def test_nobody_waits_where_nobody_may(served):
    """With `--max-queue 0` whoever finds the model busy is refused at once, joined requests or not."""
    gateway, row = served(FOREST, "--max-queue", "0")

    def some_refused():
        answers = ask_together(gateway, [body(DATA)] * 24)
        assert {each.status_code for each in answers} <= {200, 429}
        waiting = "0 requests waiting, of max_queue 0"
        return any(each.status_code == 429 and waiting in each.text for each in answers)

    assert row["path"].endswith("array+batch")
    eventually(some_refused, "a refusal")
