"""The Open Inference Protocol v2 of a real gateway: headers, errors, health, and requests joined with MLflow's."""

import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy
import pandas
import pytest
from sklearn.ensemble import RandomForestRegressor

import registry
from tests.e2e.gateways import eventually

RANDOM = numpy.random.RandomState(7)
DATA = pandas.DataFrame(RANDOM.rand(60, 3), columns=["a", "b", "c"])
FOREST = RandomForestRegressor(20, random_state=0).fit(DATA, DATA.to_numpy() @ [1.0, -2.0, 3.0])
ROW = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 3], "data": DATA.iloc[0].tolist()}]}
INFER = "/v2/models/m/infer"


@pytest.fixture
def served(add, client, serve):
    """A gateway with a forest that is proven to be joined."""
    version = add(FOREST, signature=registry.infer_signature(DATA, FOREST.predict(DATA)), input_example=DATA.head(3))
    client.set_registered_model_alias("m", "champion", version)
    gateway = serve().ready()
    eventually(lambda: gateway.status()["versions"][0]["path"].endswith("array+batch"), "a proof")
    return gateway


def test_an_answer_with_its_headers(served):
    """The same headers as those of MLflow's protocol, and the request's id in both places."""
    answer = served.client.post(INFER, json={**ROW, "id": "7"}, headers={"X-Request-Id": "abc"})

    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "m",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "predict", "datatype": "FP64", "shape": [1], "data": FOREST.predict(DATA.head(1)).tolist()}
        ],
    }
    expected = {"x-model-name": "m", "x-model-version": "1", "x-model-alias": "champion", "x-served-by": "primary"}
    assert expected.items() <= dict(answer.headers).items()
    assert answer.headers["x-request-id"] == "abc"
    assert answer.headers["content-type"] == "application/json"


def test_binary_in_both_directions(served):
    """The bytes of a matrix come in, and the bytes of the answer go out, on the pinned version's path too."""
    raw = DATA.to_numpy().tobytes()
    head = b'{"inputs":[{"name":"x","datatype":"FP64","shape":[60,3],"parameters":{"binary_data_size":%d}}],' % len(raw)
    head += b'"parameters":{"binary_data_output":true}}'
    for path in (INFER, "/v2/models/m/versions/1/infer"):
        answer = served.client.post(
            path, content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))}
        )

        assert answer.headers["content-type"] == "application/octet-stream"
        body = answer.content[int(answer.headers["inference-header-content-length"]) :]
        assert list(struct.unpack("<60d", body)) == FOREST.predict(DATA).tolist()


def test_requests_of_both_protocols_are_joined(served):
    """Everybody gets the answers to his own rows, and there come to be fewer calls of the model than requests."""

    def some_joined():
        before = calls(served)
        for found, rows in ask_together(served):
            assert found == FOREST.predict(rows).tolist()
        return calls(served) - before < 24

    eventually(some_joined, "joined requests")


def ask_together(gateway):
    """Twenty-four requests at once, every second one in MLflow's protocol; gives answers and rows."""
    together = threading.Barrier(24)

    def ask(at):
        rows = DATA.iloc[at : at + 1 + at % 5]
        table = {"dataframe_split": {"columns": list("abc"), "data": rows.to_numpy().tolist()}}
        tensor = {**ROW["inputs"][0], "shape": list(rows.shape), "data": rows.to_numpy().ravel().tolist()}
        together.wait(30)
        if at % 2:
            return gateway.client.post("/invocations", json=table).json()["predictions"], rows
        return gateway.client.post(INFER, json={"inputs": [tensor]}).json()["outputs"][0]["data"], rows

    with ThreadPoolExecutor(24) as threads:
        return list(threads.map(ask, range(24)))


def calls(gateway):
    [line] = [each for each in gateway.client.get("/metrics").text.splitlines() if "model_calls_total{" in each]
    return float(line.split()[-1])


def test_the_document_tells_the_default_endpoint(served):
    """`/invocations` stands in the OpenAPI document where there is one endpoint, with its example."""
    paths = served.client.get("/openapi.json").json()["paths"]

    body = paths["/invocations"]["post"]["requestBody"]
    assert body == paths["/endpoints/m/invocations"]["post"]["requestBody"]
    example = body["content"]["application/json"]["example"]
    assert served.client.post("/invocations", json=example).json() == {
        "predictions": FOREST.predict(DATA.head(3)).tolist()
    }
    assert "/v2/models/m/versions/1/ready" in paths


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "message"),
    [
        ("POST", "/v2/models/n/infer", 404, "RESOURCE_DOES_NOT_EXIST", "there is no endpoint 'n'; there is: m"),
        (
            "POST",
            "/v2/models/m/versions/9/infer",
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "no version '9' that is warm; it has: 1",
        ),
        ("GET", "/v2/models/m/versions/9", 404, "RESOURCE_DOES_NOT_EXIST", "no version '9' that is warm; it has: 1"),
        (
            "GET",
            "/v2/models/m/versions/9/ready",
            503,
            "TEMPORARILY_UNAVAILABLE",
            "version '9' of endpoint 'm' is not ready",
        ),
        ("GET", "/v2/models/n", 404, "RESOURCE_DOES_NOT_EXIST", "there is no endpoint 'n'; there is: m"),
        ("GET", "/v2/models/m/config", 404, "RESOURCE_DOES_NOT_EXIST", "a model has no 'config'; it has: ready, infer"),
        (
            "GET",
            "/v2/repository/index",
            404,
            "RESOURCE_DOES_NOT_EXIST",
            "there is no /v2/repository/index; there is: /v2",
        ),
        ("GET", INFER, 405, "BAD_REQUEST", "predictions are asked for with POST"),
        ("POST", "/v2/models/m", 405, "BAD_REQUEST", "Method Not Allowed"),
        ("POST", INFER, 400, "BAD_REQUEST", "no inference request of the Open Inference Protocol v2"),
    ],
)
def test_errors(served, method, path, status, code, message):
    """Each says its sentence where clients of either protocol look for it."""
    answer = served.client.request(method, path, content=b"{}" if method == "POST" else None)

    assert answer.status_code == status
    assert answer.json()["error_code"] == code
    assert message in answer.json()["message"]
    assert answer.json()["error"] == answer.json()["message"]


def test_health_of_a_gateway_that_cannot_serve(serve, client, tmp_path):
    """It is alive whatever becomes of the registry, and not ready; each of its models says so too."""
    client.create_registered_model("m")
    gateway = serve()

    assert gateway.client.get("/v2/health/live").json() == {"live": True}
    shutil.move(tmp_path / "turnout.db", tmp_path / "away.db")
    eventually(lambda: gateway.status()["last_error"], "an error in /status")

    assert gateway.client.get("/v2/health/live").json() == {"live": True}
    for path in ("/v2/health/ready", "/v2/models/m/ready", "/v2/models/m"):
        answer = gateway.client.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        assert "ready" in answer.json()["error"] or "no version" in answer.json()["error"]


def test_a_sleeping_model_is_ready_and_loaded_when_its_metadata_is_asked_for(serve, client, add):
    """A probe loads nothing; what only the model's files can tell does."""
    client.set_registered_model_alias("m", "champion", add(FOREST, signature=registry.infer_signature(DATA)))
    gateway = serve("--lazy").ready()

    assert gateway.client.get("/v2/models/m/ready").json() == {"name": "m", "ready": True}
    assert gateway.status()["state"] == "idle"
    assert [each["name"] for each in gateway.client.get("/v2/models/m").json()["inputs"]] == ["a", "b", "c"]
    assert gateway.status()["state"] == "serving"
