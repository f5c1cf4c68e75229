"""One version of a model where it is served: what the pages of models mark."""

from __future__ import annotations

from dataclasses import dataclass


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
