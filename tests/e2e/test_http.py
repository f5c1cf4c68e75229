"""The gateway's HTTP surface, against a real process: what clients get, also those who mean ill."""

import contextlib
import json
import socket

import numpy
import pandas
import pytest
from sklearn.linear_model import LinearRegression

import registry
from tests.e2e.gateways import Gateway, behaving, eventually

FEATURES = pandas.DataFrame({"a": [0.0, 1.0, 2.0, 4.0], "b": [1.0, 0.0, 3.0, 1.0]})
MODEL = LinearRegression().fit(FEATURES, [1.0, 3.0, 8.0, 10.0])
EXPECTED = MODEL.predict(FEATURES).tolist()


def start(folder, *arguments):
    """A gateway on the registry in *folder*."""
    uri = f"sqlite:///{folder}/turnout.db"
    return Gateway(folder, [*arguments, "--registry-uri", uri, "--cache", str(folder / "cache")])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """Two endpoints: a linear regression with a signature (the alias is `best`), and a model that behaves as told."""
    folder = tmp_path_factory.mktemp("http")
    uri = f"sqlite:///{folder}/turnout.db"
    with contextlib.closing(registry.connect(uri)) as client:
        registry.log_model(
            MODEL,
            name="linear",
            registered_model_name="linear",
            signature=registry.infer_signature(FEATURES, MODEL.predict(FEATURES)),
            client=client,
        )
        client.set_registered_model_alias("linear", "best", "1")
        registry.log_model(behaving(1), name="m", registered_model_name="m", client=client)
    gateway = start(folder, "-m", "models:/linear@best", "-m", "models:/m/1", "--max-body", "1MiB")
    yield gateway.ready()
    gateway.close()


def invoke(gateway, content, content_type="application/json", path="/endpoints/linear/invocations", **headers):
    content = content if isinstance(content, str | bytes) else json.dumps(content)
    return gateway.client.post(path, content=content, headers={"Content-Type": content_type, **headers})


SPLIT = {"dataframe_split": {"columns": ["a", "b"], "data": FEATURES.values.tolist()}}


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (SPLIT, "application/json"),
        (SPLIT, "application/json; charset=utf-8"),
        (
            {"dataframe_split": {"columns": ["b", "a"], "data": FEATURES[["b", "a"]].values.tolist()}},
            "application/json",
        ),
        ({"dataframe_records": FEATURES.to_dict(orient="records")}, "application/json"),
        ({"inputs": FEATURES.to_dict(orient="list")}, "application/json"),
        ({"instances": FEATURES.to_dict(orient="records")}, "application/json"),
        (FEATURES.to_csv(index=False), "text/csv"),
        (FEATURES.astype(str).assign(more="x").to_csv(index=False), "text/csv"),
        (FEATURES.to_parquet(), "application/vnd.apache.parquet"),
    ],
)
def test_every_form_of_the_scoring_protocol_is_answered(gateway, content, content_type):
    """The same rows in every form that MLflow takes give the same predictions."""
    answer = invoke(gateway, content, content_type)

    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx(EXPECTED, rel=1e-12)


def test_an_answer_names_who_gave_it(gateway):
    """Model, version, alias, role and request id; the client's own id comes back."""
    answer = invoke(gateway, SPLIT, **{"X-Request-Id": "mine-1"})

    names = ("X-Model-Name", "X-Model-Version", "X-Model-Alias", "X-Served-By", "X-Request-Id", "Content-Type")
    assert [answer.headers[name] for name in names] == ["linear", "1", "best", "primary", "mine-1", "application/json"]
    assert len(invoke(gateway, SPLIT).headers["X-Request-Id"]) == 32


def test_a_version_can_be_pinned_while_it_is_warm(gateway):
    """Another version is 404, and the answer lists those that are warm."""
    pinned = invoke(gateway, SPLIT, path="/endpoints/linear/versions/1/invocations")
    cold = invoke(gateway, SPLIT, path="/endpoints/linear/versions/9/invocations")

    assert pinned.json()["predictions"] == pytest.approx(EXPECTED)
    assert cold.status_code == 404
    assert "it has: 1" in cold.json()["message"]


@pytest.mark.parametrize("path", ["/ping", "/health"])
def test_readiness_is_as_mlflow_answers_it(gateway, path):
    """200 with a newline while there is a model to serve."""
    answer = gateway.client.get(path)
    assert (answer.status_code, answer.text, answer.headers["Content-Type"]) == (200, "\n", "application/json")


def test_version_and_status(gateway):
    """Turnout's version as text, and the status in the documented shape."""
    eventually(lambda: gateway.status()["versions"][0]["proof"], "a proof")
    status = gateway.client.get("/status").json()

    assert gateway.client.get("/version").text.count(".") == 2
    assert set(status) >= {"epoch", "ready", "registry", "endpoints"}
    assert status["ready"] is True
    assert set(status["registry"]) >= {"uri", "reachable", "last_seen"}
    endpoint = status["endpoints"][0]
    assert (endpoint["name"], endpoint["model"], endpoint["alias"], endpoint["state"]) == (
        "linear",
        "linear",
        "best",
        "serving",
    )
    [version] = endpoint["versions"]
    expected = {"version": "1", "role": "primary", "share": 1.0, "state": "ready", "replicas": 1}
    expected |= {"digest": version["digest"], "path": "array+batch", "proof": "equal within 1e-09"}
    assert expected.items() <= version.items()  # keys are only ever added


