"""Trying an endpoint from its page: the form, what is sent to the gateway, and to whom nothing is."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

TRY = "/deployments/box%3A1/wine/try"
SIGNATURE = {
    "inputs": [
        {"name": "age", "type": "double"},
        {"name": "rooms", "type": "long"},
        {"name": "city", "type": "string", "required": False},
        {"name": "new", "type": "boolean"},
    ],
    "params": [{"name": "top", "type": "long", "default": 3}],
}
EXAMPLE = {"dataframe_split": {"columns": ["age", "rooms", "city", "new"], "data": [[41.5, 3, "Alba", False]]}}
FILLED = {"mode": "fields", "column-0": "50", "column-1": "4", "column-2": "", "column-3": "true", "param-0": "7"}


class _Gateway(http.server.BaseHTTPRequestHandler):
    """Says who it is, and answers predictions as it was told to; keeps what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.asked.append(("GET", self.path, dict(self.headers), b""))
        self.answer(200, json.dumps({"gateway": self.server.calls_itself}).encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append(("POST", self.path, dict(self.headers), body))
        self.answer(*self.server.says, {"X-Model-Version": "2", "X-Served-By": "primary", "X-Model-Alias": "champion"})

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def gateway() -> Iterator[http.server.ThreadingHTTPServer]:
    """Something that answers at an address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as server:
        server.asked, server.calls_itself, server.says = [], "box:1", (200, b'{"predictions": [152.1]}')
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def wine(registry, make_version):
    """A version with a signature and an input example."""
    registry.create_registered_model("wine")
    signature = {part: json.dumps(columns) for part, columns in SIGNATURE.items()}
    version = make_version(content=json.dumps({"flavors": {}, "signature": signature}))
    folder = registry.tracking.get_logged_model(version.model_id).artifact_uri.removeprefix("mlflow-artifacts:/")
    with registry.artifacts.create(f"{folder}/serving_input_example.json") as upload:
        upload.write(json.dumps(EXAMPLE).encode())
    make_version()
    registry.set_registered_model_alias("wine", "champion", 1)


@pytest.fixture
def report(client, gateway, wine):
    """Has the gateway report an endpoint, at its own address or at another one."""

    def report(address=None, version="1", **more):
        versions = [{"version": version, "role": "primary", "state": "ready", "share": 1.0}]
        endpoint = {"name": "wine", "model": "wine", "alias": "champion", "state": "serving", "versions": versions}
        body = {"address": address or f"http://127.0.0.1:{gateway.server_port}", "endpoints": [endpoint | more]}
        client.put("/api/turnout/v1/gateways/box:1", json=body).raise_for_status()

    return report


def test_form(reader, report):
    """The form has a field for every column and param, filled with the input example, and the example as JSON."""
    report()

    page = reader.open(TRY)

    assert page.texts("label bdi") == ["age", "rooms", "city", "new", "top"]
    assert [each.attributes["value"] for each in page.document.css(".inputs input")] == ["41.5", "3", "Alba", "3"]
    assert page.attribute("option[selected]", "value") == "false"
    assert json.loads(page.text("textarea")) == EXAMPLE


def test_by_fields(reader, report, gateway):
    """What was typed is sent as a row of its types, and the answer shown with who gave it."""
    report()

    page = reader.send(reader.open(TRY), "main form", FILLED)

    assert page.text("#answer pre") == '{ "predictions": [ 152.1 ] }'
    assert dict(zip(page.texts("#answer dt"), page.texts("#answer dd"), strict=True)) | {"Took": ""} == {
        "Version": "2",
        "Alias": "champion",
        "Served by": "primary",
        "Took": "",
    }
    method, path, _, body = gateway.asked[-1]
    assert (method, path) == ("POST", "/endpoints/wine/invocations")
    row = {"columns": ["age", "rooms", "city", "new"], "data": [[50.0, 4, "", True]]}
    assert json.loads(body) == {"dataframe_split": row, "params": {"top": 7}}
    assert page.attribute("#column-0", "value") == "50"


def test_by_json(reader, report, gateway):
    """What was written as JSON is sent as it is."""
    report()

    page = reader.post(TRY, {"mode": "json", "body": '{"inputs": [NaN, 1]}'})

    assert page.has("#answer pre")
    assert gateway.asked[-1][3] == b'{"inputs": [NaN, 1]}'
    assert page.text("textarea") == '{"inputs": [NaN, 1]}'


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (FILLED | {"column-0": "old"}, "'age' must be a number (double), got 'old'"),
        (FILLED | {"column-1": "3.5"}, "'rooms' must be a number (long), got '3.5'"),
        (FILLED | {"column-0": "inf"}, "'age' must be a finite number"),
        (FILLED | {"column-0": " "}, "'age' is missing"),
        (FILLED | {"param-0": "x"}, "'top' must be a number"),
        ({"mode": "json", "body": "{"}, "not JSON"),
        ({"mode": "json", "body": ""}, "missing"),
        ({"mode": "json", "body": "[" * 5000}, "not JSON"),
    ],
)
def test_mistakes(reader, report, gateway, typed, says):
    """What cannot be sent is told, and what was typed stands there still; the gateway hears nothing of it."""
    report()

    page = reader.post(TRY, typed)

    assert page.status == 400
    assert says in page.text("#answer .error")
    assert gateway.asked == []


def test_an_error_of_the_model(reader, report, gateway):
    """A refusal by the gateway is shown as what it is."""
    gateway.says = 400, b'{"error_code": "BAD_REQUEST", "message": "<script>bad luck</script>"}'
    report()

    page = reader.post(TRY, FILLED)

    assert page.text("#answer .error") == "The gateway answered with 400."
    assert "<script>bad luck</script>" in page.text("#answer pre")
    assert not page.has("main script")


def test_a_long_answer(reader, report, gateway):
    """Of an answer without end a beginning is read, and less is shown."""
    gateway.says = 200, b"9" * (3 << 20)
    report()

    page = reader.post(TRY, FILLED)

    assert len(page.text("#answer pre")) == 20_000
    assert "only its beginning" in page.text("#answer")


def test_nothing_of_the_browser_is_sent_on(reader, report, gateway):
    """Neither cookies nor credentials nor any other header of who asks reach the gateway."""
    report()

    reader.post(TRY, FILLED, cookie="session=secret", authorization="Bearer secret", **{"x-forwarded-for": "10.1.1.1"})

    assert len(gateway.asked) == 2
    for _, _, headers, _ in gateway.asked:
        assert {name.lower() for name in headers} <= {"host", "content-type", "content-length"}


def test_form_from_elsewhere(reader, report, gateway):
    """A page of another origin can have nothing tried."""
    report()

    assert reader.post(TRY, FILLED, origin="http://evil.example").status == 403
    assert gateway.asked == []


def test_who_does_not_name_himself(reader, report, gateway):
    """An address at which something else answers is sent nothing, and nothing of its answer is shown."""
    gateway.calls_itself = "another:1"
    report()

    other = reader.post(TRY, FILLED)
    gateway.shutdown()
    gateway.server_close()
    nobody = reader.post(TRY, FILLED)

    assert [each[:2] for each in gateway.asked] == [("GET", "/status")]
    assert other.status == nobody.status == 503
    assert other.text("#answer .error") == nobody.text("#answer .error")
    assert "as gateway box:1" in other.text("#answer .error")


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254",
        "http://[fe80::1]:80",
        "http://[::ffff:169.254.169.254]",
        "http://0.0.0.0:1",
        "http://224.0.0.1",
        "http://0x7f000001:80",
        "http://127.1:80",
        "http://user:pw@127.0.0.1:1",
        "http://127.0.0.1:1/path",
        "http://127.0.0.1:1?x=1",
        "http://127.0.0.1:1#x",
        "http://127.0.0.1:99999",
        "file:///etc/passwd",
        "gopher://127.0.0.1:1",
        "javascript:alert(1)",
        "http://127.0.0.1:1\r\nX: y",
        "http://",
        "",
        "http://[",
    ],
)
def test_addresses_that_no_gateway_has(reader, report, gateway, client, address):
    """What is no address of a gateway is asked nothing, whoever reported it."""
    report()
    versions = [{"version": "1", "role": "primary"}]
    endpoint = {"name": "wine", "model": "wine", "alias": "champion", "versions": versions}
    body = {"address": address, "endpoints": [endpoint]}
    client.put("/api/turnout/v1/gateways/box:1", json=body).raise_for_status()

    page = reader.post(TRY, FILLED)

    assert page.status == 400
    assert page.has("#answer .error")
    assert gateway.asked == []


def test_without_a_signature(reader, report, gateway):
    """A version without a signature is asked in JSON."""
    report(version="2")

    page = reader.open(TRY)

    assert page.texts("main form button") == ["Send"]
    assert page.text("textarea") == ""


def test_of_another_registry(reader, report, gateway):
    """An endpoint whose model this registry does not know can be tried all the same."""
    report(model="/srv/models/wine", alias=None, version="/srv/models/wine")

    page = reader.post(TRY, {"mode": "json", "body": '{"inputs": [1]}'})

    assert "152.1" in page.text("#answer pre")


def test_linked_from_the_version(reader, report):
    """The page of a version that is served leads to trying it."""
    report()

    page = reader.open("/models/wine/versions/1")

    assert page.attribute(".serving a[aria-label^=Try]", "href") == TRY
