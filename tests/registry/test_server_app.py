"""The application around the routes: probes, prefixes, hosts and origins, limits, warnings and threads."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pytest

from registry.connection import connect
from registry.errors import Unavailable
from registry.server.app import MAX_BODY_BYTES
from registry.server.crew import Crew
from registry.server.guard import Guard
from registry.server.metrics import Metrics
from registry.server.transport import acting
from tests.registry.serving import served

API = "/api/2.0/mlflow"
JSON = {"Content-Type": "application/json"}

Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@contextmanager
def asking(tmp_path: Path, **options: Any) -> Iterator[Ask]:
    """Requests of a server on a new registry: (status, headers, body)."""
    uri = f"sqlite:///{tmp_path / 'r.db'}"
    with connect(uri, allowed_sources=["s3://b"], actor=acting.get) as registry, served(registry, **options) as at:

        def ask(
            method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
        ) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(*at, timeout=30)
            try:
                data = json.dumps(body).encode() if body is not None and not isinstance(body, bytes) else body
                connection.request(method, path, data, (JSON if body is not None else {}) | (headers or {}))
                response = connection.getresponse()
                return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            finally:
                connection.close()

        yield ask


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    with asking(tmp_path) as found:
        yield found


def code_of(body: bytes) -> str:
    code: str = json.loads(body)["error_code"]
    return code


# Probes


def test_probes(ask: Ask) -> None:
    """It lives, it is ready, it has a version, as plain text."""
    assert ask("GET", "/health")[::2] == (200, b"OK")
    assert ask("GET", "/ready")[::2] == (200, b"OK")
    assert ask("GET", "/version")[::2] == (200, installed_version("turnout").encode())


def test_not_ready_without_database(tmp_path: Path) -> None:
    """Without its database the server lives, is not ready, and says when to ask again."""
    with connect(f"sqlite:///{tmp_path / 'r.db'}") as registry, served(registry) as at:
        registry.close()
        for path, status in (("/health", 200), ("/ready", 503), (f"{API}/registered-models/search", 503)):
            connection = http.client.HTTPConnection(*at, timeout=30)
            connection.request("GET", path)
            response = connection.getresponse()
            assert (response.status, response.getheader("retry-after")) == (status, "1" if status == 503 else None)
            response.read()
            connection.close()


def test_server_info(ask: Ask) -> None:
    """The 3.x client is told of no transfers past the server, at both prefixes."""
    for prefix in ("/api", "/ajax-api"):
        status, _, body = ask("GET", f"{prefix}/3.0/mlflow/server-info")
        info = json.loads(body)
        assert (status, info["multipart_uploads_enabled"], info["multipart_downloads_enabled"]) == (200, False, False)


def test_metrics(ask: Ask) -> None:
    """Requests are counted under the routes that are declared; what a client made up is one line."""
    ask("GET", f"{API}/registered-models/get?name=secret")
    for path in ("/made-up-1", f"{API}/made-up-2", f"{API}/logged-models/m-made-up-3"):
        ask("GET", path)
    _, headers, body = ask("GET", "/metrics")
    text = body.decode()
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'turnout_registry_requests_total{{method="GET",route="{API}/registered-models/get",status="404"}} 1' in text
    assert f'route="{API}/logged-models/{{model_id}}"' in text
    assert 'turnout_registry_requests_total{method="any",route="other",status="404"} 2' in text
    assert "made-up" not in text
    assert "secret" not in text


def test_histogram() -> None:
    """Each bucket of a histogram counts what is not above its bound."""
    metrics = Metrics()
    for seconds in (0.001, 0.002, 20.0):
        metrics.count("GET", "r", 200, seconds)
    lines = metrics.text().splitlines()
    counts = {line.split('le="')[1].split('"')[0]: line.split()[-1] for line in lines if "_bucket" in line}
    assert (counts["0.001"], counts["0.0025"], counts["10.0"], counts["+Inf"]) == ("1", "2", "2", "3")


# Paths


def test_unknown_paths_and_methods(ask: Ask) -> None:
    """Both are told in the shape that clients read."""
    for path in (f"{API}/registered-models/nope", "/api/turnout/v1/nope", "/nope", "/health/x", f"{API}/"):
        status, headers, body = ask("GET", path)
        assert (status, code_of(body), headers["content-type"]) == (404, "ENDPOINT_NOT_FOUND", "application/json")
    for method, path, allowed in (
        ("GET", "registered-models/create", "POST"), ("PUT", "registered-models/get-latest-versions", "GET, POST"),
        ("OPTIONS", "registered-models/get", "GET"), ("DELETE", "webhooks", "GET, POST"),
    ):  # fmt: skip
        status, headers, body = ask(method, f"{API}/{path}")
        assert (status, code_of(body), headers["allow"]) == (405, "ENDPOINT_NOT_FOUND", allowed)


@pytest.mark.parametrize("prefix", ["", "/mlflow"])
def test_prefixes(tmp_path: Path, prefix: str) -> None:
    """Everything stands below the static prefix, at /api and at /ajax-api, and nothing beside it."""
    with asking(tmp_path, static_prefix=prefix) as ask:
        for path in (
            "/health",
            "/metrics",
            "/api/turnout/v1/",
            "/api/turnout/v1/changes",
            "/api/3.0/mlflow/server-info",
        ):
            assert ask("GET", prefix + path)[0] == 200
            assert not prefix or ask("GET", path)[0] == 404
        assert ask("POST", f"{prefix}{API}/registered-models/create", {"name": "m"})[0] == 200
        for each in ("/api", "/ajax-api"):
            assert ask("GET", f"{prefix}{each}/2.0/mlflow/registered-models/get?name=m")[0] == 200
            assert ask("GET", f"{prefix}{each}/2.0/mlflow-artifacts/artifacts?path=")[0] == 200
        assert ask("GET", f"{prefix or '/'}x/health")[0] == 404


def test_fields_in_paths(ask: Ask) -> None:
    """A field in a path is decoded once, as UTF-8."""
    ask("POST", f"{API}/registered-models/create", {"name": "weiß 100%"})
    status, _, body = ask("GET", "/api/turnout/v1/registered-models/wei%C3%9F%20100%25/aliases/x")
    assert (status, "'weiß 100%' has no alias 'x'" in body.decode()) == (400, True)
    assert ask("GET", "/api/turnout/v1/registered-models/%ff/aliases/x")[0] == 400


# Browsers


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "", "localhost.evil.example", "127.0.0.1@evil"])
def test_strange_hosts(ask: Ask, host: str) -> None:
    """A page whose name was rebound to this address reads and changes nothing."""
    for path in ("/version", "/metrics", f"{API}/registered-models/search", "/api/turnout/v1/changes", "/nope"):
        status, _, body = ask("GET", path, headers={"Host": host})
        assert (status, code_of(body)) == (403, "PERMISSION_DENIED")
    assert ask("POST", f"{API}/registered-models/create", {"name": "m"}, {"Host": host})[0] == 403
    assert ask("GET", f"{API}/registered-models/get?name=m")[0] == 404
    assert ask("GET", "/health", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://localhost", "file://", "http://["]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "registered-models/create"), ("DELETE", "registered-models/delete"),
        ("PATCH", "registered-models/update"), ("PUT", "../../turnout/v1/gateways/g"),
    ],
)  # fmt: skip
def test_strange_origins(ask: Ask, method: str, path: str, origin: str) -> None:
    """A page of another origin changes nothing, by any method."""
    ask("POST", f"{API}/registered-models/create", {"name": "m", "description": "kept"})
    path = "/api/turnout/v1/gateways/g" if path.startswith("..") else f"{API}/{path}"
    status, _, body = ask(method, path, {"name": "m"}, {"Origin": origin})
    assert (status, code_of(body)) == (403, "PERMISSION_DENIED")
    assert b"kept" in ask("GET", f"{API}/registered-models/get?name=m")[2]
    assert ask("GET", f"{API}/registered-models/get?name=m", headers={"Origin": origin})[0] == 200


@pytest.mark.parametrize(
    ("allowed", "host", "origin", "is_refused"),
    [
        ([], "localhost:5000", None, False),
        ([], "LOCALHOST", None, False),
        ([], "[::1]:5000", "http://[::1]:5000", False),
        ([], "10.0.0.1:5000", "http://10.0.0.1:5000", False),
        ([], "reg.example", None, True),
        ([], None, None, True),
        (["reg.example"], "reg.example:80", "https://reg.example", False),
        (["reg.example"], "x.reg.example", None, True),
        (["*.example"], "reg.example", "http://other.example", False),
        (["*.example"], "example", None, True),
        (["*"], "anything", None, False),
        (["*"], "anything", "http://anything", False),
        (["*"], "anything", "http://evil.example", True),
        (["*"], "two hosts", None, True),
    ],
)
def test_guard(allowed: list[str], host: str | None, origin: str | None, is_refused: bool) -> None:
    """Names are this machine's or allowed, and a page may write to its own host or from an allowed one."""
    headers = {} if host is None else {b"host": host.encode()}
    if origin is not None:
        headers[b"origin"] = origin.encode()
    guard = Guard(allowed)
    for _ in range(2):
        assert (guard.refusal("POST", headers) is not None) == is_refused


