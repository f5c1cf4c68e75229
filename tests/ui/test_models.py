"""The list of registered models, and making one."""

from __future__ import annotations

import pytest


def names(page):
    return page.texts("#models tbody th")


def test_empty_installation(reader):
    """Where nothing is registered, the page says what to do first, with this server's address in the commands."""
    page = reader.open("/")

    assert page.status == 200
    assert page.text("h2") == "Nothing is registered yet"
    assert f"export MLFLOW_TRACKING_URI={str(reader.client.base_url).rstrip('/')}" in page.text(".first")


def test_list(reader, registry, make_version):
    """Each row has the model's latest version, and its aliases with the versions that they name."""
    registry.create_registered_model("wine")
    registry.create_registered_model("empty")
    for _ in range(2):
        make_version()
    registry.set_registered_model_alias("wine", "champion", 1)

    page = reader.open("/")

    assert names(page) == ["empty", "wine"]
    assert page.texts("#models tbody tr:nth-child(2) a")[:2] == ["wine", "Version 2"]
    assert page.text("#models tbody tr:nth-child(2) .alias") == "@champion"
    assert "none" in page.text("#models tbody tr")


def test_create(reader, registry):
    """A model is created from the list, and its page opens."""
    page = reader.send(reader.open("/"), "#create form", {"name": "wine", "description": "of *Alba*"})

    assert registry.get_registered_model("wine").description == "of *Alba*"
    assert page.path == "/models/wine?done=model-created"


@pytest.mark.parametrize("name", ["", "a/b", "wine", "x\u202ey", "v" * 300])
def test_create_refused(reader, registry, name):
    """What cannot be a name, or is one already, is told beside the form, and what was typed stands there still."""
    registry.create_registered_model("wine")

    page = reader.post("/models", {"name": name, "description": "kept"})

    assert page.status == 400
    assert page.text("#create .error")
    assert page.has("#create[open]")
    assert page.attribute("#create [name=name]", "value") == name
    assert page.text("#create textarea") == "kept"
    assert len(registry.search_registered_models()) == 1


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("rod.r", ["prod.risk"]),
        ("PROD", ["prod.risk", "prod.wine"]),
        ("name LIKE 'prod.%'", ["prod.risk", "prod.wine"]),
        ("tags.team = 'risk'", ["prod.risk"]),
        ("it's", ["it's"]),
    ],
)
def test_search(reader, registry, search, found):
    """A word finds a part of a name; what has an operator is MLflow's filter language."""
    registry.create_registered_model("prod.risk", tags={"team": "risk"})
    registry.create_registered_model("prod.wine")
    registry.create_registered_model("it's")

    page = reader.open("/", params={"q": search})

    assert names(page) == found
    assert page.attribute("#q", "value") == search


@pytest.mark.parametrize("search", ["tags.team =", "colour = 'red'", "name = 'a' OR 1=1", "name > 5"])
def test_search_that_cannot_be(reader, registry, search):
    """A filter with a mistake is told beside the box, where it stays to be mended."""
    registry.create_registered_model("wine")

    page = reader.open("/", params={"q": search})

    assert page.status == 400
    assert page.text("#search-problem")
    assert page.attribute("#q", "value") == search


def test_nothing_found(reader, registry):
    """A search without an answer offers the whole list."""
    registry.create_registered_model("wine")

    page = reader.open("/", params={"q": "beer"})

    assert page.text(".nothing") == "No model is found by beer . Show all models"


def test_pages_and_order(reader, registry):
    """Many models come on pages, in the order that was chosen."""
    for number in range(30):
        registry.create_registered_model(f"m{number:02}")

    first = reader.open("/", params={"sort": "-name"})
    second = reader.open(first.attribute("a[rel=next]", "href"))

    assert names(first) == [f"m{number:02}" for number in reversed(range(5, 30))]
    assert names(second) == [f"m{number:02}" for number in reversed(range(5))]
    assert first.attribute("th[aria-sort]", "aria-sort") == "descending"
    assert not second.has("a[rel=next]")


def test_served_is_marked(reader, registry, make_version):
    """What a gateway reported to serve is marked, by its version and its alias."""
    registry.create_registered_model("wine")
    make_version()
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "challenger", 1)
    endpoint = {
        "name": "wine",
        "model": "wine",
        "alias": "champion",
        "versions": [{"version": "1", "role": "primary", "state": "ready"}],
    }
    report = {"address": "http://127.0.0.1:8080", "endpoints": [endpoint, {"name": 5}, {"versions": 7}]}
    reader.client.put("/api/turnout/v1/gateways/one", json=report).raise_for_status()

    page = reader.open("/")

    assert page.text(".badge.served") == "Version 1"
    assert page.texts(".alias.served") == ["@champion (served)"]


def test_report_with_anything_in_it(reader, registry, make_version):
    """Whatever a gateway says that it serves is text."""
    registry.create_registered_model("wine")
    make_version()
    hostile = "<script>alert(1)</script>" * 10
    version = {"version": hostile, "role": "primary", "state": "ready"}
    endpoints = [
        {"name": f"e{number}", "model": "wine", "alias": hostile, "versions": [version]} for number in range(20)
    ]
    endpoints += [{"name": hostile, "model": "wine", "versions": [version]}]
    endpoints += [{"name": "x", "model": "wine", "versions": [version, each]} for each in (5, None, {})]
    report = {"address": "javascript:alert(1)", "endpoints": endpoints}
    reader.client.put("/api/turnout/v1/gateways/one", json=report).raise_for_status()

    for path in ("/", "/models/wine", "/models/wine/versions/1", "/models/wine/delete"):
        page = reader.open(path)
        assert page.status == 200
        assert not page.has("main script")
        assert len(page.response.content) < 100_000
    assert "and 10 more" in reader.open("/models/wine").text(".serving")


@pytest.mark.parametrize("query", [{"sort": "colour"}, {"page": "nonsense"}, {"q": "x" * 50_000}])
def test_strange_addresses(reader, registry, query):
    """An address that somebody made up is refused on a page."""
    registry.create_registered_model("wine")

    page = reader.open("/", params=query, headers={"accept": "text/html"})

    assert 400 <= page.status < 500
    assert page.has("h1")
