"""Deliveries: signed, retried, bounded, and never to where they may not go; with real receivers on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from registry.changes import Delivery
from registry.connection import connect
from registry.errors import InvalidParameter
from registry.webhooks import MAX_ATTEMPTS, Deliverer, back_off, send, sign
from tests.registry.receiver import Receiver, eventually

CREATED = ["REGISTERED_MODEL.CREATED"]
FAST = {"timeout_s": 5.0, "first_retry_s": 0.0005}


@pytest.fixture
def receiver(monkeypatch):
    receiver = Receiver()
    monkeypatch.setenv("TURNOUT_WEBHOOK_ALLOWED_HOSTS", receiver.host)
    yield receiver
    receiver.stop()


def waiting(registry):
    """How many messages are still to be sent, whoever claimed them."""
    from sqlalchemy import func, select

    from registry.sql.schema import deliveries

    return registry._database.read(lambda c: c.execute(select(func.count()).select_from(deliveries)).scalar_one())


def test_tf067_a_message_is_signed(sqlite_registry, receiver):
    """A receiver gets what happened, with a signature over id, time and body that only the secret can make."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url("200"), CREATED, secret="hush")

    with Deliverer(sqlite_registry.webhooks, **FAST):
        sqlite_registry.create_registered_model("wine", {"a": "1"})
        eventually(lambda: receiver.requests and not waiting(sqlite_registry))

    ((headers, body),) = receiver.of("200")
    assert json.loads(body)["data"] == {"name": "wine", "tags": {"a": "1"}, "description": ""}
    assert json.loads(body)["entity"] == "registered_model"
    assert headers["Content-Type"] == "application/json"
    assert abs(int(headers["X-MLflow-Timestamp"]) - time.time()) < 60
    signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"hush", signed, hashlib.sha256).digest()).decode()
    assert headers["X-MLflow-Signature"] == f"v1,{expected}"
    assert b"hush" not in body
    assert "hush" not in str(headers)


def test_without_a_secret_there_is_no_signature(sqlite_registry, receiver):
    """A webhook without a secret gets the same message unsigned."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url("204"), CREATED)

    with Deliverer(sqlite_registry.webhooks, **FAST):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: receiver.requests and not waiting(sqlite_registry))

    ((headers, _),) = receiver.of("204")
    assert "X-MLflow-Signature" not in headers


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_failure_that_may_pass_is_retried(sqlite_registry, receiver, status):
    """The same message comes again, under the same id, until it is taken."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url(f"later-{status}"), CREATED)

    with Deliverer(sqlite_registry.webhooks, **FAST):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: len(receiver.requests) == 2 and not waiting(sqlite_registry))

    (first, again) = receiver.of(f"later-{status}")
    assert first[1] == again[1]
    assert first[0]["X-MLflow-Delivery-Id"] == again[0]["X-MLflow-Delivery-Id"]


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_a_refusal_is_final(sqlite_registry, receiver, status, caplog):
    """What a receiver refuses is not sent again, and the log says so without the address's path."""
    caplog.set_level(logging.WARNING, "registry.webhooks")
    sqlite_registry.webhooks.create_webhook("hook", receiver.url(str(status)), CREATED)

    with Deliverer(sqlite_registry.webhooks, **FAST):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: receiver.requests and not waiting(sqlite_registry))

    assert len(receiver.requests) == 1
    (line,) = caplog.messages
    assert f"127.0.0.1 was given up after attempt 1: status {status}" in line
    assert f"/{status}" not in line


def test_attempts_are_capped(sqlite_registry, receiver, caplog):
    """After its last attempt a message is dropped with a line in the log."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url("503"), CREATED)

    with Deliverer(sqlite_registry.webhooks, **FAST), caplog.at_level(logging.WARNING, "registry.webhooks"):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: receiver.requests and not waiting(sqlite_registry))

    assert len(receiver.requests) == MAX_ATTEMPTS
    assert f"was given up after attempt {MAX_ATTEMPTS}: status 503" in caplog.text


def test_a_dead_receiver_is_tried_again(sqlite_registry, receiver):
    """A receiver that comes back gets what it missed."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url("200"), CREATED)
    host, port = receiver._server.server_address
    receiver.stop()

    with Deliverer(sqlite_registry.webhooks, timeout_s=5.0, first_retry_s=0.5):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: sqlite_registry.webhooks.claim_deliveries(0, 0) == [] and _attempts(sqlite_registry) == 1)
        received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                received.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments):
                return

        with ThreadingHTTPServer((host, port), Handler) as again:
            thread = threading.Thread(target=again.serve_forever, args=(0.05,))
            thread.start()
            eventually(lambda: received and not waiting(sqlite_registry))
            again.shutdown()
            thread.join()

    assert len(received) == 1


def _attempts(registry):
    """How often the first message was tried, once nobody has claimed it."""
    from sqlalchemy import select

    from registry.sql.schema import deliveries

    query = select(deliveries.c.attempts).where(deliveries.c.claimed_until == 0)
    return registry._database.read(lambda connection: connection.execute(query).scalar())


