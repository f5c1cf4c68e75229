"""A tree ensemble served by treelite for small calls: every answer and every error is the model's own."""

import numpy
import pandas
import pytest
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from xgboost import XGBRegressor

import registry
from tests.e2e.gateways import eventually

RANDOM = numpy.random.RandomState(7)
DATA = pandas.DataFrame(RANDOM.rand(1200, 3), columns=["a", "b", "c"])
TARGET = DATA.to_numpy() @ [1.0, -2.0, 3.0]
TRAINING = DATA.head(200)
NUMBERS = RandomForestRegressor(50, random_state=0).fit(TRAINING, TARGET[:200])
LABELS = RandomForestClassifier(50, random_state=0).fit(TRAINING, numpy.where(TARGET[:200] > 0.8, "high", "low"))
BOOSTED = XGBRegressor(n_estimators=30, n_jobs=1).fit(TRAINING, TARGET[:200])


def body(table):
    columns = list(table.columns)
    rows = [[None if value != value else value for value in row] for row in table.to_numpy().tolist()]
    return {"dataframe_split": {"columns": columns, "data": rows}}


@pytest.fixture
def served(serve, add, client):
    """Serve a model and wait until its trees were tried; gives the gateway and the entry in `/status`."""

    def served(model, *flags):
        version = add(model, signature=registry.infer_signature(DATA), input_example=DATA.head(3))
        client.set_registered_model_alias("m", "champion", version)
        gateway = serve(*flags).ready()

        def primary():
            return gateway.status()["versions"][0]

        eventually(lambda: primary()["proof"], "a first proof")
        eventually(lambda: "being tried" not in primary()["proof"], "a proof of its trees")
        return gateway, primary()

    return served


@pytest.mark.parametrize("model", [NUMBERS, LABELS, BOOSTED], ids=["numbers", "labels", "xgboost"])
def test_answers_on_both_sides_of_the_crossing(served, model):
    """From one row to more than `/status` says treelite is the faster for, each answer is what the model gives."""
    gateway, row = served(model)
    quick, _, rest = row["path"].partition("+")
    most_rows = int(quick.removeprefix("treelite:"))

    assert rest == "array+batch"
    assert "trees equal on " in row["proof"]
    for count in sorted({1, 2, 3, 7, most_rows - 1, most_rows, most_rows + 1, 2 * most_rows} - {0}):
        table = DATA.iloc[100 : 100 + count]
        answer = gateway.client.post("/invocations", json=body(table))
        assert answer.json() == {"predictions": model.predict(table).tolist()}


@pytest.mark.parametrize("value", [None, 1e300, "much"])
def test_errors_are_those_of_the_plain_way(served, value):
    """Missing, too large or no number at all: status and words are as with `--accelerate off`."""
    bad = body(DATA.head(2))
    bad["dataframe_split"]["data"][1][0] = value
    quick, quick_row = served(LABELS)
    plain, plain_row = served(LABELS, "--accelerate", "off")

    answers = [each.client.post("/invocations", json=bad) for each in (quick, plain)]

    assert quick_row["path"].startswith("treelite:")
    assert (plain_row["path"], plain_row["proof"]) == ("plain+batch", "equal")
    assert answers[0].status_code == answers[1].status_code
    assert answers[0].json() == answers[1].json()


def test_one_thread(served):
    """A replica that asks treelite starts no thread for it."""
    gateway, row = served(NUMBERS)
    for _ in range(20):
        gateway.client.post("/invocations", json=body(DATA.head(64)))

    assert row["path"].startswith("treelite:")
    assert [each.num_threads() for each in gateway.replicas()] == [1]
