"""Turnout's own routes about aliases and files, over real sockets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version

import httpx2
import pytest

from tests.registry.serving import served

API = "/api/turnout/v1/"
CHAMPION = f"{API}registered-models/wine/aliases/champion"


@pytest.fixture
def registry(sqlite_registry):
    """A registry with a model named wine."""
    sqlite_registry.create_registered_model("wine")
    return sqlite_registry


@pytest.fixture
def client(registry, make_version):
    """A client of a server whose model wine has three versions and no alias."""
    for _ in range(3):
        make_version()
    with served(registry) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
        yield client


def move(client, version, **terms):
    answer = client.put(CHAMPION, json={"version": version} | terms)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.json()["error_code"] == code
    return answer.json()["message"]


def test_root_tells_whose_server_it_is(client):
    """The root of the interface names Turnout and its version, which is how a client knows a server of ours."""
    assert client.get(API).json() == {"name": "turnout", "version": installed_version("turnout")}


@pytest.mark.parametrize("version", [2, "2", "02"])
def test_set_and_get(client, version):
    """An alias is set with a version's number in any spelling, and gives the whole version."""
    assert move(client, version) == {"name": "wine", "alias": "champion", "version": "2"}

    found = client.get(CHAMPION).json()

    assert (found["name"], found["alias"], found["version"]) == ("wine", "champion", "2")
    assert found["model_version"]["version"] == "2"
    assert found["model_version"]["aliases"] == ["champion"]


def test_set_with_an_expectation(client):
    """With `expected_version` the alias moves from there only; 0 expects that it is not set."""
    move(client, 1, expected_version=0)
    move(client, 2, expected_version=1)

    message = refusal(client.put(CHAMPION, json={"version": 3, "expected_version": "1"}), 409, "RESOURCE_CONFLICT")

    assert "points at version 2" in message
    assert client.get(CHAMPION).json()["version"] == "2"


def test_delete(client):
    """A deleted alias is not there; its reason and its expectation are taken as those of a move."""
    move(client, 1)
    refusal(client.request("DELETE", CHAMPION, json={"expected_version": 2}), 409, "RESOURCE_CONFLICT")

    answer = client.request("DELETE", CHAMPION, json={"expected_version": 1, "reason": "retired"})

    assert answer.status_code == 200
    refusal(client.get(CHAMPION), 400, "INVALID_PARAMETER_VALUE")
    assert client.get(f"{CHAMPION}/history").json()["moves"][0]["reason"] == "retired"


def test_delete_without_a_body(client):
    """A body is no duty."""
    move(client, 1)

    assert client.delete(CHAMPION).status_code == 200


def test_where_it_pointed(client):
    """`at` gives the version that the alias named at that moment."""
    move(client, 1)
    moved_at = datetime.fromisoformat(client.get(f"{CHAMPION}/history").json()["moves"][0]["at"])
    while datetime.now(UTC) <= moved_at + timedelta(milliseconds=1):
        pass
    move(client, 2)

    assert client.get(CHAMPION, params={"at": moved_at.isoformat()}).json()["version"] == "1"
    assert client.get(CHAMPION, params={"at": datetime.now(UTC).isoformat()}).json()["version"] == "2"
    before = (moved_at - timedelta(days=1)).isoformat()
    refusal(client.get(CHAMPION, params={"at": before}), 400, "INVALID_PARAMETER_VALUE")


def test_history(client):
    """Each move is told, newest first, with who made it and why, on pages."""
    move(client, 1)
    move(client, 3, reason="retrained")

    first = client.get(f"{CHAMPION}/history", params={"max_results": 1}).json()
    second = client.get(f"{CHAMPION}/history", params={"page_token": first["next_page_token"]}).json()

    moves = [*first["moves"], *second["moves"]]
    assert [(each["from"], each["to"], each["reason"]) for each in moves] == [
        ("1", "3", "retrained"),
        (None, "1", None),
    ]
    assert first["alias"] == "champion"
    assert moves[0].keys() == {"id", "at", "by", "from", "to", "reason", "rollback_of"}
    assert moves[0]["at"].endswith("Z")
    assert "next_page_token" not in second


