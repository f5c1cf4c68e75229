"""What a gateway's report says that it serves: read with care, since anything may stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Served:
    """One version of a model at one endpoint of one gateway. *alias* is None where the endpoint follows none."""

    gateway: str
    address: str
    endpoint: str
    model: str
    alias: str | None
    version: str
    role: str
    state: str

    @property
    def is_serving(self) -> bool:
        """Whether it answers, rather than comes up or is let go."""
        return self.role != "next" and self.state in {"", "ready"}


def served_by(gateway: str, address: str, endpoints: Iterable[Mapping[str, Any]]) -> tuple[Served, ...]:
    """Each version of each endpoint; what is not as a report should be is left out."""
    found: list[Served] = []
    for each in endpoints:
        name, model, alias = each.get("name"), each.get("model"), each.get("alias")
        if not isinstance(name, str) or not isinstance(model, str):
            continue
        versions = each.get("versions")
        for one in versions if isinstance(versions, list) else ():
            if isinstance(one, dict) and one.get("version") is not None:
                followed = alias if isinstance(alias, str) else None
                role, state = str(one.get("role", "")), str(one.get("state", ""))
                found.append(Served(gateway, address, name, model, followed, str(one["version"]), role, state))
    return tuple(found)