# Limits


def test_large_bodies(ask: Ask) -> None:
    """A body over the limit is refused before it is read, and batches may be larger."""
    text = "x" * MAX_BODY_BYTES
    status, headers, body = ask("POST", f"{API}/registered-models/create", {"name": text})
    assert (status, code_of(body)) == (413, "BAD_REQUEST")
    assert headers["connection"] == "close"
    assert ask("POST", f"{API}/runs/log-batch", {"run_id": "r", "tags": [{"key": "k", "value": text}]})[0] == 400


def test_large_body_without_length(tmp_path: Path) -> None:
    """A chunked body that grows over the limit is refused too."""
    head = f"POST {API}/registered-models/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with (
        connect(f"sqlite:///{tmp_path / 'r.db'}") as registry,
        served(registry) as at,
        socket.create_connection(at, timeout=30) as client,
    ):
        client.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(MAX_BODY_BYTES // 0x10000 + 1):
            client.sendall(chunk)
        assert client.recv(64).startswith(b"HTTP/1.1 413 ")


def test_compressed_bodies(ask: Ask) -> None:
    """They are not unpacked, however small they are."""
    headers = {"Content-Encoding": "gzip"}
    assert ask("POST", f"{API}/registered-models/create", b"\x1f\x8b", headers)[0] == 415


# Warnings and the acting user


def test_warnings_reach_their_client(ask: Ask) -> None:
    """`Champion` beside `champion` is set with a warning, which no other request gets."""
    for name in ("a", "b"):
        ask("POST", f"{API}/registered-models/create", {"name": name})
        ask("POST", f"{API}/model-versions/create", {"name": name, "source": "s3://b/k"})
        ask("POST", f"{API}/registered-models/alias", {"name": name, "alias": "champion", "version": "1"})

    def set_alias(number: int) -> str | None:
        name, alias = ("a", f"Champion{number}") if number % 2 else ("b", "CHAMPION" if number == 0 else f"c{number}")
        body = {"name": name, "alias": alias, "version": "1"}
        status, headers, _ = ask("POST", f"{API}/registered-models/alias", body)
        assert status == 200
        return headers.get("x-turnout-warning")

    with ThreadPoolExecutor(8) as pool:
        warned = list(pool.map(set_alias, range(16)))
    assert [number for number, each in enumerate(warned) if each] == [0]
    assert "'champion'" in (warned[0] or "")


def test_acting_users(ask: Ask) -> None:
    """A move is recorded under the name that its own request gave."""
    ask("POST", f"{API}/registered-models/create", {"name": "m"})
    for _ in range(2):
        ask("POST", f"{API}/model-versions/create", {"name": "m", "source": "s3://b/k"})
    for version, actor in ((1, "J%C3%BCrgen"), (2, None), (1, "ana")):
        headers = {} if actor is None else {"X-Turnout-Actor": actor}
        assert ask("PUT", "/api/turnout/v1/registered-models/m/aliases/a", {"version": version}, headers)[0] == 200
    history = json.loads(ask("GET", "/api/turnout/v1/registered-models/m/aliases/a/history")[2])
    assert [each["by"] for each in history["moves"]] == ["ana", None, "Jürgen"]


# Threads


async def test_slow_jobs_do_not_hold_up_others() -> None:
    """While the first threads hang, another one joins; when all is done, only a few stay."""
    crew, gate, before = Crew(few=1, many=3), threading.Event(), threads_of_requests()
    slow = [asyncio.create_task(crew.run(gate.wait)) for _ in range(2)]
    async with asyncio.timeout(10):
        assert await crew.run(lambda: "quick") == "quick"
        gate.set()
        await asyncio.gather(*slow)
        while threads_of_requests() > before + 1:
            await asyncio.sleep(0.01)
    assert crew.load == 0
    crew.close()


async def test_too_many_jobs() -> None:
    """What would wait too long is refused at once, and what was taken is done."""
    crew, gate = Crew(few=1, many=1, max_waiting=2), threading.Event()
    taken = [asyncio.create_task(crew.run(gate.wait))]
    await asyncio.sleep(0.1)
    taken += [asyncio.create_task(crew.run(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="too much to do"):
        await crew.run(int)
    gate.set()
    assert await asyncio.gather(*taken) == [True] * 3
    crew.close()


async def test_failing_jobs() -> None:
    """A job's error is its caller's, and the thread goes on."""
    crew = Crew(few=1)
    with pytest.raises(ZeroDivisionError):
        await crew.run(lambda: 1 // 0)
    assert await crew.run(int) == 0
    crew.close()
    with pytest.raises(Unavailable):
        await crew.run(int)


def threads_of_requests() -> int:
    return sum(each.name == "request" for each in threading.enumerate())