def test_tf064_a_redirect_is_not_followed(sqlite_registry, receiver):
    """A receiver that sends elsewhere has failed, and elsewhere is never asked."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url("away"), CREATED)

    with Deliverer(sqlite_registry.webhooks, **FAST):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: receiver.requests and not waiting(sqlite_registry))

    assert [path for path, _, _ in receiver.requests] == ["/away"]


def test_tf063_an_internal_address_is_refused_at_delivery(sqlite_registry, receiver, monkeypatch, caplog):
    """A host that was allowed when the webhook was made, and is not any more, is not called."""
    sqlite_registry.webhooks.create_webhook("hook", receiver.url("200"), CREATED)
    monkeypatch.delenv("TURNOUT_WEBHOOK_ALLOWED_HOSTS")

    with Deliverer(sqlite_registry.webhooks, **FAST), caplog.at_level(logging.WARNING, "registry.webhooks"):
        sqlite_registry.create_registered_model("wine")
        eventually(lambda: not waiting(sqlite_registry))

    assert receiver.requests == []
    assert "may not be called" in caplog.text


def test_tf066_a_slow_receiver_delays_nobody(sqlite_registry, receiver):
    """While one receiver does not answer, however much waits for it, another gets its messages at once."""
    slow = sqlite_registry.webhooks.create_webhook("slow", receiver.url("slow"), CREATED)
    sqlite_registry.webhooks.create_webhook("quick", receiver.url("200"), CREATED)

    with Deliverer(sqlite_registry.webhooks, timeout_s=20.0):
        for number in range(20):
            sqlite_registry.create_registered_model(f"wine-{number}")
        eventually(lambda: len(receiver.of("200")) == 20)
        assert len(receiver.of("slow")) == 1
        sqlite_registry.webhooks.delete_webhook(slow.webhook_id)
        receiver.released.set()

    told = [json.loads(body)["data"]["name"] for _, body in receiver.of("200")]
    assert told == [f"wine-{number}" for number in range(20)]


@pytest.mark.parametrize("what", ["slow", "endless"])
def test_tf066_a_delivery_is_bounded(receiver, what):
    """A receiver that never answers costs the time-out; one that never ends costs no more than that."""
    delivery = Delivery(1, "id", receiver.url(what), None, "{}", 1)
    began = time.monotonic()

    answer = send(delivery, [receiver.host], timeout_s=0.5)

    assert time.monotonic() - began < 5
    assert answer.status == (200 if what == "endless" else None)
    assert answer.is_success == (what == "endless")


def test_a_name_that_nobody_knows_may_be_known_later():
    """A host that does not resolve is no answer, which may pass; an address inside is a refusal, which is final."""
    unknown = send(Delivery(1, "id", f"https://{'a' * 64}.invalid/", None, "{}", 1), [])
    inside = send(Delivery(1, "id", "https://10.0.0.1/", None, "{}", 1), [])

    assert (unknown.status, unknown.may_retry) == (None, True)
    assert (inside.status, inside.may_retry) == (None, False)


def test_stop_loses_nothing(tmp_path, receiver):
    """What was not sent when a deliverer stopped is sent by the next one."""
    with connect(f"sqlite:///{tmp_path}/registry.db") as registry:
        registry.webhooks.create_webhook("hook", receiver.url("200"), CREATED)
        with Deliverer(registry.webhooks, **FAST):
            for number in range(10):
                registry.create_registered_model(f"wine-{number}")

    with connect(f"sqlite:///{tmp_path}/registry.db") as registry, Deliverer(registry.webhooks, **FAST):
        eventually(lambda: not waiting(registry))

    assert len(receiver.of("200")) == 10


CHANGES = """
import sys
from registry.connection import connect
from registry.webhooks import Deliverer

with connect(sys.argv[1]) as registry, Deliverer(registry.webhooks, timeout_s=1.0):
    for number in range(100_000):
        registry.create_registered_model(f"wine-{number}")
        print(f"wine-{number}", flush=True)
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_killed_process_loses_nothing(tmp_path, request, receiver, kind):
    """Of a process that is killed, each change that it had committed is told by the next process."""
    uri = f"sqlite:///{tmp_path}/registry.db"
    if kind == "postgresql":
        uri = request.getfixturevalue("postgres_url")()
    with connect(uri) as registry:
        registry.webhooks.create_webhook("hook", receiver.url("200"), CREATED)
        process = subprocess.Popen([sys.executable, "-c", CHANGES, uri], stdout=subprocess.PIPE, text=True)
        committed = [process.stdout.readline().strip() for _ in range(60)]
        os.kill(process.pid, signal.SIGKILL)
        committed += process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        assert waiting(registry)

        with Deliverer(registry.webhooks, timeout_s=5.0):
            eventually(lambda: not waiting(registry))

    told = [json.loads(body)["data"]["name"] for _, body in receiver.of("200")]
    assert set(committed) <= set(told)
    assert len(told) <= len(set(told)) + 1  # the one that was being sent when the process died


