"""`/openapi.json` and `/docs` of a real gateway: true, usable from a browser, and untouched by hostile names."""

import contextlib
import json
import re
import shlex
import subprocess

import numpy
import pandas
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance
from sklearn.linear_model import LinearRegression

import registry
from tests.browsers import chromium
from tests.e2e.gateways import Gateway

TABLE = pandas.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.5, 1.5, -1.0]})
MIXED = pandas.DataFrame({"n": [1, 2], "t": ["x", "it's"], "f": [True, False]})
MATRIX = numpy.arange(6.0).reshape(3, 2).astype("float32")
HOSTILE = "<img src=x onerror=alert(1)>'\"`<script>alert(2)"


class Rows(registry.PythonModel):
    """The number of each row."""

    def predict(self, context, model_input, params=None):
        return list(range(len(model_input)))


def linear(data):
    return LinearRegression().fit(data, numpy.arange(float(len(data))))


HOSTILE_TABLE = TABLE.set_axis([HOSTILE, "</textarea>"], axis=1)
MODELS = {
    "table": (linear(TABLE), registry.infer_signature(TABLE, numpy.ones(3)), TABLE),
    "matrix": (linear(MATRIX), registry.infer_signature(MATRIX), MATRIX),
    "mixed": (Rows(), registry.infer_signature(MIXED, params={"k": 1}), (MIXED, {"k": 2})),
    "exampleless": (linear(TABLE), registry.infer_signature(TABLE), None),
    "bare": (linear(TABLE.to_numpy()), None, TABLE.to_numpy()),
    HOSTILE: (linear(HOSTILE_TABLE), registry.infer_signature(HOSTILE_TABLE), HOSTILE_TABLE),
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway of six models, one of them with names that are markup."""
    folder = tmp_path_factory.mktemp("docs")
    uri = f"sqlite:///{folder}/turnout.db"
    with contextlib.closing(registry.connect(uri)) as client:
        for name, (model, signature, example) in MODELS.items():
            registry.log_model(
                model,
                name="model",
                registered_model_name=name,
                signature=signature,
                input_example=example,
                client=client,
            )
    named = {re.sub(r"\W+", "-", name).strip("-"): name for name in MODELS}
    flags = [flag for endpoint, name in named.items() for flag in ("-m", f"{endpoint}=models:/{name}/1")]
    gateway = Gateway(folder, [*flags, "--registry-uri", uri, "--cache", str(folder / "cache")])
    try:
        yield gateway.ready()
    finally:
        gateway.close()


@pytest.fixture(scope="module")
def document(gateway):
    return gateway.client.get("/openapi.json").json()


def requests(document):
    """Every path that predicts, with its example."""
    for path, item in document["paths"].items():
        if "post" in item:
            yield path, item["post"]["requestBody"]["content"]["application/json"]["example"]


def test_the_document_is_valid(document):
    """It is OpenAPI 3.1 by the specification's own schema."""
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_example_is_answered(gateway, document):
    """The example of every endpoint and version is a request that the model answers, in both protocols alike."""
    answers = {path: gateway.client.post(path, json=example) for path, example in requests(document)}

    assert {path: each.text for path, each in answers.items() if each.status_code != 200} == {}
    assert len(answers) == 4 * len(MODELS)
    for path, answer in answers.items():
        if path.endswith("/infer"):
            same = path.replace("/v2/models/", "/endpoints/").replace("/infer", "/invocations")
            assert answer.json()["outputs"][0]["data"] == numpy.ravel(answers[same].json()["predictions"]).tolist()


def test_examples_are_those_of_the_models(document):
    """The input example that was saved with the model stands in the document, params too, else a row of zeros."""
    examples = dict(requests(document))
    rows = {"columns": ["n", "t", "f"], "data": [[1, "x", True], [2, "it's", False]]}

    assert examples["/endpoints/mixed/invocations"] == {"dataframe_split": rows, "params": {"k": 2}}
    assert examples["/v2/models/mixed/infer"] == {
        "inputs": [
            {"name": "n", "datatype": "INT64", "shape": [2], "data": [1, 2]},
            {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["x", "it's"]},
            {"name": "f", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        ],
        "parameters": {"k": 2},
    }
    assert examples["/endpoints/exampleless/invocations"] == {
        "dataframe_split": {"columns": ["a", "b"], "data": [[0.0, 0.0]]}
    }


def test_schemas_tell_the_signature(document):
    """Names, types and the number of columns of a tensor are in the schema."""
    body = document["paths"]["/endpoints/mixed/invocations"]["post"]["requestBody"]["content"]["application/json"]
    records = body["schema"]["oneOf"][1]["properties"]["dataframe_records"]["items"]
    tensor = document["paths"]["/endpoints/matrix/invocations"]["post"]["requestBody"]["content"]["application/json"]

    assert {name: each["type"] for name, each in records["properties"].items()} == {
        "n": "integer",
        "t": "string",
        "f": "boolean",
    }
    assert records["required"] == ["n", "t", "f"]
    rows = tensor["schema"]["oneOf"][0]["properties"]["inputs"]
    assert (rows["items"]["minItems"], rows["items"]["items"]["type"]) == (2, "number")


def test_nothing_makes_the_gateway_fail(gateway):
    """Whatever is sent along the document, right or wrong, the answer is no 5xx, and what the document says."""
    described = schemathesis.openapi.from_url(f"{gateway.client.base_url}/openapi.json")
    checks = [not_a_server_error, content_type_conformance, status_code_conformance]
    for operation in described.get_all_operations():

        @settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
        @given(operation.ok().as_strategy())
        def ask(case):
            case.call_and_validate(checks=checks)

        ask()


# The page


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, gateway):
    """The page, loaded; whatever goes wrong in it, and whatever it fetches elsewhere, fails the test."""
    page = browser.new_page(base_url=str(gateway.client.base_url))
    wrong, fetched = [], []
    # The browser notes every answer of 400 and more, which the page is there to show.
    page.on("console", lambda note: None if "Failed to load resource" in note.text else wrong.append(note.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto("/docs")
    page.locator("section").nth(len(MODELS) - 1).wait_for()
    yield page
    assert wrong == []
    assert [url for url in fetched if not url.startswith((str(gateway.client.base_url), "data:"))] == []
    page.close()


def section_of(page, name):
    return page.locator(f"#endpoint-{name}")


def test_it_is_sent_as_it_is_shown(page):
    """Send shows the status, the body and the headers of the answer to what is in the text area."""
    section = section_of(page, "table")
    section.get_by_role("button", name="Send").click()
    section.locator(".outcome.good").wait_for()

    assert section.locator(".outcome").inner_text().startswith("200 OK, in ")
    assert [round(each) for each in json.loads(section.locator(".text").inner_text())["predictions"]] == [0, 1, 2]
    assert "x-model-version: 1" in section.locator(".headers").inner_text()


def test_an_error_is_shown(page):
    """What the gateway refuses is shown with its sentence."""
    section = section_of(page, "table")
    section.get_by_role("textbox").fill("{}")
    section.get_by_role("button", name="Send").click()
    section.locator(".outcome.bad").wait_for()

    assert section.locator(".outcome").inner_text().startswith("400 ")
    assert "dataframe_split" in json.loads(section.locator(".text").inner_text())["message"]


def test_it_works_by_keyboard(page):
    """The other protocol is chosen, the body sent and the answer reached without a mouse."""
    section = section_of(page, "table")
    section.get_by_role("combobox").focus()
    page.keyboard.press("ArrowDown")
    assert section.get_by_role("combobox").input_value() == "/v2/models/table/infer"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    page.keyboard.press("Control+Enter")
    section.locator(".outcome.good").wait_for()
    for _ in range(5):
        page.keyboard.press("Tab")

    assert page.evaluate("document.activeElement.ariaLabel") == "Body of the answer"
    assert json.loads(section.locator(".text").inner_text())["outputs"][0]["shape"] == [3]


def test_the_curl_line_is_the_same_request(page):
    """Copied into a shell, quotes and all, it gets the same answer."""
    section = section_of(page, "mixed")
    line = section.locator(".curl").inner_text()

    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=30)

    assert "\n" not in line
    assert shlex.split(line)[0] == "curl"
    assert json.loads(ran.stdout) == {"predictions": [0, 1]}


def test_hostile_names_stay_text(page):
    """Markup in a model's name or in a column's is shown as it is, and changes nothing."""
    name = re.sub(r"\W+", "-", HOSTILE).strip("-")
    section = section_of(page, name)

    assert HOSTILE in section.locator(".serving").inner_text()
    assert HOSTILE in json.loads(section.get_by_role("textbox").input_value())["dataframe_split"]["columns"]
    assert page.locator("img").count() == 0
    section.get_by_role("button", name="Send").click()
    section.locator(".outcome.good").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(browser, gateway, scheme):
    """The page follows the reader's colours, and its text stands out from the ground in both."""
    page = browser.new_page(base_url=str(gateway.client.base_url), color_scheme=scheme)
    page.goto("/docs")
    page.locator("section").first.wait_for()

    ground, text, quiet = (
        luminance(page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{name}"))
        for selector, name in (("body", "backgroundColor"), ("body", "color"), (".serving", "color"))
    )

    assert (ground > text) is (scheme == "light")
    for each in (text, quiet):
        high, low = max(ground, each), min(ground, each)
        assert (high + 0.05) / (low + 0.05) >= 4.5
    page.close()


def luminance(colour):
    """Relative luminance as WCAG defines it."""
    parts = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear_parts = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear_parts, strict=True))


def test_the_page_allows_nothing_but_its_own_files(gateway):
    """A strict policy, and no script, style or handler within the page that would need a laxer one."""
    answer = gateway.client.get("/docs")
    policy = dict(each.strip().split(" ", 1) for each in answer.headers["content-security-policy"].split(";"))

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\bon\w+=|style=|https?:", answer.text) == []
