"""A registry over HTTP whose server, or what stands before it, misbehaves: told as it is, and never as "not found"."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

import pytest

from registry.connection import connect, public_uri
from registry.errors import AliasNotFound, InvalidUri, NotFound, RegistryError, Unavailable
from registry.outbound import client as outbound
from registry.remote.address import read_address, warn_of_plain_credentials
from tests.registry.between import between, page

HTML = "<html><h1>sorry</h1></html>"


@pytest.fixture
def relay(our_server):
    with between(our_server) as relay:
        yield relay


@pytest.fixture
def client(relay):
    """A client of our server through the relay, with a model named wine."""
    with connect(relay.address, actor="ana") as client:
        client.create_registered_model("wine")
        yield client


def add_version(client):
    """A version of wine with one small file."""
    logged = client.tracking.create_logged_model("model")
    with client.artifacts.create(f"{logged.artifact_uri.removeprefix('mlflow-artifacts:/')}/MLmodel") as file:
        file.write(b"flavors: {}")
    client.tracking.finalize_logged_model(logged.model_id)
    client.create_model_version("wine", logged.model_uri)


@pytest.fixture
def hasty(monkeypatch):
    """Waits for answers and between tries are short."""
    monkeypatch.setattr(outbound, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(outbound, "LONGEST_PAUSE_S", 0.02)


@pytest.mark.parametrize(
    "answer",
    [
        page("502 Bad Gateway", HTML),
        page("503 Service Unavailable", HTML, extra="retry-after: 0\r\n"),
        page("404 Not Found", HTML),
        page("404 Not Found", '{"detail":"Not Found"}', "application/json"),
        page("404 Not Found", '{"error_code":"ENDPOINT_NOT_FOUND","message":"x"}', "application/json"),
        page("200 OK", HTML),
        page("200 OK", ""),
        page("200 OK", "{}", "application/json"),
        page("200 OK", "[]", "application/json"),
        page("200 OK", '{"registered_model":{}}', "application/json"),
        page("302 Found", "", extra="location: http://127.0.0.1:1/\r\n"),
        page("500 Internal Server Error", '{"error_code":"INTERNAL_ERROR","message":"x"}', "application/json"),
        page("429 Too Many Requests", "slow down"),
        b"",
        b'HTTP/1.1 502 Bad Gateway\r\ncontent-length: 9\r\n\r\n{"a":"\xe9"}',
        pytest.param(page("200 OK", '{"a":' * 100_000, "application/json"), id="nested without end"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"no http at all\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_unavailable(relay, client, hasty, answer):
    """A proxy's page, half an answer or an empty one says nothing about the model."""
    relay.answer(answer)

    with pytest.raises(Unavailable):
        client.get_registered_model("wine")

    relay.relay()
    assert client.get_registered_model("wine").name == "wine"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
def test_refused_credentials(relay, client, status):
    """Who is not let in is told what to set, and the answer is not mistaken for a missing model."""
    relay.answer(page(status, HTML))

    with pytest.raises(RegistryError, match="TURNOUT_TOKEN") as refused:
        client.get_registered_model("wine")
    assert not isinstance(refused.value, NotFound)


def test_reads_are_tried_again_and_writes_are_not(relay, client, hasty):
    """A read that fails is repeated; a write that may have arrived is sent once."""
    relay.answer(page("503 Service Unavailable", HTML))

    before = relay.requests
    with pytest.raises(Unavailable):
        client.get_registered_model("wine")
    reads = relay.requests - before
    with pytest.raises(Unavailable):
        client.create_registered_model("grape")

    assert reads == outbound.TRIES
    assert relay.requests - before - reads == 1


def test_a_read_survives_a_cut(relay, client, hasty):
    """One broken connection does not fail a read."""
    relay.cut_after(20)

    assert client.get_registered_model("wine").name == "wine"


def test_a_hanging_server_ends_a_call(relay, client, monkeypatch):
    """No answer in time is Unavailable."""
    monkeypatch.setattr(client._rest.outbound, "send", _with_timeout(client._rest.outbound.send, 0.2))
    relay.hang()

    begin = time.monotonic()
    with pytest.raises(Unavailable, match="in time"):
        client.create_registered_model("grape")
    assert time.monotonic() - begin < 5


def _with_timeout(send, timeout_s):
    return lambda *arguments, **options: send(*arguments, **{**options, "timeout_s": timeout_s})


def test_close_ends_a_call_that_hangs(relay, client):
    """A thread that waits for an answer is let go when another closes the registry."""
    relay.hang()
    ended = []

    def ask():
        try:
            client.get_registered_model("wine")
        except Unavailable as problem:
            ended.append(problem)

    thread = threading.Thread(target=ask)
    thread.start()
    while not relay.requests:
        time.sleep(0.01)
    time.sleep(0.1)
    client.close()
    thread.join(5)

    assert len(ended) == 1


