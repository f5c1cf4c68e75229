"""The registry's workflow by hand in a real browser, on data that the real mlflow clients wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from registry.tracking import Metric
from tests.browsers import chromium
from tests.compat.environments import interpreter
from tests.ui.opening import opened
from tests.ui.seeds import Seeded, seeded

HOSTILE = "<script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">\u202etxt.exe"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Iterator[Seeded]:
    """A server with what both clients wrote."""
    with seeded(tmp_path_factory.mktemp("site"), interpreter("mlflow3"), interpreter("mlflow2")) as site:
        yield site


@pytest.fixture(params=[True, False], ids=["with-javascript", "without-javascript"])
def hand(request, browser, site) -> Iterator[Page]:
    """A page of a browser, with JavaScript and without."""
    with opened(browser, site.address, java_script_enabled=request.param) as page:
        yield page


@pytest.fixture
def page(browser, site) -> Iterator[Page]:
    """A page of a browser with JavaScript."""
    with opened(browser, site.address) as page:
        yield page


def test_workflow(hand: Page, site: Seeded, request):
    """From a run's artifacts to a served name: register twice, organize, move, roll back, compare, promote, delete."""
    name = f"made-by-hand-{request.node.callspec.id}"

    # A model's folder is chosen among a run's artifacts, and registered as a new model: as 3.x logs it ...
    hand.goto("/experiments")
    hand.get_by_role("link", name="diabetes").click()
    hand.locator(f"a[href='/runs/{site.by_3.runs[1]}']").click()
    expect(hand.get_by_role("heading", level=1)).to_contain_text("Run ridge-10.0")
    hand.get_by_label("Files").get_by_role("link", name="model/").click()
    hand.get_by_role("link", name="Register Model").click()
    hand.get_by_label("Create new model").check()
    hand.get_by_label("Name of the model").fill(name)
    hand.get_by_role("button", name="Register").click()
    expect(hand.get_by_role("status").first).to_contain_text("is registered")
    expect(hand.get_by_role("heading", level=1)).to_have_text(f"{name}, version 1")

    # ... and as 2.x does, as the next version of the same model.
    hand.goto(f"/runs/{site.by_2.runs[0]}")
    hand.get_by_label("Files").get_by_role("link", name="model/").click()
    hand.get_by_role("link", name="Register Model").click()
    hand.get_by_label("An existing model").check()
    hand.get_by_label("Name of the model").fill(name)
    hand.get_by_role("button", name="Register").click()
    expect(hand.get_by_role("heading", level=1)).to_have_text(f"{name}, version 2")
    hand.get_by_role("link", name=site.by_2.runs[0]).click()
    hand.get_by_label("Files").get_by_role("link", name="model/").click()
    expect(hand.get_by_role("link", name=f"version 2 of {name}")).to_be_visible()

    # The list finds it.
    hand.goto("/")
    hand.get_by_label("Search models").fill(f"name = '{name}'")
    hand.get_by_label("Search models").press("Enter")
    expect(hand.locator("#models tbody tr")).to_have_count(1)
    hand.get_by_role("link", name=name).click()

    # Description, tag and aliases are written on its page.
    hand.get_by_role("link", name="Edit the description").click()
    hand.get_by_label("Text").fill("Trained **by hand**.")
    hand.get_by_role("button", name="Save").click()
    expect(hand.locator("#description strong")).to_have_text("by hand")
    hand.get_by_role("link", name="Add a tag", exact=True).click()
    hand.get_by_label("Key").fill("team")
    hand.get_by_label("Value").fill("risk")
    hand.get_by_role("button", name="Save").click()
    expect(hand.locator("#tags li")).to_contain_text("team: risk")
    for version, reason in (("1", "the first"), ("2", "retrained")):
        hand.get_by_role("link", name=f"Aliases of version {version}").click()
        hand.get_by_label(f"Alias to point at version {version}").fill("champion")
        hand.get_by_label("Reason").fill(reason)
        hand.get_by_role("button", name="Set alias").click()
        expect(hand.locator(f"#version-{version} .alias")).to_have_text("@champion")
    hand.get_by_role("link", name="Roll back…").click()
    hand.get_by_label("Reason").fill("worse")
    hand.get_by_role("button", name="Roll back").click()
    expect(hand.locator("#version-1 .alias")).to_have_text("@champion")
    expect(hand.locator(".timeline li")).to_have_count(3)

    # Two versions are compared.
    hand.get_by_role("button", name="Compare the two").click()
    expect(hand.get_by_role("heading", level=1)).to_have_text("Versions 1 and 2")
    expect(hand.locator("tr.differs").first).to_be_visible()

    # A version is promoted, and deleted.
    hand.get_by_role("link", name="Version 2").click()
    hand.get_by_role("link", name="Promote model…").click()
    hand.get_by_label("Copy to the model").fill(f"prod.{name}")
    hand.get_by_role("button", name="Promote").click()
    expect(hand.get_by_role("heading", level=1)).to_have_text(f"prod.{name}, version 1")
    hand.goto(f"/models/{name}/versions/2")
    hand.get_by_role("link", name="Delete…").click()
    expect(hand.locator(".facts")).to_contain_text(f"version 1 of “prod.{name}”")
    hand.get_by_role("button", name="Delete version").click()
    expect(hand.locator("#versions tbody tr")).to_have_count(1)

    # The model is renamed, and deleted.
    hand.get_by_role("link", name="Rename…").click()
    hand.get_by_label("New name").fill(f"{name}-old")
    hand.get_by_role("button", name="Rename").click()
    expect(hand.get_by_role("heading", level=1)).to_have_text(f"{name}-old")
    hand.get_by_role("link", name="Delete…").click()
    hand.get_by_role("button", name="Delete model").click()
    expect(hand.get_by_role("status").first).to_contain_text("was deleted")