def test_a_closed_registry_does_not_end_the_loop(tmp_path, receiver, caplog):
    """While the database is gone the deliverer says so and goes on, and can be stopped."""
    registry = connect(f"sqlite:///{tmp_path}/registry.db")
    with Deliverer(registry.webhooks, **FAST) as deliverer, caplog.at_level(logging.WARNING, "registry.webhooks"):
        registry.close()
        eventually(lambda: "webhooks wait" in caplog.text)
        assert deliverer._thread.is_alive()


def test_back_off_grows_and_is_spread():
    """Each pause is four times the one before; all attempts take some hours."""
    assert back_off(1, 5.0, 0.5) == 5.0
    assert back_off(3, 5.0, 0.5) == 80.0
    assert back_off(2, 5.0, 0.0) == 10.0
    assert back_off(2, 5.0, 0.999) < 30.0
    assert 3600 < sum(back_off(each, 5.0, 0.5) for each in range(1, MAX_ATTEMPTS)) < 86_400


def test_sign_is_what_receivers_compute():
    """The signature is that of MLflow: v1, HMAC-SHA256 of `id.timestamp.body`, base64."""
    expected = hmac.new("schlüssel".encode(), 'a.1.{"ü":1}'.encode(), "sha256").digest()

    assert sign("schlüssel", "a", "1", '{"ü":1}') == f"v1,{base64.b64encode(expected).decode()}"


def test_tf034_secrets_are_sealed(tmp_path, monkeypatch):
    """A secret is not in the database's files; its key lies in a file that only its owner reads."""
    monkeypatch.delenv("TURNOUT_SECRET_KEY", raising=False)
    with connect(f"sqlite:///{tmp_path}/registry.db") as registry:
        made = registry.webhooks.create_webhook("hook", "https://8.8.8.8/", CREATED, secret="hush-hush")
        stored = b"".join(each.read_bytes() for each in tmp_path.glob("registry.db*"))
        assert b"hush" not in stored
        assert (tmp_path / "turnout.key").stat().st_mode & 0o777 == 0o600

    with connect(f"sqlite:///{tmp_path}/registry.db") as registry:
        assert registry.webhooks.secret_of(made.webhook_id) == "hush-hush"


def test_a_key_can_be_replaced(tmp_path, monkeypatch, caplog):
    """With a new key in front old secrets are still read; without the old one the message waits."""
    old, new = "o" * 32, "n" * 32
    monkeypatch.setenv("TURNOUT_SECRET_KEY", old)
    with connect(f"sqlite:///{tmp_path}/registry.db") as registry:
        made = registry.webhooks.create_webhook("hook", "https://8.8.8.8/", CREATED, secret="hush")
        monkeypatch.setenv("TURNOUT_SECRET_KEY", f"{new}, {old}")
        assert registry.webhooks.secret_of(made.webhook_id) == "hush"

        monkeypatch.setenv("TURNOUT_SECRET_KEY", new)
        registry.create_registered_model("wine")
        assert registry.webhooks.claim_deliveries(10, 0) == []
        assert "TURNOUT_SECRET_KEY" in caplog.text
        assert waiting(registry) == 1
        registry.webhooks.update_webhook(made.webhook_id, secret="fresh")
        (delivery,) = registry.webhooks.claim_deliveries(10, 0)
        assert delivery.secret == "fresh"


def test_without_a_key_a_secret_is_refused(postgres_url, monkeypatch):
    """A PostgreSQL registry has no place for a key, and says what to set; without a secret none is needed."""
    monkeypatch.delenv("TURNOUT_SECRET_KEY", raising=False)
    with connect(postgres_url()) as registry:
        registry.webhooks.create_webhook("bare", "https://8.8.8.8/", CREATED)
        with pytest.raises(InvalidParameter, match="set TURNOUT_SECRET_KEY"):
            registry.webhooks.create_webhook("hook", "https://8.8.8.8/", CREATED, secret="hush")
        monkeypatch.setenv("TURNOUT_SECRET_KEY", "short")
        with pytest.raises(InvalidParameter, match="shorter than 32"):
            registry.webhooks.create_webhook("hook", "https://8.8.8.8/", CREATED, secret="hush")


def test_a_backlog_is_bounded(sqlite_registry, monkeypatch, caplog):
    """When too much waits for a receiver that fails, the oldest is dropped with a line in the log."""
    monkeypatch.setattr("registry.sql.webhooks.MAX_WAITING", 3)
    sqlite_registry.webhooks.create_webhook("hook", "https://8.8.8.8/", CREATED)
    for number in range(5):
        sqlite_registry.create_registered_model(f"wine-{number}")

    (first,) = sqlite_registry.webhooks.claim_deliveries(10, 60_000)
    sqlite_registry.webhooks.finish_delivery(first.id, 60_000)

    assert waiting(sqlite_registry) == 3
    assert "dropped its oldest 2" in caplog.text
    (next_one,) = sqlite_registry.webhooks.claim_deliveries(10, 60_000)
    assert json.loads(next_one.body)["data"]["name"] == "wine-2"
