"""How soon pages of a full registry show something in a real Chromium, and how much they load.

One server with many models and versions; each page is opened cold, in a browser context of its own. Exits 1 when a
bound is missed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
from playwright.sync_api import Browser, sync_playwright
from reports import GATEWAY, report
from servers import turnout_server
from verdicts import Verdicts

from registry import Subject, fill, log_run  # the bench beside this one, not the package

SERVED = 20
SETTLED_MS = 300.0
MAX_PAINT_MS = 300.0
MAX_KB = 100.0
OPTIONS = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
# What came over the wire: compressed bodies and their headers.
LOADED = """performance.getEntries().reduce((sum, each) => sum + (each.transferSize ?? 0), 0)"""


@click.command()
@click.option("--models", default=10_000, show_default=True)
@click.option("--versions", default=10, show_default=True, help="Versions of each.")
@click.option("--rounds", default=10, show_default=True, help="How often each page is opened.")
def main(models: int, versions: int, rounds: int) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory() as name, turnout_server(Path(name)) as server, chromium() as browser:
        subject = Subject(server)
        log_run(subject)
        fill(subject, 0, models, versions)
        report(server.port, [f"m{number}" for number in range(min(models, SERVED))])
        address = f"http://127.0.0.1:{server.port}"
        for page in pages(subject, models):
            opened = [look(browser, address + page) for _ in range(rounds)]
            paint_ms, kilobytes = median(each[0] for each in opened), max(each[1] for each in opened)
            claim = f"{page}: first paint after {paint_ms:.0f} ms (at most {MAX_PAINT_MS:.0f}), {kilobytes:.0f} KB"
            verdicts.check(0 < paint_ms <= MAX_PAINT_MS and kilobytes <= MAX_KB, f"{claim} (at most {MAX_KB:.0f})")
    sys.exit(verdicts.finish())


def pages(subject: Subject, models: int) -> list[str]:
    last = f"m{models - 1}"
    return [
        "/",
        f"/?q={last[:-1]}",
        f"/models/{last}",
        f"/models/{last}/versions/1",
        f"/models/{last}/versions/1/delete",
        f"/models/{last}/compare?a=1&b=2",
        f"/runs/{subject.run_id}?path=model",
        f"/register?run={subject.run_id}&path=model",
        "/experiments/0",
        "/deployments",
        f"/deployments/{GATEWAY}/m0",
        f"/deployments/{GATEWAY}/m0/try",
    ]


@contextmanager
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("no Chromium to measure with: apt-get install chromium")
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*OPTIONS, *sandbox])
        yield browser
        browser.close()


def look(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds to the first paint of something, and kilobytes that came, in a context without a cache."""
    with browser.new_context() as context:
        page = context.new_page()
        answer = page.goto(address)
        if answer is None or not answer.ok:
            raise SystemExit(f"{address} was refused: {page.inner_text('main')}")
        page.wait_for_timeout(SETTLED_MS)  # a page that follows has a stream open, so the network is never idle
        return float(page.evaluate(PAINTED)), float(page.evaluate(LOADED)) / 1000


if __name__ == "__main__":
    main()
