"""Who changes things, when nobody logged in."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable

Actor = str | Callable[[], str | None] | None


def default_actor() -> str | None:
    """`TURNOUT_ACTOR`, else the login name."""
    if actor := os.environ.get("TURNOUT_ACTOR"):
        return actor
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def as_function(actor: Actor) -> Callable[[], str | None]:
    """A function that tells who acts at this moment: the one given, or one that always names the one given."""
    given = default_actor if actor is None else actor
    return given if callable(given) else lambda: given
