"""More models than memory: loaded when they are asked for, put to sleep when others need the room."""

import threading

import pytest

from tests.e2e.gateways import behaving, eventually

COUNT = 6
BALLAST = 32 << 20  # so much that what else a process holds makes no difference


@pytest.fixture
def many(client, add):
    """So many registered models, each with a version that answers its own number."""
    names = [f"m{number}" for number in range(COUNT)]
    for number, name in enumerate(names):
        model = behaving(number)
        model.ballast = bytes(BALLAST)
        client.set_registered_model_alias(name, "champion", add(model, name=name))
    return names


def references(names):
    return tuple(f"models:/{name}@champion" for name in names)


def ask(gateway, name, word="nothing"):
    return gateway.ask(word, path=f"/endpoints/{name}/invocations")


def states(gateway):
    return {each["name"]: each["state"] for each in gateway.client.get("/status").json()["endpoints"]}


def awake(gateway):
    return {name for name, state in states(gateway).items() if state != "idle"}


def test_a_lazy_model_is_loaded_by_the_first_request(serve, many):
    """Nothing runs before, the gateway is ready all the same, and the first request waits for its answer."""
    gateway = serve("--lazy", models=references(many)).ready()
    before = gateway.replicas()

    answer = ask(gateway, "m3")

    assert before == []
    assert answer.json() == {"predictions": [3]}
    assert awake(gateway) == {"m3"}
    assert len(gateway.replicas()) == 1


def test_requests_that_come_together_load_a_model_once(serve, many):
    """All of them are answered by the one load."""
    gateway = serve("--lazy", models=references(many)).ready()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(ask(gateway, "m1"))) for _ in range(12)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert [each.json() for each in answers] == [{"predictions": [1]}] * 12
    assert gateway.log().count("serving endpoint=m1") == 1


def test_an_alias_that_moves_while_its_model_sleeps_is_followed(serve, many, add, client):
    """The first request is answered by the version that the alias points at then."""
    gateway = serve("--lazy", models=references(many)).ready()
    client.set_registered_model_alias("m0", "champion", add(behaving(7), name="m0"))
    before = gateway.client.get("/status").json()["registry"]["last_seen"]
    eventually(lambda: gateway.client.get("/status").json()["registry"]["last_seen"] != before, "the gateway looks")

    answer = eventually(lambda: (got := ask(gateway, "m0")).headers["X-Model-Version"] == "2" and got, "version 2")

    assert answer.json() == {"predictions": [7]}


def test_a_lazy_model_that_cannot_be_loaded_says_why_to_all_who_wait(serve, add, client):
    """Who asks in the pause after it hears at once; the next request after the pause tries again."""
    client.set_registered_model_alias("bad", "champion", add(behaving(1, on_load="raise"), name="bad"))
    gateway = serve("--lazy", models=references(["bad"])).ready()

    answer = ask(gateway, "bad")
    again = ask(gateway, "bad")

    assert (answer.status_code, again.status_code) == (503, 503)
    assert "bad luck" in answer.json()["message"]
    assert answer.headers["Retry-After"]
    assert states(gateway) == {"bad": "failed"}
    eventually(lambda: states(gateway) == {"bad": "idle"}, "it may be tried again")


def test_the_least_recently_used_makes_room(serve, many):
    """Under a limit for two, the two that were used last are loaded, and every request is answered."""
    gateway = serve("--models-memory", f"{BALLAST * 3 - 1}B", models=references(many)).ready()

    answers = [ask(gateway, name).json() for name in [*many, "m0"]]

    assert answers == [{"predictions": [number]} for number in [*range(COUNT), 0]]
    assert awake(gateway) == {"m5", "m0"}
    eventually(lambda: len(gateway.replicas()) == 2, "the processes of the others are gone")
    assert "turnout_models_put_to_sleep_total 5.0" in gateway.client.get("/metrics").text


def test_a_model_in_use_is_never_put_to_sleep(serve, many):
    """Its request is answered, however many others need the room meanwhile."""
    gateway = serve("--models-memory", "1B", models=references(many)).ready()
    answers = []
    slow = threading.Thread(target=lambda: answers.append(ask(gateway, "m0", "sleep 3")))
    slow.start()
    eventually(gateway.is_busy, "the slow request is under way")

    others = [ask(gateway, name).json() for name in many[1:]]
    during = awake(gateway)
    slow.join()

    assert others == [{"predictions": [number]} for number in range(1, COUNT)]
    assert "m0" in during
    assert answers[0].json() == {"predictions": [0]}


def test_what_is_kept_warm_stays(serve, many, tmp_path):
    """Loaded at the start, whoever else needs the room."""
    path = tmp_path / "turnout.toml"
    sections = "".join(f'[endpoints.{name}]\nmodel = "models:/{name}@champion"\n' for name in many)
    path.write_text('[server]\nmodels_memory = "1B"\n' + sections.replace("[endpoints.m0]\n", WARM))
    gateway = serve("--config", str(path), models=()).ready()
    at_start = awake(gateway)

    for name in many[1:]:
        ask(gateway, name)

    assert at_start == {"m0"}
    assert "m0" in awake(gateway)


WARM = "[endpoints.m0]\nkeep_warm = true\n"
