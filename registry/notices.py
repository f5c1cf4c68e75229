"""What a registry has to say beside its answer: a Python warning, or, where a server listens, a header."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[list[str] | None] = ContextVar("listener", default=None)


def notify(text: str, stacklevel: int) -> None:
    """Warn the caller that is *stacklevel* frames above this one, unless somebody listens in this context."""
    heard = _listener.get()
    if heard is None:
        warnings.warn(text, UserWarning, stacklevel=stacklevel + 1)
    else:
        heard.append(text)


@contextmanager
def listening() -> Iterator[list[str]]:
    """What is said in the block comes into the list instead; threads beside this one are not touched.

    `warnings.catch_warnings` changes the whole process, so a server cannot use it.
    """
    heard: list[str] = []
    token = _listener.set(heard)
    try:
        yield heard
    finally:
        _listener.reset(token)
