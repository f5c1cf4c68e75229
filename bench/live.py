"""How soon every open browser shows that an alias was moved, on the live page of deployments.

One server, one reported endpoint that follows the alias, and tabs of several browsers that look at it. Time counts
from before the move is asked for until a tab's document has it. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from time import sleep, time

import click
from pages import chromium
from playwright.sync_api import Browser, BrowserContext, Page
from reports import ALIAS, API, put, report
from servers import turnout_server
from verdicts import Verdicts

from registry import Subject, fill, log_run  # the bench beside this one, not the package

MAX_MS = 500.0
MODEL = "m0"
# Notes, by the clock that this process has too, when the page first says where the alias points.
WATCH = """() => {
    window.shown = {};
    new MutationObserver(() => {
        const found = /names version (\\d+)/.exec(document.getElementById("live").textContent);
        if (found) window.shown[found[1]] ??= Date.now() / 1000;
    }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


@click.command()
@click.option("--browsers", default=2, show_default=True)
@click.option("--tabs", default=3, show_default=True, help="Of each browser.")
@click.option("--rounds", default=20, show_default=True, help="How often the alias is moved.")
def main(browsers: int, tabs: int, rounds: int) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory() as name, turnout_server(Path(name)) as server, chromium() as browser:
        subject = Subject(server)
        log_run(subject)
        fill(subject, 0, 1, rounds + 1)
        report(server.port, [MODEL])  # version 1 throughout, so that the page has to say what is wanted instead
        pages = opened(browser, f"http://127.0.0.1:{server.port}/deployments", browsers, tabs)
        taken_ms = [each for version in range(2, rounds + 2) for each in move(server.port, pages, version)]
        worst, middle = max(taken_ms), median(taken_ms)
        claim = f"{len(pages)} tabs show each of {rounds} moves within {worst:.0f} ms, at the median {middle:.0f} ms"
        verdicts.check(worst <= MAX_MS, f"{claim} (at most {MAX_MS:.0f})")
    sys.exit(verdicts.finish())


def opened(browser: Browser, address: str, browsers: int, tabs: int) -> list[Page]:
    """Tabs that listen; each context is a browser of its own."""
    pages = [page for context in (browser.new_context() for _ in range(browsers)) for page in new_tabs(context, tabs)]
    for page in pages:
        page.goto(address)
        page.evaluate(WATCH)
    sleep(2)  # the first word of the stream has come
    return pages


def new_tabs(context: BrowserContext, tabs: int) -> list[Page]:
    return [context.new_page() for _ in range(tabs)]


def move(port: int, pages: list[Page], version: int) -> list[float]:
    """Milliseconds until each tab shows the move."""
    begun_s = time()
    put(port, f"{API}/registered-models/{MODEL}/aliases/{ALIAS}", {"version": version})
    for page in pages:
        page.wait_for_function("version => window.shown[version]", arg=str(version))
    shown_s = [page.evaluate("version => window.shown[version]", str(version)) for page in pages]
    sleep(0.3)
    return [(each - begun_s) * 1000 for each in shown_s]


if __name__ == "__main__":
    main()
