"""The webhook routes on a real server: MLflow's shapes, and what they never do for a stranger."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest

from registry.server.webhooks import MAX_AT_ONCE, ROUTES
from tests.registry.receiver import Receiver, eventually
from tests.registry.serving import served

URL = "https://8.8.8.8/hook"
EVENTS = [{"entity": "MODEL_VERSION", "action": "CREATED"}, {"entity": "PROMPT_TAG", "action": "SET"}]
EVENT = EVENTS[:1]


@pytest.fixture
def client(sqlite_registry):
    """A client of a real server, below MLflow's prefix."""
    with served(sqlite_registry) as (host, port):
        base = f"http://{host}:{port}/api/2.0/mlflow/"
        with httpx2.Client(base_url=base, timeout=30) as client:
            yield client


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setenv("TURNOUT_WEBHOOK_ALLOWED_HOSTS", receiver.host)
    yield receiver
    receiver.stop()


def make(client, **fields):
    """A webhook that was made by the route."""
    answer = client.post("webhooks", json={"name": "hook", "url": URL, "events": EVENT} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["webhook"]


def test_create_and_get(client):
    """A webhook comes back in MLflow's shape, without its secret and without what it does not have."""
    made = make(client, events=EVENTS, secret="hush", description="d")

    assert made == {
        "webhook_id": made["webhook_id"],
        "name": "hook",
        "description": "d",
        "url": URL,
        "events": EVENTS,
        "status": "ACTIVE",
        "creation_timestamp": made["creation_timestamp"],
        "last_updated_timestamp": made["creation_timestamp"],
    }
    assert client.get(f"webhooks/{made['webhook_id']}").json() == {"webhook": made}
    assert "description" not in make(client)


def test_list(client):
    """Listing is newest first, in pages; no webhooks are an empty object."""
    assert client.get("webhooks").json() == {}
    made = [make(client, name=f"hook-{number}")["webhook_id"] for number in range(3)]

    first = client.get("webhooks", params={"max_results": 2}).json()
    second = client.get("webhooks", params={"max_results": 2, "page_token": first["next_page_token"]}).json()

    found = [each["webhook_id"] for each in first["webhooks"] + second["webhooks"]]
    assert sorted(found) == sorted(made)
    assert "next_page_token" not in second
    assert len(client.get("webhooks").json()["webhooks"]) == 3


def test_update(client):
    """What a PATCH names changes; an empty list of events and an empty name say nothing, as in MLflow."""
    made = make(client, description="d")
    path = f"webhooks/{made['webhook_id']}"

    changed = client.patch(path, json={"name": "other", "status": "DISABLED", "description": ""}).json()["webhook"]
    again = client.patch(path, json={"name": "", "events": [], "status": None}).json()["webhook"]

    assert (changed["name"], changed["status"], changed["url"]) == ("other", "DISABLED", URL)
    assert "description" not in changed
    assert again | {"last_updated_timestamp": 0} == changed | {"last_updated_timestamp": 0}


def test_delete(client):
    """A deleted webhook is 404 on every route."""
    path = f"webhooks/{make(client)['webhook_id']}"

    assert client.request("DELETE", path, json={}).json() == {}

    for method, place in [("GET", path), ("PATCH", path), ("DELETE", path), ("POST", f"{path}/test")]:
        answer = client.request(method, place, **({} if method == "GET" else {"json": {}}))
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": 7},
        {"name": "-"},
        {"url": None},
        {"url": "http://8.8.8.8/"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://[::ffff:10.0.0.1]/"},
        {"events": []},
        {"events": "MODEL_VERSION.CREATED"},
        {"events": ["MODEL_VERSION.CREATED"]},
        {"events": [{"entity": "MODEL_VERSION"}]},
        {"events": [{"entity": "MODEL_VERSION", "action": "SET"}]},
        {"events": [{"entity": "MODEL.VERSION", "action": "CREATED"}]},
        {"events": [{"entity": ["MODEL_VERSION"], "action": "CREATED"}]},
        {"status": "PAUSED"},
        {"secret": ["hush"]},
    ],
)
def test_tf063_what_is_refused(client, fields):
    """Bad fields and internal addresses are 400 in MLflow's shape, and nothing is kept."""
    answer = client.post("webhooks", json={"name": "hook", "url": URL, "events": EVENT} | fields)

    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert client.get("webhooks").json() == {}


def test_test_sends_an_example(client, receiver):
    """A test sends an example of the first event, or of the one that is asked for, and gives the status."""
    made = make(client, url=receiver.url("200"), secret="hush")
    path = f"webhooks/{made['webhook_id']}/test"

    plain = client.post(path, json={})
    asked = client.post(path, json={"event": {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}})

    assert plain.json() == asked.json() == {"result": {"success": True, "response_status": 200}}
    bodies = [httpx2.Response(200, content=body).json() for _, body in receiver.of("200")]
    assert [(each["entity"], each["action"]) for each in bodies] == [
        ("model_version", "created"),
        ("model_version_alias", "created"),
    ]
    assert set(bodies[1]["data"]) == {"name", "alias", "version"}
    assert all(headers["X-MLflow-Signature"].startswith("v1,") for headers, _ in receiver.of("200"))


