"""The main job: the alias moves, and nobody notices but by the answers."""

import threading

from tests.e2e.gateways import Clients, behaving, eventually


def test_tf103_no_request_is_lost_while_the_alias_moves(client, add, champion, serve):
    """Under load every answer is right, names its version, and after /status says so none comes from the old."""
    add(behaving(2))
    gateway = serve().ready()
    clients = Clients(gateway, 4)
    late = []

    for move in range(10):
        version = str(2 - move % 2)
        client.set_registered_model_alias("m", "champion", version)
        gateway.serves(version)
        late += [gateway.ask().headers["X-Model-Version"] for _ in range(3) if version]
        assert set(late[-3:]) == {version}

    clients.stop()
    assert clients.wrong == []
    assert clients.versions == {"1", "2"}
    assert clients.answered > 50


def test_a_running_prediction_finishes_on_the_version_it_began_on(client, add, champion, serve):
    """The old version drains: it stays open until its last request has been answered."""
    add(behaving(2))
    gateway = serve().ready()
    answers = []
    slow = threading.Thread(target=lambda: answers.append(gateway.ask("sleep 2")))
    slow.start()
    eventually(gateway.is_busy, "the request is under way")

    client.set_registered_model_alias("m", "champion", "2")
    gateway.serves(2)
    during = gateway.ask()
    slow.join()

    assert during.json() == {"predictions": [2]}
    assert answers[0].json() == {"predictions": [1]}
    assert answers[0].headers["X-Model-Version"] == "1"
    eventually(lambda: len(gateway.status()["versions"]) == 1, "the old version is retired")
    eventually(lambda: len(gateway.replicas()) == 1, "its process is gone")


def test_status_tells_the_move(client, add, champion, serve):
    """Who moved the alias, why, from where to where; the epoch rises."""
    add(behaving(2))
    gateway = serve().ready()
    before = gateway.client.get("/status").json()

    client.set_registered_model_alias("m", "champion", "2", reason="retrained on October")
    gateway.serves(2)

    status = gateway.client.get("/status").json()
    change = status["endpoints"][0]["last_change"]
    assert status["epoch"] == before["epoch"] + 1
    assert (change["from"], change["to"], change["reason"]) == ("1", "2", "retrained on October")
    assert change["by"]
    assert change["took_ms"] >= 0
    assert status["endpoints"][0]["versions"][0]["digest"].startswith("sha256:")


def test_the_last_of_many_quick_moves_wins(client, add, champion, serve):
    """Moves faster than a version loads are not all followed; the last one is."""
    add(behaving(2, "sleep 0.3"))
    add(behaving(3))
    gateway = serve().ready()

    for version in ("2", "1", "2", "1", "2", "3"):
        client.set_registered_model_alias("m", "champion", version)

    gateway.serves(3)
    assert gateway.ask().json() == {"predictions": [3]}


def test_rollback_is_a_move_like_any_other(client, add, champion, serve):
    """`rollback_alias` brings the old version back without anything else being called."""
    client.set_registered_model_alias("m", "champion", add(behaving(2)))
    gateway = serve().ready()
    assert gateway.ask().json() == {"predictions": [2]}

    client.rollback_alias("m", "champion", reason="worse on Mondays")

    gateway.serves(1)
    assert gateway.status()["last_change"]["reason"] == "worse on Mondays"


def test_endpoints_follow_their_own_aliases(client, add, champion, serve):
    """Several endpoints in one gateway: each has its name, its alias and its versions."""
    add(behaving(2))
    client.set_registered_model_alias("m", "challenger", "2")
    gateway = serve(models=("models:/m@champion", "second=models:/m@challenger", "fixed=models:/m/1")).ready()

    answers = {name: gateway.ask(path=f"/endpoints/{name}/invocations") for name in ("m", "second", "fixed")}

    assert {name: answer.json()["predictions"] for name, answer in answers.items()} == {
        "m": [1],
        "second": [2],
        "fixed": [1],
    }
    assert answers["second"].headers["X-Model-Alias"] == "challenger"
    assert "X-Model-Alias" not in answers["fixed"].headers
    assert gateway.ask().status_code == 404


def test_a_model_directory_is_served_without_a_registry(tmp_path, serve):
    """`-m ./my-model` serves it as it is."""
    import registry

    registry.save_model(tmp_path / "my-model", behaving(7))

    gateway = serve(models=(str(tmp_path / "my-model"),)).ready()

    answer = gateway.ask()
    assert answer.json() == {"predictions": [7]}
    assert "X-Model-Name" not in answer.headers
