"""The page of deployments, from the reports of gateways: what it shows, and what it does not believe."""

from __future__ import annotations

import pytest
from selectolax.lexbor import LexborHTMLParser as Document

from registry.server.fields import Fields
from registry.server.gateways import Gateways
from registry.server.ui.assets import Assets
from registry.server.ui.deployments import list_deployments
from registry.server.ui.links import Links
from registry.server.ui.templates import environment
from registry.server.ui.visit import Site, Visit

GATEWAYS = "/api/turnout/v1/gateways"


@pytest.fixture
def wine(registry, make_version):
    """Two versions of `wine`, the alias champion moved from the first to the second."""
    registry.create_registered_model("wine")
    for _ in range(2):
        make_version()
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "champion", 2, reason="retrained")


@pytest.fixture
def report(client):
    """Reports as a gateway does."""

    def report(*endpoints, gateway="box:8080", **more):
        body = {"address": "http://127.0.0.1:8080", "endpoints": list(endpoints)} | more
        client.put(f"{GATEWAYS}/{gateway}", json=body).raise_for_status()

    return report


def endpoint(version="2", **more):
    return {
        "name": "wine",
        "model": "wine",
        "alias": "champion",
        "state": "serving",
        "versions": [{"version": version, "role": "primary", "state": "ready", "share": 1.0}],
    } | more


def test_nobody_reports(reader):
    """Without a gateway the page says how to start one that follows this server."""
    page = reader.open("/deployments")

    assert page.text("#live h2") == "No gateway has reported in"
    assert f"--registry-uri {str(reader.client.base_url).rstrip('/')}" in page.text("#live")


def test_an_endpoint(reader, report, wine):
    """A row says what is served and how it came about, and leads to the model, the version and the way back."""
    change = {"from": "1", "to": "2", "at": "2026-11-26T10:00:00Z", "by": "ana", "reason": "retrained", "took_ms": 1840}
    report(endpoint(last_change=change))

    page = reader.open("/deployments")

    assert page.text("h2") == "Gateway box:8080"
    assert page.text(".state") == "serving"
    assert page.text("[data-label=Serves]") == "Version 2"
    assert "from 1 → to 2," in page.text("[data-label='Last change']")
    assert "by ana , took 1.84 s retrained" in page.text("[data-label='Last change']")
    links = [each.attributes["href"] for each in page.document.css("#live tbody a")]
    assert links == [
        "/deployments/box%3A8080/wine",
        "/models/wine",
        "/models/wine/versions/2",
        "/deployments/box%3A8080/wine/try",
        "/models/wine/aliases/champion/rollback?back=deployments",
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"state": "idle", "versions": []}, "idle asleep, loaded on request"),
        ({"state": "starting", "versions": []}, "starting"),
        ({"state": "updating"}, "updating"),
        ({"state": "failed", "versions": []}, "failed"),
        ({"state": "serving", "stale": True}, "serving last known good: the registry is away"),
        ({"state": "levitating"}, "levitating"),
        ({}, "unknown"),
    ],
)
def test_states(reader, report, wine, given, shown):
    """Every state has its word, also one that a later gateway may have."""
    report({key: value for key, value in endpoint().items() if key != "state"} | given)

    assert reader.open("/deployments").text("[data-label=State]") == shown


def test_on_its_way(reader, report, wine):
    """What is wanted and not served yet is told: by the gateway as soon as it loads it, before that by the registry."""
    report(endpoint("1"))
    before = reader.open("/deployments").text("[data-label=Serves]")
    loading = [*endpoint("1")["versions"], {"version": "2", "role": "next", "state": "loading"}]
    report(endpoint(state="updating", versions=loading))
    after = reader.open("/deployments").text("[data-label=Serves]")

    assert before == "Version 1 → @champion names version 2"
    assert after == "Version 1 → version 2 is loading"


def test_last_error(reader, report, wine):
    """Why a version could not be served stands below the endpoint."""
    error = {"version": "2", "message": "no module named wine", "at": "2026-11-26T10:00:00Z", "retry_in_s": 4.0}
    report(endpoint("1", last_error=error))

    assert "Version 2: no module named wine" in reader.open("/deployments").text(".failure .error")


def test_endpoint_page(reader, report, wine):
    """An endpoint has a page with its versions and their shares, its hour, and the moves of its alias."""
    report(endpoint())

    page = reader.open("/deployments/box%3A8080/wine")

    assert page.text("h1") == "Endpoint wine"
    assert page.texts("#live table tbody tr > *") == ["2", "primary", "100.0 %", "ready"]
    assert page.texts("figcaption")[1].startswith("Errors")
    assert page.texts(".mark + .label") == ["→ 2"]  # the other mark has no room for its label
    assert "from 1 → to version 2" in page.text(".timeline")
    assert "retrained" in page.text(".timeline")


@pytest.mark.parametrize("path", ["/deployments/other/wine", "/deployments/box%3A8080/beer", "/deployments/x/y/try"])
def test_no_such_endpoint(reader, report, wine, path):
    """What nobody reports has no page."""
    report(endpoint())

    assert reader.open(path, headers={"accept": "text/html"}).status == 404


