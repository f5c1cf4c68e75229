"""How fields are read from requests, and how what cannot be read is refused."""

from __future__ import annotations

import math
from base64 import b64encode

import pytest

from registry.errors import InvalidParameter
from registry.server.fields import Fields
from registry.server.transport import Request, acting, answer

JSON = {b"content-type": b"application/json"}


def told(method="POST", query=b"", headers=JSON, body=b"", read=lambda fields: {"name": fields.text("name")}):
    """(status, body) of a request whose handler reads with *read*."""
    found = answer(None, lambda _, fields: read(fields), Request(method, query, headers, body))
    return found.status, found.body.decode()


# Fields


def test_missing_values():
    """Absent, null and empty are all missing where a field is required, in MLflow's words."""
    for given in ({}, {"name": None}, {"name": ""}):
        with pytest.raises(InvalidParameter, match="Missing value for required parameter 'name'"):
            Fields(given).text("name")


@pytest.mark.parametrize("value", [123, True, 1.5, ["x"], {"a": 1}])
def test_no_text(value):
    """What is no string is refused with its type."""
    with pytest.raises(InvalidParameter, match=f"type '{type(value).__name__}'"):
        Fields({"name": value}).text("name")
    with pytest.raises(InvalidParameter, match="Invalid value"):
        Fields({"name": value}).optional_text("name")


def test_optional_text():
    """Absent and empty differ."""
    assert Fields({}).optional_text("description") is None
    assert Fields({"description": ""}).optional_text("description") == ""


@pytest.mark.parametrize(("value", "read"), [(5, 5), ("5", 5), ("-5", -5), (5.0, 5), (2**63 - 1, 2**63 - 1)])
def test_integers(value, read):
    """Whole numbers come as numbers or as digits."""
    assert Fields({"step": value}).integer("step") == read


@pytest.mark.parametrize("value", [True, "x", "", 1.5, 2**63, "٣", " 5", [5], "1" * 5000])
def test_no_integers(value):
    """Anything else is refused, however long."""
    with pytest.raises(InvalidParameter, match="parameter 'step'") as caught:
        Fields({"step": value}).integer("step")
    assert len(str(caught.value)) < 400


def test_default_integer():
    """An absent number is the default."""
    assert Fields({}).integer("max_results", 100) == 100
    assert Fields({"max_results": None}).integer("max_results") is None


def test_numbers():
    """Numbers come as numbers, as digits, or by the names of those that JSON cannot write."""
    assert [Fields({"value": each}).number("value") for each in (1, 1.5, "2.5", "-Infinity")] == [
        1,
        1.5,
        2.5,
        -math.inf,
    ]
    assert math.isnan(Fields({"value": "NaN"}).number("value"))
    for value in ("1e999", "inf", "x", True, [1]):
        with pytest.raises(InvalidParameter, match="parameter 'value'"):
            Fields({"value": value}).number("value")
    with pytest.raises(InvalidParameter, match="Missing value"):
        Fields({}).number("value")


def test_truth_values():
    """A body has true and false, a query their names."""
    assert Fields({"archive": True}).boolean("archive")
    assert Fields({"archive": ["True"]}, is_query=True).boolean("archive")
    assert Fields({}).boolean("archive", True)
    for fields in (Fields({"archive": "true"}), Fields({"archive": ["yes"]}, is_query=True), Fields({"archive": 1})):
        with pytest.raises(InvalidParameter, match="parameter 'archive'"):
            fields.boolean("archive")


def test_lists():
    """Lists hold strings or objects; absent ones are empty."""
    assert Fields({"stages": ["None", "Staging"]}).texts("stages") == ["None", "Staging"]
    assert Fields({"stages": ["None"]}, is_query=True).texts("stages") == ["None"]
    assert [each.text("key") for each in Fields({"metrics": [{"key": "a"}]}).objects("metrics")] == ["a"]
    assert Fields({}).texts("stages") == Fields({"stages": None}).objects("stages") == []
    for value in ("None", [1], {"a": 1}):
        with pytest.raises(InvalidParameter, match="parameter 'stages'"):
            Fields({"stages": value}).texts("stages")
    with pytest.raises(InvalidParameter, match="parameter 'metrics'"):
        Fields({"metrics": ["a"]}).objects("metrics")


def test_objects():
    """An object's fields are read like a request's."""
    assert Fields({"dataset": {"name": "d"}}).object("dataset").text("name") == "d"
    with pytest.raises(InvalidParameter, match="Missing value"):
        Fields({}).object("dataset")
    with pytest.raises(InvalidParameter, match="type 'list'"):
        Fields({"dataset": [1]}).object("dataset")


def test_tags():
    """Of two tags with one key the last wins, and an absent value is empty."""
    pairs = [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}, {"key": "b"}, {"key": "c", "value": None}]
    assert Fields({"tags": pairs}).tags("tags") == {"a": "2", "b": "", "c": ""}
    with pytest.raises(InvalidParameter, match="parameter 'key'"):
        Fields({"tags": [{"value": "1"}]}).tags("tags")


