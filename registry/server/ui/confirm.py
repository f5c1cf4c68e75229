"""Asks before what cannot be taken back, and names what depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from starlette.responses import Response

from registry.server.served import Served
from registry.server.ui.forms import Form
from registry.server.ui.visit import Visit

MOST_FACTS = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A page with one question. Yes sends *hidden* to *action*; no leads *back*. Without a *button* there is no yes."""

    title: str
    facts: Sequence[str]
    action: str
    button: str | None
    back: str
    hidden: Mapping[str, str] = field(default_factory=dict)
    asks_reason: bool = False
    is_dangerous: bool = True


def ask(visit: Visit, question: Question, form: Form) -> Response:
    return visit.show("confirm.html", form.status, question=question, form=form)


def facts_of(served: Sequence[Served]) -> list[str]:
    """A sentence about each endpoint that serves, or is about to serve, something of it."""
    facts = [
        f"Endpoint “{each.endpoint}” of gateway {each.gateway} "
        + (f"serves version {each.version}" if each.is_serving else f"has version {each.version} on its way in or out")
        + (f" because it follows @{each.alias}." if each.alias else ".")
        for each in served[:MOST_FACTS]
    ]
    return facts + ([f"So do {len(served) - MOST_FACTS} more."] if len(served) > MOST_FACTS else [])
