"""What holds for all pages: policy, forms from elsewhere, files, and addresses that are none."""

from __future__ import annotations

import gzip
import random
from string import ascii_letters

import pytest

from registry.tracking import Metric
from tests.registry.serving import served


def test_policy(reader):
    """Pages may run no script and no style but our own files, and stand in nobody's frame."""
    headers = reader.open("/").response.headers

    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_no_inline_script_or_style(reader):
    """A page holds nothing that its own policy forbids."""
    page = reader.open("/")

    assert not page.has("script:not([src]), style, [style], [onclick], [onload]")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"content-type": "text/plain"},
        {"origin": ""},
    ],
)
def test_forms_from_elsewhere(reader, registry, headers):
    """A form that does not come from a page of this server changes nothing."""
    page = reader.post("/models", {"name": "wine"}, **headers)

    assert page.status == 403
    assert registry.search_registered_models() == []


def test_form_without_origin(client, registry):
    """Without a browser's word of where a form stands, it is refused."""
    assert client.post("/models", data={"name": "wine"}).status_code == 403
    assert registry.search_registered_models() == []


@pytest.mark.parametrize("body", [b"\xff\xfe", b"name=%ff", b"&".join(b"a%d=1" % each for each in range(1000))])
def test_form_that_is_none(client, registry, body):
    """What cannot be read as a form is refused."""
    headers = {
        "origin": str(client.base_url).rstrip("/"),
        "content-type": "application/x-www-form-urlencoded",
        "accept": "text/html",
    }
    answer = client.post("/models", content=body, headers=headers)

    assert answer.status_code == 400
    assert "text/html" in answer.headers["content-type"]


def test_too_large_a_form(client):
    """A form has a limit."""
    headers = {"origin": str(client.base_url).rstrip("/"), "content-type": "application/x-www-form-urlencoded"}

    assert client.post("/models", content=b"name=" + b"x" * (2 << 20), headers=headers).status_code == 413


def test_no_such_page(reader):
    """A browser is told on a page; a client of the API in JSON."""
    page = reader.open("/nowhere", headers={"accept": "text/html"})

    assert page.status == 404
    assert page.text("h1") == "Not found"
    assert reader.client.get("/nowhere").headers["content-type"] == "application/json"
    assert (
        reader.client.get("/api/nowhere", headers={"accept": "text/html"}).headers["content-type"] == "application/json"
    )


def test_files_of_pages(reader):
    """Styles and scripts are named by their digest, kept by the browser for ever, and sent compressed."""
    address = reader.open("/").attribute("link[rel=stylesheet]", "href")

    answer = reader.client.get(address)
    plain = reader.client.get(address, headers={"accept-encoding": "identity"})

    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    assert "immutable" in answer.headers["cache-control"]
    assert plain.text == answer.text
    assert reader.client.get(address.partition("?")[0]).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/static/vendor/vendor.json", "/static/../app.py", "/static/%2e%2e/website.py", "/static/"]
)
def test_no_other_files(reader, path):
    """Nothing but what pages refer to is given out."""
    assert reader.client.get(path).status_code == 404


@pytest.fixture
def crowded(registry, make_version):
    """As much as limits allow of what a page shows: names, tags, aliases, versions, metrics, text without pattern."""
    noise = "".join(random.Random(1).choices(ascii_letters + " ", k=100_000))
    for number in range(30):
        name = f"{noise[number * 100 : number * 100 + 90].strip()}{number}"
        registry.create_registered_model(name, tags={"note": noise}, description=noise)
    registry.create_registered_model("wine", tags={f"tag {each}": noise for each in range(100)}, description=noise)
    for _ in range(30):
        make_version(tags={f"tag {each}": noise for each in range(5)}, description=noise)
    for number in range(60):
        registry.set_registered_model_alias("wine", f"alias-{number}", number % 30 + 1, reason=noise[:1000])
    for number in range(30):
        registry.set_registered_model_alias("wine", "champion", number + 1, reason=noise[:1000])
    run = registry.tracking.create_run()
    values = random.Random(2)
    for key in range(30):
        metrics = [Metric(f"metric {key}", values.random(), step, step) for step in range(900)]
        registry.tracking.log_batch(run.run_id, metrics, {f"param {key}": noise[:6_000]})
    return run.run_id


def test_weight(reader, crowded):
    """Every page with all that it loads is below 100 KB, compressed, however much there is."""
    heavy = {}
    for address in [
        "/",
        "/models/wine",
        "/models/wine?edit=alias-30",
        "/models/wine/versions/30",
        "/models/wine/compare?a=30&b=29",
        f"/runs/{crowded}",
        f"/runs/{crowded}/metrics?key=metric 3",
        "/experiments/0",
    ]:
        page = reader.open(address)
        assert page.status == 200
        loaded = [
            each.attributes.get("href") or each.attributes.get("src")
            for each in page.document.css("link[rel=stylesheet], link[rel=icon], script[src]")
        ]
        files = (reader.client.get(each).content for each in loaded)
        weight = sum(len(gzip.compress(each)) for each in (page.response.content, *files))
        if weight >= 100_000:
            heavy[address] = weight

    assert heavy == {}


def test_below_a_prefix(registry):
    """Behind a proxy's prefix every link and form stays below it."""
    import httpx2

    from tests.ui.conftest import Reader

    registry.create_registered_model("wine")
    with (
        served(registry, static_prefix="/mlflow") as (host, port),
        httpx2.Client(base_url=f"http://{host}:{port}", timeout=30) as client,
    ):
        page = Reader(client).open("/mlflow/")

    assert page.status == 200
    addresses = [each.attributes[name] for name in ("href", "src", "action") for each in page.document.css(f"[{name}]")]
    assert [each for each in addresses if not each.startswith(("/mlflow/", "#"))] == []
