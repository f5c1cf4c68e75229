"""Artifacts in an object store: what goes wrong there is told in a sentence, and a registry can live on one."""

from __future__ import annotations

import http.client
import itertools
import os
import socket
import threading
import time
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from registry.artifacts import CHUNK_BYTES
from registry.connection import connect
from registry.errors import InvalidParameter, NotFound, Unavailable
from registry.models.cache import fetch_model
from registry.models.registration import register, upload
from registry.stores import open_store
from tests.registry.serving import served
from tests.s3.server import make_bucket, s3_server, settings, unfinished_uploads

NUMBERS = itertools.count(1)
SECRET = settings("")["AWS_SECRET_ACCESS_KEY"]
KEY = settings("")["AWS_ACCESS_KEY_ID"]


@pytest.fixture(scope="session")
def s3_address(tmp_path_factory):
    """The address of an S3 server."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def bucket(s3_address, monkeypatch):
    """The name of a new bucket, which the environment gives access to."""
    for name, value in settings(s3_address).items():
        monkeypatch.setenv(name, value)
    name = f"objects{next(NUMBERS)}"
    make_bucket(s3_address, name)
    return name


class Refusing(BaseHTTPRequestHandler):
    """Answers every request with what the server was made for."""

    def do_GET(self):
        status, code, announced = self.server.answer
        body = f"<Error><Code>{code}</Code><Message>for {KEY}</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(announced or len(body)))
        self.send_header("ETag", '"tag"')
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.close_connection = True

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET  # http.server's names

    def log_message(self, *arguments):
        """Print nothing."""


@contextmanager
def refusing(status, code="", announced=None):
    """The address of an object store that gives one answer to everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    server.answer = status, code, announced
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def store_at(monkeypatch):
    """Opens a store behind an address."""

    def at(address):
        for name, value in settings(address).items():
            monkeypatch.setenv(name, value)
        return open_store("s3://somewhere/prefix")

    return at


def put(store, path, data):
    """Store one file."""
    with store.create(path) as upload:
        upload.write(data)


def test_tf151_upload_that_fails_leaves_no_parts(bucket, s3_address):
    """The parts of a file that was never completed are deleted, for they would be paid for."""
    store = open_store(f"s3://{bucket}/p")

    def fail():
        with store.create("file") as upload:
            for _ in range(30):
                upload.write(b"x" * CHUNK_BYTES)
            assert unfinished_uploads(s3_address, bucket)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert unfinished_uploads(s3_address, bucket) == []
    assert store.list_files("") == []


def test_file_that_is_replaced_while_it_is_read(bucket):
    """A reader never gets the beginning of one file and the end of another."""
    store = open_store(f"s3://{bucket}/p")
    put(store, "file", b"old")

    with store.opened("file") as file:
        put(store, "file", b"new")
        with pytest.raises(Unavailable, match="replaced while it was read"):
            list(file.read(0, 3))


def test_directory_that_fails_half_way_is_removed(bucket, tmp_path):
    """When a file is refused, here for a name that S3 would find too long, those before it do not stay."""
    store = open_store(f"s3://{bucket}/p")
    folder = tmp_path / "m" / ("b" * 250) / ("c" * 250) / ("d" * 250)
    folder.mkdir(parents=True)
    (tmp_path / "m" / "a").write_text("x")
    (folder / "e").write_text("x")

    with pytest.raises(InvalidParameter, match="too long"):
        store.write_directory(tmp_path / "m", f"{'x' * 200}/{'y' * 200}")

    assert store.list_files("") == []