def test_create_model_and_mistakes(hand: Page, request):
    """A mistake is told where it was made, with what was typed still there."""
    name = f"created-{request.node.callspec.id}"
    hand.goto("/")
    hand.get_by_text("Create model").first.click()
    hand.get_by_label("Name").fill("a/b")
    hand.get_by_role("button", name="Create model").click()
    expect(hand.get_by_role("alert")).to_contain_text("cannot contain")
    expect(hand.get_by_label("Name")).to_have_value("a/b")

    hand.get_by_label("Name").fill(name)
    hand.get_by_role("button", name="Create model").click()

    expect(hand.get_by_role("heading", level=1)).to_have_text(name)
    expect(hand.locator("#versions")).to_contain_text(f"turnout register ./my-model --name {name}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(browser, site, scheme):
    """axe-core finds nothing on any page, in either colour scheme."""
    found: dict[str, str] = {}
    with opened(browser, site.address, color_scheme=scheme) as page:
        for address in site.pages:
            page.goto(address)
            results = Axe().run(page)
            if results.violations_count:
                found[address] = results.generate_report()

    assert found == {}


def test_phone(browser, site):
    """On a phone no page is wider than its screen."""
    wide: dict[str, int] = {}
    with opened(browser, site.address, viewport={"width": 360, "height": 740}) as page:
        for address in site.pages:
            page.goto(address)
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > 360:
                wide[address] = width

    assert wide == {}


def test_search_while_typing(page: Page):
    """The list follows what is typed, and its address can be shared."""
    page.goto("/")
    page.get_by_label("Search models").press_sequentially("fraud")

    expect(page.locator("#models tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"q=fraud"))
    expect(page.get_by_label("Search models")).to_be_focused()

    page.get_by_label("Search models").fill("colour = 'red'")
    expect(page.get_by_role("alert")).to_contain_text("colour")


def test_edit_in_place(page: Page):
    """A form opens in its row, with the focus in it and the rest of the page as it was; Cancel shuts it again."""
    page.goto("/models/risk")
    page.evaluate("window.isTheSamePage = true")

    page.get_by_role("link", name="Aliases of version 2").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_label("Alias to point at version 2")).to_be_focused()
    page.locator("#version-2").get_by_role("link", name="Cancel").click()
    expect(page.get_by_label("Alias to point at version 2")).to_have_count(0)
    assert page.evaluate("window.isTheSamePage")


def test_register_dialog_while_typing(page: Page, site: Seeded):
    """While a name is typed, models that hold it are suggested, and what it would mean is said."""
    page.goto(f"/register?model={site.by_3.models[1]}")
    page.get_by_label("An existing model").check()
    page.get_by_label("Name of the model").press_sequentially("ris")
    expect(page.locator("#model-names option")).to_have_count(1)
    expect(page.locator("#name-check")).to_contain_text("there is no registered model 'ris'")

    page.get_by_label("Name of the model").press_sequentially("k")

    expect(page.locator("#name-check")).to_contain_text("Its latest version is")
    page.get_by_label("Create new model").check()
    expect(page.locator("#name-check")).to_contain_text("exists already")


def test_chart(page: Page, site: Seeded):
    """Metrics of several runs stand in one chart."""
    page.goto(f"/experiments/{site.by_3.experiment}")
    for box in page.get_by_role("checkbox").all()[:3]:
        box.check()
    page.get_by_role("button", name="Compare the chosen runs").click()

    expect(page.locator(".plot canvas")).to_be_visible()
    expect(page.locator(".u-legend .u-series")).to_have_count(4)


def test_image(page: Page, site: Seeded):
    """An image among the artifacts is shown."""
    page.goto(f"/runs/{site.by_3.runs[0]}?path=plots/residuals.png")

    expect(page.locator(".preview img")).to_have_js_property("naturalWidth", 240)


def test_links_of_mlflow(page: Page, site: Seeded):
    """The address of a run that MLflow's client prints leads to the run's page."""
    page.goto(f"/#/experiments/{site.by_3.experiment}/runs/{site.by_3.runs[0]}")

    expect(page.get_by_role("heading", level=1)).to_contain_text("Run ridge-1.0")


def test_keyboard(page: Page):
    """The first key leads past the navigation."""
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()

    page.keyboard.press("Enter")

    expect(page.locator("#main")).to_be_focused()


def test_times_are_local(browser, site):
    """A time has the exact one in the reader's zone beside it."""
    with opened(browser, site.address, timezone_id="Asia/Tokyo", locale="en-GB") as page:
        page.goto("/models/risk")
        when = page.locator("time").first
        title = when.get_attribute("title")
        shown = when.evaluate(
            "e => new Date(e.dateTime).toLocaleString(undefined, {dateStyle: 'medium', timeStyle: 'medium'})"
        )

    assert title == shown


def test_hostile_values(page: Page, site: Seeded):
    """Whatever stands in descriptions, tags, params, file names and files is text on every page."""
    registry = site.registry
    registry.create_registered_model("<img src=x onerror=document.title='stolen'>")
    registry.create_registered_model("hostile", {"note": HOSTILE * 500}, f"{HOSTILE}\n\n[x](javascript:alert(1))")
    run = registry.tracking.create_run(run_name=HOSTILE, tags={"mlflow.note.content": HOSTILE, "x": HOSTILE})
    registry.tracking.log_batch(
        run.run_id, [Metric("loss", float(step), step, step) for step in range(3)], {"p": HOSTILE}
    )
    folder = run.artifact_uri.removeprefix("mlflow-artifacts:/")
    name = "<img src=x onerror=alert(1)>.html"
    for path in (f"model/{name}", "model/drawing.svg", "model/table.csv"):
        with registry.artifacts.create(f"{folder}/{path}") as upload:
            upload.write(f"{HOSTILE},{HOSTILE}\n{HOSTILE}".encode())
    with registry.artifacts.create(f"{folder}/model/MLmodel") as upload:
        upload.write(b'flavors: {}\nsignature: {inputs: \'[{"name": "<script>", "type": "<b>"}]\'}\n')
    registry.create_model_version("hostile", f"runs:/{run.run_id}/model", tags={"t": HOSTILE}, description=HOSTILE)
    registry.set_registered_model_alias("hostile", "champion", 1, reason=HOSTILE)

    addresses = [
        "/",
        "/models/<img src=x onerror=document.title='stolen'>",
        "/models/<img src=x onerror=document.title='stolen'>/delete",
        "/models/hostile",
        "/models/hostile?edit=description",
        "/models/hostile?edit=tag&key=note",
        "/models/hostile/versions/1",
        f"/models/hostile/versions/1?path={name}",
        "/models/hostile/versions/1?path=drawing.svg",
        "/models/hostile/versions/1?path=table.csv",
        f"/runs/{run.run_id}?path=model/{name}",
        f"/runs/{run.run_id}/metrics?key=loss",
        f"/compare-runs?run={run.run_id}&run={site.by_3.runs[0]}",
        "/experiments/0",
        f"/?q={HOSTILE}",
        f"/?done=model-deleted&what={HOSTILE}",
    ]
    for address in addresses:
        page.goto(address)
        page.wait_for_load_state("networkidle")
        assert page.title() != "stolen", address
        assert page.locator("main script, main img[onerror], main svg script").count() == 0, address
