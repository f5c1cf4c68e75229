"""What no document allows, sent to every route of MLflow's: wrong types, odd texts, broken bodies. Never a 5xx."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.connection import connect
from registry.server.openapi import MLFLOW_FIELDS
from tests.registry.serving import served

API = "/api/2.0/mlflow/"
NAMES = sorted({each.partition(":")[0].rstrip("!") for told in MLFLOW_FIELDS.values() for each in told.split()})
KNOWN = ["m", "1", "champion", "0", "models:/m/1", "models:/m@champion", "READY", "None", "name LIKE '%'"]
ODD = [
    "",
    "\0",
    "\ud800",
    "é" * 300,
    "../..",
    "%00",
    "' OR 1=1",
    "1e400",
    "-1",
    "9" * 30,
    "models:/",
    "NaN",
    "{}",
    "[]",
]

texts = st.sampled_from(KNOWN) | st.sampled_from(ODD) | st.text(max_size=20)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
fields = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), values, max_size=8)
bodies = (
    fields.map(lambda found: json.dumps(found).encode())
    | values.map(lambda found: json.dumps(found).encode())
    | st.binary(max_size=40)
    | st.sampled_from([b"[" * 10_000, b'{"a":' * 10_000, b"\xff\xfe{}", b'{"name": "m", "name": 1}', b'"{}"'])
)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[http.client.HTTPConnection]:
    """To a server with something in it that can be met by chance."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with (
        connect(f"sqlite:///{folder / 'r.db'}", allowed_sources=["s3://bucket"]) as registry,
        served(registry) as at,
    ):
        registry.create_registered_model("m")
        registry.create_model_version("m", "s3://bucket/model")
        registry.set_registered_model_alias("m", "champion", 1)
        connection = http.client.HTTPConnection(*at, timeout=30)
        yield connection
        connection.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None) -> tuple[int, Any]:
    headers = {} if body is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
    except (http.client.HTTPException, ConnectionError):
        connection.close()  # it was closed after an answer to the last one
        connection.request(method, path, body, headers)
        response = connection.getresponse()
    return response.status, json.loads(response.read())


@pytest.mark.parametrize(("method", "path"), sorted(MLFLOW_FIELDS), ids=str)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_gets_a_5xx(connection, method, path, data):
    """Every answer is JSON; every refusal names a code and says something."""
    address = API + path.format(model_id="m-" + "0" * 32, webhook_id="0" * 32, tag_key="key")
    if method == "GET":
        query = data.draw(st.lists(st.tuples(st.sampled_from(NAMES), texts), max_size=6))
        pairs = [f"{name}={quote(value, errors='surrogatepass')}" for name, value in query]
        status, answer = ask(connection, method, f"{address}?{'&'.join(pairs)}", None)
    else:
        status, answer = ask(connection, method, address, data.draw(bodies))
    assert status < 500, answer
    if status != 200:
        assert set(answer) == {"error_code", "message"}
        assert answer["message"]
