"""A real Chromium, driven by playwright: Debian's own, which nothing is downloaded for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
MISSING = "no Chromium for the tests of pages: apt-get install chromium"
# What a browser says of an answer such as 400, which is no fault of a page.
_REFUSED = "Failed to load resource: the server responded with a status of 4"


def find_chromium() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Skips the test where there is none; in CI that is a failure."""
    path = find_chromium()
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    sandbox = [] if os.geteuid() else ["--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*OPTIONS, *sandbox])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, **options: object) -> Iterator[Page]:
    """A page of a context of its own, at whose end nothing may have gone wrong in the browser."""
    wrong: list[str] = []
    context = browser.new_context(base_url=address, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("console", lambda each: wrong.append(each.text) if each.type == "error" else None)
    yield page
    context.close()
    assert [each for each in wrong if not each.startswith(_REFUSED)] == []