def test_a_server_of_ours_is_known_again_after_it_was_away(relay, client, hasty):
    """While a proxy answers in its place, the server is not taken for MLflow's; afterwards it is ours as before."""
    before = client.cursor()
    relay.answer(page("404 Not Found", HTML))
    with pytest.raises(Unavailable):
        client.cursor()
    with pytest.raises(Unavailable):
        client.wait(before, 1)

    relay.relay()

    assert client.cursor() == before
    with pytest.raises(AliasNotFound):
        client.get_alias_history("wine", "champion")


def test_a_wait_fails_when_the_server_goes(relay, client):
    """Losing the server ends a long poll at once, as a failure."""
    cursor = client.cursor()
    timer = threading.Timer(0.2, relay.answer, [page("502 Bad Gateway", HTML)])
    timer.start()

    begin = time.monotonic()
    with pytest.raises(Unavailable):
        client.wait(cursor, 30)
    assert time.monotonic() - begin < 10
    timer.join()


def test_the_actor_is_sent(our_server):
    """Who moves an alias is in its history, also with letters that no header may have."""
    with connect(our_server, actor="Jörg 5%") as client:
        client.create_registered_model("wine")
        add_version(client)
        client.set_registered_model_alias("wine", "champion", 1)

        assert client.get_alias_history("wine", "champion")[0].by == "Jörg 5%"


def test_a_warning_of_the_server_is_given(client):
    """Setting `Champion` beside `champion` warns here as it does with a database."""
    add_version(client)
    client.set_registered_model_alias("wine", "champion", 1)

    with pytest.warns(UserWarning, match="case-sensitive"):
        client.set_registered_model_alias("wine", "Champion", 1)


@pytest.mark.parametrize(
    ("environment", "address", "credentials"),
    [
        ({}, "http://host", None),
        ({"TURNOUT_TOKEN": "a", "MLFLOW_TRACKING_TOKEN": "b"}, "http://host", "Bearer a"),
        ({"MLFLOW_TRACKING_TOKEN": " b\n"}, "http://host", "Bearer b"),
        ({"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"}, "http://host", "Basic dTpw"),
        ({"MLFLOW_TRACKING_USERNAME": "u"}, "http://host", None),
        ({"TURNOUT_TOKEN": "a"}, "http://u:p@host", "Basic dTpw"),
        ({}, "http://u%40x:p%3A@host", "Basic dUB4OnA6"),
    ],
)
def test_credentials(environment, address, credentials):
    """A name in the address wins over a token, and a token over a name in the environment."""
    found = read_address(address, environment)

    assert found.credentials == credentials
    assert found.uri == "http://host"
    assert "Bearer" not in repr(found)


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("http://host:5000/", "http://host:5000"),
        ("HTTPS://user:secret@Host/prefix/", "https://host/prefix"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_public_uri(address, uri):
    """The address as it is shown has no password."""
    assert public_uri(address) == uri
    with connect(address) as client:
        assert client.uri == uri


@pytest.mark.parametrize(
    "address", ["http://", "http:///x", "http://h ost", "http://host:99999", "http://host?x=1", "http://host/../x"]
)
def test_bad_addresses(address):
    """What is no server's address is refused, and nothing is sent anywhere."""
    with pytest.raises(InvalidUri):
        connect(address)


def test_an_artifact_root_is_the_servers_business():
    """A destination for files cannot be given to a server from outside."""
    with pytest.raises(InvalidUri, match="of its own"):
        connect("http://host", artifacts_destination="/somewhere")


def test_credentials_over_plain_http_warn():
    """To another machine only: a loopback address is not on any wire."""
    with pytest.warns(UserWarning, match="unencrypted"):
        warn_of_plain_credentials(read_address("http://u:p@example.org", {}))
    for address in ("http://u:p@127.0.0.1:5000", "http://u:p@localhost", "https://u:p@example.org", "http://host"):
        warn_of_plain_credentials(read_address(address, {}))


@pytest.mark.parametrize(
    ("uri", "absent"),
    [("http://127.0.0.1:1", "sqlalchemy"), ("sqlite:///r.db", "httpx2"), ("sqlite:///r.db", "httpcore2")],
)
def test_connect_loads_only_what_it_needs(tmp_path, uri, absent):
    """A client of a server loads no database library, and a database no HTTP client."""
    program = f"import sys, registry; registry.connect({uri!r}).close(); sys.exit({absent!r} in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False).returncode == 0


def test_nothing_listens():
    """A server that is not there is Unavailable, and says so with its address."""
    with connect("http://127.0.0.1:1") as client, pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        client.create_registered_model("wine")


def test_a_redirect_is_not_followed(relay, client):
    """Credentials go to the one server that was named."""
    with contextlib.closing(outbound.Outbound(relay.address, "Bearer x")) as direct:
        relay.answer(page("307 Temporary Redirect", "", extra="location: http://127.0.0.1:1/\r\n"))

        assert direct.send("GET", "/").status == 307