def test_rollback(client):
    """Rolling back gives the move that it made; with nothing before the alias it is refused."""
    move(client, 1)
    refusal(client.post(f"{CHAMPION}/rollback", json={}), 400, "INVALID_PARAMETER_VALUE")
    move(client, 2)
    refusal(client.post(f"{CHAMPION}/rollback", json={"expected_version": 3}), 409, "RESOURCE_CONFLICT")

    found = client.post(f"{CHAMPION}/rollback", json={"expected_version": 2, "reason": "worse"}).json()

    assert (found["from"], found["to"], found["reason"]) == ("2", "1", "worse")
    assert found["rollback_of"] is not None
    assert client.get(CHAMPION).json()["version"] == "1"


def test_manifest(client, registry):
    """The manifest names every file with its digest."""
    found = client.get(f"{API}registered-models/wine/versions/1/manifest").json()

    manifest = registry.get_model_version_manifest("wine", 1)
    assert found["digest"] == manifest.digest
    assert [(each["path"], each["size"], each["sha256"]) for each in found["files"]] == [
        (each.path, each.size, each.sha256) for each in manifest.files
    ]


def test_manifest_that_nobody_recorded(client, registry):
    """A version without files, such as a prompt's, has no manifest."""
    registry.create_registered_model("greeting", tags={"mlflow.prompt.is_prompt": "true"})
    registry.create_model_version("greeting", "dummy-source")

    message = refusal(
        client.get(f"{API}registered-models/greeting/versions/1/manifest"), 404, "RESOURCE_DOES_NOT_EXIST"
    )

    assert "no manifest" in message


def test_names_are_percent_encoded(client, registry):
    """Any name can stand in a path."""
    name = "red wine? 100 % & größer#1"
    registry.create_registered_model(name)
    registry.create_model_version(name, "models:/wine/1")
    registry.set_registered_model_alias(name, "champion", 1)
    encoded = "red%20wine%3F%20100%20%25%20%26%20gr%C3%B6%C3%9Fer%231"

    found = client.get(f"{API}registered-models/{encoded}/aliases/champion").json()

    assert found["name"] == name


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", CHAMPION, {}, 400),
        ("PUT", CHAMPION, {"version": None}, 400),
        ("PUT", CHAMPION, {"version": "x"}, 400),
        ("PUT", CHAMPION, {"version": 1.5}, 400),
        ("PUT", CHAMPION, {"version": [1]}, 400),
        ("PUT", CHAMPION, {"version": 99}, 404),
        ("PUT", CHAMPION, {"version": 1, "expected_version": "x"}, 400),
        ("PUT", CHAMPION, {"version": 1, "reason": 5}, 400),
        ("PUT", CHAMPION, {"version": 1, "reason": "x" * 100_000}, 400),
        ("PUT", CHAMPION.replace("champion", "latest"), {"version": 1}, 400),
        ("PUT", CHAMPION.replace("champion", "a%20b"), {"version": 1}, 400),
        ("PUT", CHAMPION.replace("wine", "none"), {"version": 1}, 404),
        ("DELETE", CHAMPION.replace("wine", "none"), {}, 404),
        ("POST", f"{CHAMPION}/rollback", {}, 400),
        ("GET", f"{CHAMPION}?at=yesterday", None, 400),
        ("GET", f"{CHAMPION}?at=0001-01-01", None, 400),
        ("GET", f"{CHAMPION}?at=9999-12-31T23:59:59-23:59", None, 400),
        ("GET", f"{CHAMPION}/history?max_results=0", None, 400),
        ("GET", f"{CHAMPION}/history?max_results=x", None, 400),
        ("GET", f"{CHAMPION}/history?page_token=x", None, 400),
        ("GET", f"{API}registered-models/wine/versions/x/manifest", None, 400),
        ("GET", f"{API}registered-models/wine/versions/99/manifest", None, 404),
        ("POST", CHAMPION, {}, 405),
        ("GET", f"{API}nothing", None, 404),
    ],
)
def test_refusals(client, method, path, body, status):
    """What cannot be is refused with the status that says whose fault it is, never with a 5xx."""
    answer = client.request(method, path, json=body) if body is not None else client.request(method, path)

    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