BAD = [
    ("", "application/json", 400),
    ("nonsense", "application/json", 400),
    ("[1, 2]", "application/json", 400),
    ("{}", "application/json", 400),
    ({"inputs": [1], "instances": [1]}, "application/json", 400),
    ({"dataframe_split": {"data": [[1.0, 2.0]], "columns": ["a", "b"], "more": 1}}, "application/json", 400),
    ({"dataframe_split": {"columns": ["a"], "data": [[1.0]]}}, "application/json", 400),
    ({"dataframe_split": {"columns": ["a", "b"], "data": [[1.0], [2.0, 3.0]]}}, "application/json", 400),
    ({"dataframe_split": {"columns": ["a", "b"], "data": [["x", 2.0]]}}, "application/json", 400),
    ("[" * 100_000, "application/json", 400),
    ('{"inputs": ' + "[" * 100_000, "application/json", 400),
    ('{"dataframe_split": {"columns": ["a", "b"], "data": [[' + "9" * 5000 + ", 1]]}}", "application/json", 400),
    (b'{"inputs": "\xff\xfe"}', "application/json", 400),
    ("a,b\n1", "text/csv", 400),
    ("", "text/csv", 400),
    (b"PAR1 no parquet", "application/vnd.apache.parquet", 400),
    (SPLIT, "text/plain", 415),
    (SPLIT, "application/json; charset=latin-1", 415),
    (SPLIT, "application/json; format=pandas", 415),
    (SPLIT, "", 415),
    (" " * (2 << 20), "application/json", 413),
]


@pytest.mark.parametrize(("content", "content_type", "status"), BAD)
def test_bad_bodies_are_4xx_with_a_sentence(gateway, content, content_type, status):
    """Malformed, huge or hostile: an error in the wire's shape, no trace, and the next request is answered."""
    answer = invoke(gateway, content, content_type)

    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error_code", "message"}
    assert answer.json()["message"]
    assert "Traceback" not in answer.text
    assert len(answer.content) < 10_000
    assert invoke(gateway, SPLIT).status_code == 200


def test_an_unknown_endpoint_and_a_wrong_method_are_told(gateway):
    """404 names the endpoints there are; 405 says POST."""
    unknown = invoke(gateway, SPLIT, path="/endpoints/nobody/invocations")

    assert unknown.status_code == 404
    assert "linear, m" in unknown.json()["message"]
    assert gateway.client.get("/endpoints/linear/invocations").status_code == 405
    assert gateway.client.get("/nowhere").status_code == 404
    assert gateway.client.get("/nowhere").json()["error_code"] == "ENDPOINT_NOT_FOUND"
    assert invoke(gateway, SPLIT, path="/invocations").status_code == 404


def test_a_page_behind_a_proxy_is_redirected_to_where_the_client_came_from(gateway):
    """What a proxy says of the client's own scheme is believed from this machine."""
    plain, proxied = (
        gateway.client.get("/docs/", headers=headers, follow_redirects=False)
        for headers in ({}, {"X-Forwarded-Proto": "https"})
    )

    assert plain.headers["location"].startswith("http://")
    assert proxied.headers["location"].startswith("https://")


def test_a_compressed_body_is_refused(gateway):
    """There is no decompression, so there is no bomb."""
    assert invoke(gateway, SPLIT, **{"Content-Encoding": "gzip"}).status_code == 415


RAW = [
    b"POST /endpoints/m/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /endpoints/m/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    b"POST /endpoints/m/invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]


@pytest.mark.parametrize("request_bytes", RAW)
def test_tf078_broken_http_is_closed_and_nothing_else(gateway, request_bytes):
    """What is no HTTP gets 400 or nothing, and the server goes on."""
    address = (gateway.client.base_url.host, gateway.client.base_url.port)
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()

    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert invoke(gateway, SPLIT).status_code == 200


def test_a_chunked_body_over_the_limit_is_refused(gateway):
    """A body that announces no length is counted."""
    answer = gateway.client.post(
        "/endpoints/linear/invocations",
        content=(b" " * 65536 for _ in range(40)),
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == 413


def test_tf125_odd_predictions_are_encoded_as_mlflow_does(gateway):
    """NaN and infinity come out bare, as in MLflow's own scoring protocol."""
    rows = {"dataframe_split": {"columns": ["a", "b"], "data": [[None, 1.0]]}}

    answer = invoke(gateway, rows)

    # A linear regression refuses NaN itself: an error of the model, 400 as in MLflow.
    assert answer.status_code == 400
    assert "NaN" in answer.json()["message"]


def test_unicode_names_travel_in_headers_percent_encoded(tmp_path):
    """Headers are ASCII; a model's name need not be."""
    with contextlib.closing(registry.connect(f"sqlite:///{tmp_path}/turnout.db")) as client:
        registry.log_model(behaving(1), name="g", registered_model_name="größe", client=client)
    gateway = start(tmp_path, "-m", "size=models:/größe/1")
    try:
        answer = gateway.ready().ask()
        assert answer.headers["X-Model-Name"] == "gr%C3%B6%C3%9Fe"
    finally:
        gateway.close()


def test_numpy_is_not_in_the_ingress(gateway):
    """The process that speaks HTTP maps neither numpy, pandas nor scikit-learn, also after predictions."""
    assert numpy.__name__ == "numpy"
    invoke(gateway, SPLIT)

    with open(f"/proc/{gateway.process.pid}/maps") as maps:
        mapped = maps.read()

    assert not any(f"/{name}/" in mapped for name in ("numpy", "pandas", "sklearn", "scipy"))