def test_spellings():
    """A field may be spelled in camelCase, but not in both ways at once."""
    assert Fields({"runId": "r"}).text("run_id") == "r"
    assert Fields({"orderBy": ["name"]}).texts("order_by") == ["name"]
    with pytest.raises(InvalidParameter, match="run_id was given twice"):
        Fields({"runId": "r", "run_id": "r"}).text("run_id")


def test_path_fields():
    """What stands in the path wins over the body, as the route was chosen by it."""
    fields = Fields({"model_id": "other", "status": "s"}, path={"model_id": "m-1"})
    assert (fields.text("model_id"), fields.text("status"), fields.has("x")) == ("m-1", "s", False)


# Requests


def test_query():
    """Queries are decoded once, as UTF-8; of a repeated single value the first counts."""
    assert told("GET", b"name=a%2Bb+c%2525&name=z") == (200, '{"name":"a+b c%25"}')
    assert told("GET", b"name=wein%C3%A9") == (200, '{"name":"weiné"}')
    assert told("GET", b"name=%ff")[0] == 400
    assert told("GET", b"&&name", read=lambda fields: {"name": fields.optional_text("name")}) == (200, '{"name":""}')


def test_body_is_decoded_twice():
    """Old clients send the object as a string that holds it; a string in a string is none."""
    assert told(body=b'"{\\"name\\": \\"m\\"}"') == (200, '{"name":"m"}')
    assert told(body=b'"\\"x\\""')[0] == 400
    assert told(body=b'""') == told(body=b"") == told(body=b'{"name":null}')


@pytest.mark.parametrize(
    "body",
    [
        b'{"name":', b"[1]", b"5", b"null", b"\xef\xbb\xbf{}", b'{"name":"\xff"}', b'{"name":"a"} x',
        b'{"name":"\\ud800"}', b'{"name":NaN}', b'{"name":1e999}', b"[" * 100_000,
        b'{"a":' * 100_000, b'{"n":' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_strange_bodies(body):
    """What is no JSON object is refused, and nothing is read from it."""
    status, text = told(body=body)
    assert (status, "INVALID_PARAMETER_VALUE" in text) == (400, True)


def test_last_of_two_keys_wins():
    """There is one parser, so a key that comes twice has one value for everybody."""
    assert told(body=b'{"name":"a","name":"b"}') == (200, '{"name":"b"}')


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data", b""])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_simple_requests(method, kind):
    """What a page of another origin can send without being allowed to is never read as JSON."""
    status, text = told(method, headers={b"content-type": kind}, body=b'{"name":"m"}')
    assert status == 400
    assert "Content-Type must be one of ['application/json']." in text


def test_content_types():
    """A parameter of the content type does not matter; POST and PUT need one."""
    assert told(headers={b"content-type": b"Application/JSON; charset=utf-8"}, body=b'{"name":"m"}')[0] == 200
    assert told("DELETE", headers={}, body=b'{"name":"m"}')[0] == 200
    status, text = told(headers={}, body=b'{"name":"m"}')
    assert (status, "Content-Type header is missing." in text) == (400, True)


def test_answers():
    """An answer is JSON that no browser takes for anything else."""
    found = answer(None, lambda *_: {"name": "<script>"}, Request("GET", b"", {}, b""))
    assert dict(found.headers) == {
        b"content-type": b"application/json",
        b"x-content-type-options": b"nosniff",
        b"content-length": b"%d" % len(found.body),
    }


def test_failures_tell_nothing(caplog):
    """An unexpected error is a 500 without a word of its own, and the log has it all."""

    def fail(*_):
        raise KeyError("secret")

    found = answer(None, fail, Request("GET", b"", {}, b""))
    assert found.status == 500
    assert b"secret" not in found.body
    assert "secret" in caplog.text


# Who acts


@pytest.mark.parametrize(
    ("headers", "actor"),
    [
        ({}, None),
        ({b"x-turnout-actor": b"ana"}, "ana"),
        ({b"x-turnout-actor": b"J%C3%BCrgen"}, "Jürgen"),
        ({b"x-turnout-actor": b" \n "}, None),
        ({b"x-turnout-actor": b"a" * 9999}, "a" * 256),
        ({b"x-turnout-actor": b"a%0Ab"}, "ab"),
        ({b"authorization": b"Basic " + b64encode(b"bo:secret"), b"x-turnout-actor": b"ana"}, "bo"),
        ({b"authorization": b"basic " + b64encode("zoé:x".encode())}, "zoé"),
        ({b"authorization": b"Basic ???"}, None),
        ({b"authorization": b"Bearer token", b"x-turnout-actor": b"ana"}, "ana"),
    ],
)
def test_acting_user(headers, actor):
    """The user's name of the credentials counts, else the one that the client gives; a line's worth at most."""
    seen = []
    answer(None, lambda *_: seen.append(acting.get()) or {}, Request("GET", b"", headers, b""))
    assert (seen, acting.get()) == ([actor], None)
