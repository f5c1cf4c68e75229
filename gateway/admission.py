"""What all predictions together may cost the ingress, and the cheapest way to say no.

A prediction that cannot be done is refused when its headers are there: before its body is read, and before there is
a task that would read it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from gateway.config import Settings
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import GatewayError, Overloaded
from gateway.protocols import v2
from gateway.wire import Describe, error_body

LARGEST_BODIES = 16  # so many of `max_body` are held at once; a bound on memory, far beyond ordinary bodies


class Admission:
    """Counts the predictions that are under way. *settings* gives those that are in force."""

    def __init__(self, endpoints: EndpointTable, settings: Callable[[], Settings]) -> None:
        self.predictions = 0
        self.held_bytes = 0
        self._endpoints = endpoints
        self._settings = settings

    def refusal(self, url: bytes) -> tuple[GatewayError, Describe] | None:
        """What a prediction at *url* is told at once, and how; None if it may come, or if this takes a closer look."""
        name, describe = _target(url)
        endpoint = self._endpoints.find(name) if describe is not None else None
        if endpoint is None or describe is None:
            return None
        problem = self._fullness(endpoint) or endpoint.refusal()
        return None if problem is None else (problem, describe)

    def place(self, endpoint: Endpoint) -> Place:
        """What a prediction holds, with `with`, while it is under way. Raises `Overloaded`."""
        problem = self._fullness(endpoint)
        if problem is not None:
            raise problem
        return Place(self)

    def _fullness(self, endpoint: Endpoint) -> Overloaded | None:
        limit = self._settings().max_concurrency
        if self.predictions < limit:
            return None
        endpoint.meters.of("", "").count("overloaded", 0.0)
        return Overloaded(f"{self.predictions} predictions are under way, of max_concurrency {limit}; try again")

    def hold(self, size: int) -> None:
        """Count so many bytes of a body. Raises `Overloaded` where they would be too many together."""
        limit = LARGEST_BODIES * self._settings().max_body_bytes
        if self.held_bytes + size > limit:
            problem = Overloaded(f"the bodies of all predictions under way may have {limit} bytes together; try again")
            problem.closes_connection = True
            raise problem
        self.held_bytes += size


class Place:
    """One prediction's, with the bytes of its body."""

    __slots__ = ("_admission", "_held_bytes")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held_bytes = 0

    def __enter__(self) -> Self:
        self._admission.predictions += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._admission.predictions -= 1
        self._admission.held_bytes -= self._held_bytes

    def hold(self, size: int) -> None:
        """Count so many bytes more until the end. Raises `Overloaded`."""
        self._admission.hold(size)
        self._held_bytes += size


def _target(url: bytes) -> tuple[str | None, Describe | None]:
    """The endpoint that a path names, None for the default one, and how errors look there; None where it is open."""
    match url.partition(b"?")[0].split(b"/"):
        case [b"", b"invocations"]:
            return None, error_body
        case [b"", b"endpoints", name, b"invocations"]:
            return name.decode("latin-1"), error_body
        case [b"", b"v2", b"models", name, b"infer"]:
            return name.decode("latin-1"), v2.error
    return None, None
