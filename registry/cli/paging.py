"""Whole lists of what a registry gives page by page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from registry.page import Page

T = TypeVar("T")


def every(search: Callable[[str | None], Page[T]], max_results: int | None = None) -> list[T]:
    """The rows of every page that *search* gives for a page token, or the first *max_results* of them."""
    page = search(None)
    found = list(page)
    while page.token is not None and (max_results is None or len(found) < max_results):
        page = search(page.token)
        found += page
    return found[:max_results]
