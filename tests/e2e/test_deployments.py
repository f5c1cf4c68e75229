"""The live page of a real server, in a real browser, while a real gateway follows what is moved."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

import registry
from tests.browsers import chromium
from tests.e2e.gateways import Gateway, behaving, eventually
from tests.e2e.servers import RegistryServer
from tests.ui.opening import opened

SOON_MS = 10_000
EXAMPLE = pandas.DataFrame({"do": ["nothing"]})
STREAMS = re.compile(r"^turnout_registry_page_streams (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class Live:
    """A server, a client of it, and a gateway that follows the alias champion of `m`."""

    server: RegistryServer
    client: registry.Registry
    gateway: Gateway

    @property
    def streams(self) -> int:
        """How many browsers listen."""
        found = STREAMS.search(self.server.client.get("/metrics").text)
        assert found is not None
        return int(found[1])

    @property
    def reported(self) -> list[str]:
        """The versions that gateways report to serve, and nothing else."""
        gateways = self.server.client.get("/api/turnout/v1/gateways").json()["gateways"]
        return [version["version"] for each in gateways for one in each["endpoints"] for version in one["versions"]]

    @property
    def endpoint(self) -> str:
        (found,) = self.server.client.get("/api/turnout/v1/gateways").json()["gateways"]
        return f"/deployments/{found['id'].replace(':', '%3A')}/m"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@contextlib.contextmanager
def started(folder: Path, *arguments: str) -> Iterator[Live]:
    """Two versions of `m`, of which the alias names the first, and a gateway that serves it."""
    server = RegistryServer(folder, f"sqlite:///{folder}/turnout.db", *arguments).ready()
    with contextlib.closing(server), contextlib.closing(registry.connect(server.url)) as client:
        for number in (1, 2):
            registry.log_model(
                behaving(number),
                name="m",
                registered_model_name="m",
                client=client,
                signature=registry.infer_signature(EXAMPLE),
                input_example=EXAMPLE,
            )
        client.set_registered_model_alias("m", "champion", 1)
        flags = ["-m", "models:/m@champion", "--registry-uri", server.url, "--cache", str(folder / "cache")]
        with contextlib.closing(Gateway(folder, flags)) as gateway:
            gateway.ready()
            live = Live(server, client, gateway)
            eventually(lambda: live.reported == ["1"], "the gateway reports")
            yield live


@pytest.fixture
def live(tmp_path) -> Iterator[Live]:
    """A server of one process."""
    with started(tmp_path) as live:
        yield live


@pytest.fixture
def page(browser, live) -> Iterator[Page]:
    with opened(browser, live.server.url) as page:
        yield page


def serves(page: Page, version: int) -> None:
    expect(page.locator("[data-label=Serves]")).to_have_text(f"Version {version}", timeout=SOON_MS)


def look(page: Page, state: str) -> None:
    """What a browser does when its tab is hidden or shown."""
    page.evaluate(
        """(state) => {
            Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        state,
    )


def test_every_open_page_shows_a_move(live: Live, page: Page):
    """Two pages of one browser show a moved alias, and hear of it by one stream; hidden, they hear nothing."""
    pages = [page, page.context.new_page()]
    for each in pages:
        each.goto("/deployments")
        serves(each, 1)
    eventually(lambda: live.streams == 1, "both pages listen by one stream")

    live.client.set_registered_model_alias("m", "champion", 2, reason="retrained")

    for each in pages:
        serves(each, 2)
        expect(each.locator("[data-label='Last change']")).to_contain_text("retrained")
        expect(each.locator("#news")).to_have_text("@champion of m was moved from version 1 to version 2.")

    look(pages[0], "hidden")
    assert_stays(lambda: live.streams == 1)
    look(pages[1], "hidden")
    eventually(lambda: live.streams == 0, "nobody listens any more")
    live.client.set_registered_model_alias("m", "champion", 1)
    live.gateway.serves(1)
    look(pages[1], "visible")

    serves(pages[1], 1)
    eventually(lambda: live.streams == 1, "one page listens again")
    serves(pages[0], 2)  # nobody looks at it


def assert_stays(condition: Callable[[], bool]) -> None:
    for _ in range(5):
        assert condition()