@pytest.mark.parametrize(("path", "status"), [("404", 404), ("503", 503), ("away", 302)])
def test_tf064_a_test_that_fails(client, receiver, path, status):
    """A failed test says so with the status; the receiver's words are not shown, and a redirect is not followed."""
    made = make(client, url=receiver.url(path))

    answer = client.post(f"webhooks/{made['webhook_id']}/test", json={})

    assert answer.json() == {"result": {"success": False, "response_status": status}}
    assert len(receiver.requests) == 1


def test_a_test_of_a_dead_receiver(client, receiver, monkeypatch):
    """Nobody there, or a host that may not be called any more: a result that says so."""
    made = make(client, url=receiver.url("secret-path"))
    receiver.stop()
    dead = client.post(f"webhooks/{made['webhook_id']}/test", json={}).json()["result"]
    monkeypatch.delenv("TURNOUT_WEBHOOK_ALLOWED_HOSTS")
    refused = client.post(f"webhooks/{made['webhook_id']}/test", json={}).json()["result"]

    assert (dead["success"], refused["success"]) == (False, False)
    assert "no answer from 127.0.0.1" in dead["error_message"]
    assert "may not be called" in refused["error_message"]
    assert "secret-path" not in str(dead) + str(refused)


@pytest.mark.parametrize("event", [{}, {"entity": "MODEL_VERSION", "action": "SET"}, "MODEL_VERSION.CREATED", 7])
def test_a_test_of_no_event_is_refused(client, receiver, event):
    """A test of something that is no event is 400 and sends nothing."""
    made = make(client, url=receiver.url("200"))

    answer = client.post(f"webhooks/{made['webhook_id']}/test", json={"event": event})

    assert answer.status_code == 400
    assert receiver.requests == []


def test_tf066_tests_of_slow_receivers_do_not_stop_the_server(client, receiver):
    """However many tests hang on a slow receiver, a few threads wait; other tests are told so, other requests go on."""
    made = make(client, url=receiver.url("slow"))
    path, results = f"webhooks/{made['webhook_id']}/test", []
    threads = [
        threading.Thread(target=lambda: results.append(client.post(path, json={}).json()["result"]))
        for _ in range(MAX_AT_ONCE + 6)
    ]
    for each in threads:
        each.start()
    eventually(lambda: len(results) == 6 and len(receiver.requests) == MAX_AT_ONCE)

    began = time.monotonic()
    assert client.get("webhooks").status_code == 200
    assert time.monotonic() - began < 1

    receiver.released.set()
    for each in threads:
        each.join()
    assert all("try again" in each["error_message"] for each in results[:6])
    assert not any(each["success"] for each in results)


@pytest.mark.parametrize("event", [{"entity": "BUDGET_POLICY", "action": "EXCEEDED"}])
def test_an_event_that_never_happens_is_accepted(client, event):
    """A client may ask for every event that MLflow has."""
    assert make(client, events=[event])["events"] == [event]


def test_routes_are_mlflows():
    """The routes are the six of MLflow 3."""
    assert sorted(ROUTES) == [
        ("DELETE", "webhooks/{webhook_id}"),
        ("GET", "webhooks"),
        ("GET", "webhooks/{webhook_id}"),
        ("PATCH", "webhooks/{webhook_id}"),
        ("POST", "webhooks"),
        ("POST", "webhooks/{webhook_id}/test"),
    ]


@contextmanager
def turnout_server(folder):
    """A `turnout server` of its own, and a client of it; it is ended by SIGTERM if nothing else ended it."""
    log = folder / f"log-{time.monotonic_ns()}"
    command = [sys.executable, "-m", "registry", "server", "--port", "0", "--registry-uri", f"sqlite:///{folder}/r.db"]
    with log.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            eventually(lambda: re.search(r"http://[\d.]+:\d+", log.read_text()))
            address = re.search(r"http://[\d.]+:\d+", log.read_text())[0]
            with httpx2.Client(base_url=f"{address}/api/2.0/mlflow/", timeout=30) as client:
                yield process, client
        finally:
            process.terminate()


def test_tf066_a_killed_server_loses_nothing(tmp_path, receiver):
    """Of a server that is killed, each change that it had answered is told, at the latest by its successor."""
    with turnout_server(tmp_path) as (process, client):
        make(client, url=receiver.url("200"), events=[{"entity": "REGISTERED_MODEL", "action": "CREATED"}])
        for number in range(20):
            assert client.post("registered-models/create", json={"name": f"wine-{number}"}).status_code == 200
        process.kill()

    def told():
        return {json.loads(body)["data"]["name"] for _, body in receiver.of("200")}

    with turnout_server(tmp_path):
        # What was being sent when the server died is sent again when its claim ends, half a minute later.
        eventually(lambda: told() == {f"wine-{number}" for number in range(20)}, within_s=60)
