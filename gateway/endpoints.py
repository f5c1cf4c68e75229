"""Public endpoints: a name, its config, what it serves now, and what is known of how that came about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from gateway.config import EndpointConfig
from gateway.errors import NoSuchEndpoint
from gateway.meters import Meters
from gateway.servable import Servable
from gateway.split import Split
from registry import ModelUri


@dataclass(frozen=True, slots=True)
class Change:
    """A swap that happened: who moved the alias, why, and how long it took until requests went there."""

    from_version: str | None
    to_version: str
    at: datetime
    by: str | None
    reason: str | None
    took_ms: int

    def as_json(self) -> dict[str, Any]:
        return {
            "from": self.from_version,
            "to": self.to_version,
            "at": isoformat(self.at),
            "by": self.by,
            "reason": self.reason,
            "took_ms": self.took_ms,
        }


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the last look or the last load came to nothing."""

    version: str | None
    message: str
    at: datetime
    retry_in_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "message": self.message,
            "at": isoformat(self.at),
            "retry_in_s": None if self.retry_in_s is None else round(self.retry_in_s, 1),
        }


@dataclass(slots=True)
class Incoming:
    """A version on its way: what it is, and how far it has come."""

    version: str
    digest: str | None
    state: str = "fetching"


class Endpoint:
    """One name that clients call. Everything mutable here is written by the reconciler only.

    Readers read `split` once into a local name and use that.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.split: Split[Servable] | None = None
        self.incoming: Incoming | None = None
        self.draining: list[Servable] = []
        self.last_change: Change | None = None
        self.last_error: Failure | None = None
        self.stale = False
        self.meters = Meters()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_ready(self) -> bool:
        split = self.split
        return split is not None and split.primary.replicas > 0

    @property
    def state(self) -> str:
        if self.split is not None:
            return "updating" if self.incoming else "serving"
        return "failed" if self.last_error is not None else "starting"

    def servables(self) -> Iterator[tuple[Servable, str]]:
        """Every version that serves or finishes what it began, with its role."""
        if self.split is not None:
            for servable, role, _ in self.split.shares():
                yield servable, role
        for servable in self.draining:
            yield servable, "previous"

    def as_json(self) -> dict[str, Any]:
        """The endpoint's entry in `/status`."""
        model = self.config.model
        name, alias = (model.name, model.alias) if isinstance(model, ModelUri) else (str(model), None)
        return {
            "name": self.name,
            "model": name,
            "alias": alias,
            "uri": str(model),
            "state": self.state,
            "stale": self.stale,
            "versions": list(self._versions()),
            "last_change": self.last_change.as_json() if self.last_change else None,
            "last_error": self.last_error.as_json() if self.last_error else None,
            "rollout": None,
        }

    def _versions(self) -> Iterator[dict[str, Any]]:
        if self.split is not None:
            for servable, role, share in self.split.shares():
                yield _row(servable, role, share)
        if self.incoming is not None:
            incoming = self.incoming
            yield {
                "version": incoming.version,
                "role": "next",
                "share": 0.0,
                "state": incoming.state,
                "digest": incoming.digest,
            }
        for servable in self.draining:
            yield _row(servable, "previous", 0.0)


class EndpointTable:
    """The gateway's endpoints by name; fixed for the life of the process."""

    def __init__(self, endpoints: Sequence[Endpoint], default: str | None) -> None:
        self._by_name: dict[str | None, Endpoint] = {endpoint.name: endpoint for endpoint in endpoints}
        self._default = default

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_name.values())

    def get(self, name: str | None) -> Endpoint:
        """The endpoint of that name, or the default one for None; raises `NoSuchEndpoint` naming those there are."""
        wanted = self._default if name is None else name
        if wanted in self._by_name:
            return self._by_name[wanted]
        have = ", ".join(endpoint.name for endpoint in self)
        if name is None:
            raise NoSuchEndpoint(
                f"/invocations has no default among several endpoints; call /endpoints/NAME/invocations of: {have}"
            )
        raise NoSuchEndpoint(f"there is no endpoint {name!r}; there is: {have}")


def isoformat(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as everywhere outside MLflow's own routes."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _row(servable: Servable, role: str, share: float) -> dict[str, Any]:
    state = servable.state
    if state == "ready" and not servable.replicas:
        state = "starting"
    return {
        "version": servable.resolved.label,
        "role": role,
        "share": share,
        "state": state,
        "digest": servable.resolved.digest,
        "replicas": servable.replicas,
        "path": servable.path,
        "proof": servable.proof,
    }
