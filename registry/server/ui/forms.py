"""What somebody typed into a form, and what was wrong with it: a page shows both where the form stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.errors import InvalidParameter

MAX_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Form:
    """The one form of a page that is open. *name* says which: `alias-4` is the alias form of version 4."""

    name: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    status: int = 200

    def value(self, name: str, default: str = "") -> str:
        """What was typed into the field, else *default*."""
        return self.values.get(name, default)

    def text(self, name: str) -> str:
        """What was typed, without the space around it, which no name has."""
        return self.values.get(name, "").strip()

    def required(self, name: str, what: str) -> str:
        """Raises `InvalidParameter` when nothing was typed."""
        if not (found := self.text(name)):
            raise InvalidParameter(f"{what} is missing: fill it in")
        return found


NO_FORM = Form()
