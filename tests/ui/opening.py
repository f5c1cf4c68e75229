"""Pages of a browser in which nothing may go wrong unseen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Page

# What a browser says of an answer such as 400, which is no fault of a page.
_REFUSED = "Failed to load resource: the server responded with a status of 4"


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
