"""Public endpoints: a name, its config, what it serves now, and what is known of how that came about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gateway.config import EndpointConfig
from gateway.errors import GatewayError, NoSuchEndpoint, NotReady, Overloaded
from gateway.meters import Meters, outcome_of
from gateway.servable import Servable
from gateway.split import Split
from registry import ModelUri

MAX_NAMES = 20  # that a message lists


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
    """One name that clients call. Its follower writes what is mutable here, but for what requests leave.

    Readers read `split` once into a local name and use that.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self.split: Split[Servable] | None = None
        self.is_asleep = False  # nothing is loaded, and a request will have it loaded
        self.changed = asyncio.Event()  # the follower is to look again
        self.incoming: Incoming | None = None
        self.draining: list[Servable] = []
        self.last_change: Change | None = None
        self.last_error: Failure | None = None
        self.stale = False
        self.meters = Meters()
        self.last_used_s = 0.0  # left by requests, on the clock of `time.perf_counter`
        self.awaited_by: set[object] = set()  # other processes, whose requests wait or have just been told
        self._awaiting: set[asyncio.Future[None]] = set()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def is_ready(self) -> bool:
        """Whether a request that comes now can be answered, if only once the model is loaded for it."""
        split = self.split
        return self.is_asleep if split is None else split.primary.replicas > 0

    @property
    def is_awaited(self) -> bool:
        """Whether requests wait for it to be loaded."""
        return bool(self._awaiting or self.awaited_by)

    @property
    def is_idle(self) -> bool:
        """Whether it serves, and has no request and no other version on its way: it may be put to sleep."""
        split = self.split
        return (
            split is not None
            and self.incoming is None
            and not self.is_awaited  # told that it serves, and not yet on their way again
            and not any(each.leases for each, _, _ in split.shares())
        )

    def refusal(self) -> GatewayError | None:
        """What the next request is told at once; None where it may come, or it is open to which version it goes."""
        split = self.split
        if split is None or split.arms or split.primary.is_free:
            return None
        problem = split.primary.refusal(self.config.predict_timeout_s)
        if problem is not None:
            self.meters.of(split.primary.resolved.label, "primary").count(outcome_of(problem), 0.0)
        return problem

    @property
    def state(self) -> str:
        if self.split is not None:
            return "updating" if self.incoming else "serving"
        if self.is_asleep and self.incoming is None:
            return "idle"
        return "failed" if self.last_error is not None and self.incoming is None else "starting"

    async def awakened(self) -> None:
        """Return once it serves; a sleeping endpoint is loaded first, once for all who ask.

        Raises `NotReady` with the cause when it does not come up, `Overloaded` when too many wait for it already.
        """
        if self.is_asleep:
            await self._awake()
        if self.split is None:
            raise NotReady(f"endpoint {self.name!r} has no version to serve yet: {self.why_not()}")

    async def _awake(self) -> None:
        if len(self._awaiting) > self.config.max_queue:
            raise Overloaded(
                f"endpoint {self.name!r} is being loaded, and {len(self._awaiting)} requests wait for it, of max_queue "
                f"{self.config.max_queue}; try again"
            )
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaiting.add(told)
        self.changed.set()
        try:
            async with asyncio.timeout(self.config.load_timeout_s):
                await told
        except TimeoutError:
            raise NotReady(f"endpoint {self.name!r} is still being loaded; try again") from None
        finally:
            self._awaiting.discard(told)

    def why_not(self) -> str:
        """Why there is nothing to serve, as a clause."""
        return self.last_error.message if self.last_error else "it is starting"

    def serve(self, split: Split[Servable]) -> None:
        """Send every request that comes from here on, and those that wait, to what *split* says."""
        self.split = split
        self.is_asleep = False
        self._tell()

    def came_to_nothing(self) -> None:
        """What was to be loaded was not: who waits hears of it."""
        self.is_asleep = False
        self._tell()

    def close(self) -> Split[Servable] | None:
        """It is configured no more: what it served is given back, and who waits or is on the way to it hears so."""
        split, self.split = self.split, None
        self.last_error = Failure(None, "it is not configured any more", datetime.now(UTC))
        self.came_to_nothing()
        return split

    def _tell(self) -> None:
        for each in self._awaiting:
            if not each.done():
                each.set_result(None)

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
    """The gateway's endpoints by name; the reconciler replaces them when the configuration changes."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.replace(endpoints)

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._by_name.values())

    def replace(self, endpoints: Iterable[Endpoint]) -> None:
        """These are all from here on; the default is the only one, or the one that is marked so."""
        by_name = {endpoint.name: endpoint for endpoint in endpoints}
        marked = [each for each in by_name.values() if each.config.is_default or len(by_name) == 1]
        self._by_name, self.default = by_name, marked[0] if marked else None

    def find(self, name: str | None) -> Endpoint | None:
        """The endpoint of that name, or the default one for None, if there is one."""
        return self.default if name is None else self._by_name.get(name)

    def get(self, name: str | None) -> Endpoint:
        """What `find` finds; raises `NoSuchEndpoint` naming those there are."""
        found = self.find(name)
        if found is not None:
            return found
        have = _enumerated([endpoint.name for endpoint in self])
        if name is None and self._by_name:
            raise NoSuchEndpoint(
                f"/invocations has no default among several endpoints; call /endpoints/NAME/invocations of: {have}"
            )
        raise NoSuchEndpoint(f"there is no endpoint {name or 'at all'!r}; there is: {have}")


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
        "environment": servable.environment,
    }


def _enumerated(names: list[str]) -> str:
    shown = ", ".join(names[:MAX_NAMES]) or "none"
    return shown if len(names) <= MAX_NAMES else f"{shown} and {len(names) - MAX_NAMES} more"
