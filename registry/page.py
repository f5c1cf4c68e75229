"""A page of results: a list that knows where the next one begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Page(list[T], Generic[T]):
    """A list that carries `token`: what to pass as `page_token` for the rows after it, or None."""

    def __init__(self, rows: Sequence[T] = (), token: str | None = None) -> None:
        super().__init__(rows)
        self.token = token
