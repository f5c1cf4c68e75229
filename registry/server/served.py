"""What a gateway's report says that it serves: read with care, since anything may stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from registry.names import MAX_NAME_CHARS


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
    return tuple(_served(gateway, address, endpoints))


def _served(gateway: str, address: str, endpoints: Iterable[Mapping[str, Any]]) -> Iterator[Served]:
    for endpoint in endpoints:
        name, model, alias = _text(endpoint, "name"), _text(endpoint, "model"), _text(endpoint, "alias")
        versions = endpoint.get("versions")
        if name is None or model is None or not isinstance(versions, list):
            continue
        for each in versions:
            if isinstance(each, dict) and (version := _text(each, "version")) is not None:
                role, state = _text(each, "role") or "", _text(each, "state") or ""
                yield Served(gateway, address, name, model, alias, version, role, state)


def _text(given: Mapping[str, Any], key: str) -> str | None:
    found = given.get(key)
    return found if isinstance(found, str) and len(found) <= MAX_NAME_CHARS else None