def test_missing_bucket(bucket):
    """A bucket that is not there is the operator's problem, not a missing file."""
    store = open_store(f"s3://{bucket}-not/p")

    for call in (lambda: store.list_files("a"), lambda: store.list_folder(""), lambda: put(store, "a", b"x")):
        with pytest.raises(Unavailable, match="no such bucket"):
            call()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((403, "AccessDenied"), "refused access"),
        ((401, "InvalidToken"), "refused access"),
        ((400, "InvalidRequest"), "400 InvalidRequest"),
        ((503, "SlowDown"), "503 SlowDown"),
        ((500, "InternalError"), "500 InternalError"),
    ],
)
def test_tf155_store_that_fails(store_at, answer, told):
    """An error says what the store answered and what to do, and no credentials, whatever the store's text says."""
    with refusing(*answer) as address:
        store = store_at(address)
        for call in (lambda: store.list_files("a"), lambda: put(store, "a", b"x"), lambda: store.delete("a")):
            with pytest.raises(Unavailable, match=told) as caught:
                call()
            assert KEY not in str(caught.value)
            assert address not in str(caught.value)


def test_tf155_answer_that_ends_early(store_at):
    """A file that comes shorter than it was announced is an error, never a shorter file."""
    with refusing(200, announced=1_000_000) as address, pytest.raises(Unavailable, match="failed at 'a'"):
        list(store_at(address).read("a"))


def test_store_that_is_not_there(store_at):
    """Where nobody listens, the error comes within seconds, without credentials."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    store = store_at(address)
    begin = time.monotonic()

    with pytest.raises(Unavailable, match="no answer") as caught:
        store.size("a")

    assert time.monotonic() - begin < 15
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("address", "variables"), [("az://container/p", "AZURE_STORAGE_ACCOUNT_NAME"), ("gs://b/p", "GOOGLE_")]
)
def test_incomplete_environment(address, variables, monkeypatch):
    """What the environment lacks is told by the names of its variables, without a value."""
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", f"{{{SECRET}")
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURITE_BLOB_STORAGE_URL"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(InvalidParameter, match=variables) as caught:
        open_store(address)

    assert SECRET not in str(caught.value)


def test_registry_on_an_object_store(bucket, tmp_path):
    """A registry records its bucket, without credentials, and registers and fetches models there."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "m" / "data").write_bytes(b"x" * 1_000_000)
    uri = f"sqlite:///{tmp_path}/r.db"
    with connect(uri, artifacts_destination=f"S3://{bucket}/models/") as registry:
        logged = upload(registry, tmp_path / "m", "wine", None, ExitStack())
        made = register(registry, logged.model_uri, "wine")

    with connect(uri) as registry:
        assert registry.artifacts.root == f"s3://{bucket}/models"
        fetched = fetch_model(registry.get_model_version("wine", 1), tmp_path / "cache", registry)

    assert made.digest is not None
    assert (fetched / "data").read_bytes() == b"x" * 1_000_000
    assert SECRET.encode() not in (tmp_path / "r.db").read_bytes()
    assert not (tmp_path / "artifacts").exists()


def test_server_on_an_object_store(bucket, s3_address, tmp_path):
    """The proxy streams to and from the bucket; a cut upload leaves no part there."""
    data = os.urandom(20_000_000)
    target = "/api/2.0/mlflow-artifacts/artifacts/0/file"
    with (
        connect(f"sqlite:///{tmp_path}/r.db", artifacts_destination=f"s3://{bucket}") as registry,
        served(registry) as address,
    ):
        with socket.create_connection(address) as client:
            client.sendall(f"PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n\r\n".encode())
            client.sendall(data)
            wait_for(lambda: unfinished_uploads(s3_address, bucket))
        wait_for(lambda: not unfinished_uploads(s3_address, bucket))
        with pytest.raises(NotFound):
            registry.artifacts.size("0/file")
        connection = http.client.HTTPConnection(*address)
        answers = []
        for method, body, headers in (
            ("PUT", data, {}),
            ("GET", None, {}),
            ("GET", None, {"Range": "bytes=19999990-"}),
            ("DELETE", None, {}),
            ("HEAD", None, {}),
        ):
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
        connection.close()

    assert answers == [(200, b"{}"), (200, data), (206, data[-10:]), (200, b"{}"), (404, b"")]


def wait_for(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