def test_roll_back(reader, report, registry, wine):
    """The button asks for a reason, rolls back, and leads back to the deployments."""
    report(endpoint())
    question = reader.open(reader.open("/deployments").attribute("a[href$='back=deployments']", "href"))

    page = reader.send(question, "main form", {"reason": "too many errors"})

    assert page.path == "/deployments?done=rolled-back&what=1"
    assert registry.get_model_version_by_alias("wine", "champion").version == "1"
    assert registry.get_alias_history("wine", "champion")[0].reason == "too many errors"


def test_search_and_pages(reader, report, wine):
    """Many endpoints come on pages, and are found by a part of their names."""
    report(*(endpoint(name=f"e{number:02}") for number in range(30)))
    report(endpoint(name="cellar"), gateway="other:1")

    first = reader.open("/deployments")
    second = reader.open(first.attribute("a[rel=next]", "href"))
    found = reader.open("/deployments", params={"q": "CELLAR"})

    assert first.texts("tbody th > a bdi") == [f"e{number:02}" for number in range(25)]
    assert second.texts("#live h2") == ["Gateway box:8080", "Gateway other:1"]
    assert not second.has("a[rel=next]")
    assert found.texts("#live h2") == ["Gateway other:1"]
    assert "No endpoint is found" in reader.open("/deployments", params={"q": "beer"}).text("#live")
    assert reader.open("/deployments", params={"page": "0"}).status == 400


HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize(
    "strange",
    [
        {"name": HOSTILE},
        {"name": "a/b"},
        {"name": ".."},
        {"name": "x" * 5_000},
        {"model": None},
        {"versions": [{"version": 5}]},
        {"versions": [{"version": "2", "share": 1e300}]},
        {"last_change": {"at": "0001-01-01T00:00:00+14:00"}},
        {"last_change": {"at": "yesterday"}},
        {"last_error": {"at": "2026-11-26T10:00:00Z", "message": 5}},
        {"last_error": {"at": "2026-11-26T10:00:00Z", "retry_in_s": -1}},
    ],
)
def test_no_endpoint(reader, report, wine, strange):
    """What no gateway would report is left out, and the rest of the report is shown."""
    report(endpoint(), endpoint(name="bad") | strange)

    page = reader.open("/deployments")

    assert page.status == 200
    assert page.texts("#live tbody th bdi")[0] == "wine"
    assert len(page.document.css("#live tbody tr")) == 1


def test_hostile_texts(reader, report, wine):
    """Names, reasons and messages are text, however they are written, and no link leaves the server."""
    change = {"to": HOSTILE, "at": "9999-12-31T23:59:59Z", "by": HOSTILE, "reason": HOSTILE * 100, "took_ms": 10**10}
    error = {"version": HOSTILE, "message": HOSTILE * 10_000, "at": "0001-01-02T00:00:00Z"}
    report(
        endpoint(
            HOSTILE, model=HOSTILE, alias="javascript:alert(1)", state=HOSTILE, last_change=change, last_error=error
        ),
        address="javascript:alert(1)",
        counters={"wine": {HOSTILE: {"requests": 1e308, "errors": -5}}},
    )

    for path in ("/deployments", "/deployments/box%3A8080/wine"):
        page = reader.open(path)
        assert page.status == 200
        assert not page.has("main script")
        assert len(page.response.text) < 50_000
        links = [each.attributes["href"] for each in page.document.css("main a")]
        assert [each for each in links if not each.startswith(("/", "#"))] == []


def test_huge_counters(reader, report, wine):
    """Counters beyond all measure make a chart as others do."""
    bounds = {"latency_bounds_s": [0.1], "latencies": {"wine": {"2": [2**63, 2**63]}}}
    report(endpoint(), counters={"wine": {"2": {"requests": 0}}})
    report(endpoint(), counters={"wine": {"2": {"requests": 2**63, "errors": 1e308}}}, **bounds)

    page = reader.open("/deployments/box%3A8080/wine")

    assert page.status == 200
    assert "nan" not in page.response.text.lower().replace("tenant", "")
    assert "inf" not in "".join(page.texts("figure"))


def test_gone(registry, wine):
    """An endpoint whose gateway stopped reporting stays for the hour, marked, and counts as served no more."""
    clock = Clock()
    gateways = Gateways(clock)
    gateways.put(registry, Fields({"endpoints": [endpoint()], "interval_s": 5}, path={"id": "box:8080"}))
    clock.now += 16
    page = opened(registry, gateways)
    clock.now += 3600
    later = opened(registry, gateways)

    assert "gone" in page.css_first(".state").text()
    assert page.css_first("tbody .actions").text(strip=True) == "Roll back…"
    assert gateways.serving("wine") == ()
    assert later.css_first("#live h2").text() == "No gateway has reported in"


class Clock:
    """Set by hand."""

    now = 1_000_000_020.0

    def __call__(self):
        return self.now


def opened(registry, gateways):
    links = Links("", Assets())
    visit = Visit(Site(registry, gateways, links, environment()))
    return Document(list_deployments(visit).body.decode())