def test_several_processes(browser: Browser, tmp_path: Path):
    """Whichever process of a server a gateway reports to and a browser asks, every page shows the same, and a move."""
    with started(tmp_path, "--workers", "3") as live, opened(browser, live.server.url) as page:
        for _ in range(8):
            page.goto("/deployments")
            serves(page, 1)

        live.client.set_registered_model_alias("m", "champion", 2)

        serves(page, 2)
        for _ in range(8):
            page.reload()
            serves(page, 2)


def test_roll_back_by_the_button(live: Live, page: Page):
    """The button asks for a reason and rolls back, and the page shows the gateway following."""
    live.client.set_registered_model_alias("m", "champion", 2)
    live.gateway.serves(2)
    page.goto("/deployments")
    serves(page, 2)

    page.get_by_role("link", name="Roll back").click()
    page.get_by_label("Reason").fill("too many errors")
    page.get_by_role("button", name="Roll back").click()

    expect(page.get_by_role("status").first).to_contain_text("Rolled back")
    serves(page, 1)
    assert live.client.get_alias_history("m", "champion")[0].reason == "too many errors"


@pytest.mark.parametrize("is_scripted", [True, False], ids=["with-javascript", "without-javascript"])
def test_try_it(live: Live, browser: Browser, is_scripted: bool):
    """The form, filled with the input example, gives the answer of the version that is served, again and again."""
    with opened(browser, live.server.url, java_script_enabled=is_scripted) as page:
        page.goto("/models/m/versions/1")
        page.get_by_role("link", name="Try").click()
        expect(page.get_by_label("do")).to_have_value("nothing")

        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer pre")).to_contain_text("1", timeout=SOON_MS)
        expect(page.locator("#answer dd").first).to_have_text("1")

        expect(page.locator("#answer")).to_be_in_viewport()

        page.get_by_label("do").fill("raise")
        page.get_by_role("button", name="Predict").click()
        expect(page.locator("#answer .error")).to_have_text("The gateway answered with 400.", timeout=SOON_MS)
        expect(page.locator("#answer pre")).to_contain_text("bad luck")


def test_without_scripts_the_page_stands_still(live: Live, browser: Browser):
    """Without JavaScript the page shows how things stood, and a link loads it again."""
    with opened(browser, live.server.url, java_script_enabled=False) as page:
        page.goto("/deployments")
        serves(page, 1)
        live.client.set_registered_model_alias("m", "champion", 2)
        live.gateway.serves(2)
        eventually(lambda: live.reported == ["2"], "the gateway reports")

        page.get_by_role("link", name="Load it again").click()

        serves(page, 2)


def test_hostile_reports(live: Live, page: Page):
    """Reports of anybody make nothing run, lead nowhere else, and leave what others reported as it is."""
    script = "<script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\">"
    endpoint = {"name": "m", "model": script, "alias": "javascript:alert(1)", "state": "<b>x", "versions": []}
    error = {"message": script * 100, "at": "9999-12-31T00:00:00Z"}
    counters = {"m": {script: {"requests": 1e308, "errors": -1}}}
    body = {"address": "http://169.254.169.254", "endpoints": [endpoint | {"last_error": error}], "counters": counters}
    live.server.client.put("/api/turnout/v1/gateways/zz", json=body).raise_for_status()

    for address in ("/deployments", "/deployments/zz/m", "/deployments/zz/m/try"):
        page.goto(address)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert "stolen" not in page.title()
    page.goto("/deployments/zz/m/try")
    page.get_by_label("Request").fill('{"inputs": [1]}')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#answer .error")).to_contain_text("where no gateway can be")
    page.goto("/deployments")
    expect(page.locator("[data-label=Serves]").first).to_have_text("Version 1")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible(live: Live, browser: Browser, scheme: str):
    """axe-core finds nothing to object to, on a wide screen and on a phone's."""
    live.gateway.ask()
    for width in (1200, 390):
        with opened(browser, live.server.url, color_scheme=scheme, viewport={"width": width, "height": 800}) as page:
            for address in ("/deployments", "/deployments?q=nothing", live.endpoint, f"{live.endpoint}/try"):
                page.goto(address)
                found = Axe().run(page)
                assert found.violations_count == 0, (address, found.generate_report())
                wider = page.evaluate("document.documentElement.scrollWidth > innerWidth")
                assert not wider, f"{address} is wider than a screen of {width}"
