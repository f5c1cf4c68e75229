"""How far a command has come, drawn on a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from typing import Self

import click


class Bar:
    """Called with what was done on top: rows, and how much of the whole size, if there is one. Silent elsewhere."""

    def __enter__(self) -> Self:
        self._rows = 0
        self._bar: click._termui_impl.ProgressBar[None] | None = None
        self._stack = ExitStack()
        self._begun_s = time.monotonic()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self._bar is not None and self._bar.length:
            self._bar.update(self._bar.length - self._bar.pos)  # a header is no row, and was read too
        self._stack.close()

    def __call__(self, rows: int, size: int, whole: int | None) -> None:
        if not sys.stderr.isatty():
            return
        self._rows += rows
        if self._bar is None:
            endless = None if whole else iter(lambda: None, 0)  # a bar of no known length wants something to iterate
            bar = click.progressbar(endless, whole, file=sys.stderr, item_show_func=lambda _: self._pace())
            self._bar = self._stack.enter_context(bar)
        self._bar.update(size)

    def _pace(self) -> str:
        rate = self._rows / max(time.monotonic() - self._begun_s, 1e-9)
        return f"{self._rows} rows, {rate:.0f} rows/s"
