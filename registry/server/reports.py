"""What a gateway's report says of its endpoints, read with care: anything may stand in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from registry.names import MAX_NAME_CHARS
from registry.server.served import Served

Text = Annotated[str, msgspec.Meta(max_length=4_000)]
Reference = Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARS)]
Word = Annotated[str, msgspec.Meta(max_length=40)]
# As a gateway's own configuration takes them, but for those that an address of a page cannot end in.
Name = Annotated[str, msgspec.Meta(pattern=r"\A(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,255}\Z")]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10**10)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=10**7)]


class Version(msgspec.Struct, frozen=True):
    """One version at an endpoint, with its share of the requests."""

    version: Reference
    role: Word = ""
    state: Word = ""
    share: Share = 0.0


class _Event(msgspec.Struct, frozen=True):
    at: datetime

    def __post_init__(self) -> None:
        try:
            self.at.astimezone(UTC)
        except OverflowError as problem:
            raise ValueError(str(problem)) from None


class Change(_Event, frozen=True, rename={"from_version": "from", "to_version": "to"}):
    """The last swap."""

    from_version: Text | None = None
    to_version: Text | None = None
    by: Text | None = None
    reason: Text | None = None
    took_ms: Milliseconds | None = None


class Failure(_Event, frozen=True):
    """Why the last look or the last load came to nothing."""

    version: Text | None = None
    message: str = ""
    retry_in_s: Seconds | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """One endpoint as `/status` has it. *alias* is None where it follows none."""

    name: Name
    model: Reference
    alias: Reference | None = None
    state: Word = ""
    stale: bool = False
    versions: Annotated[tuple[Version, ...], msgspec.Meta(max_length=50)] = ()
    last_change: Change | None = None
    last_error: Failure | None = None

    @property
    def primary(self) -> str | None:
        """The version that answers."""
        return next((each.version for each in self.versions if each.role == "primary"), None)

    @property
    def incoming(self) -> Version | None:
        """The version that is on its way."""
        return next((each for each in self.versions if each.role == "next"), None)


def read_endpoints(endpoints: Iterable[Mapping[str, Any]]) -> tuple[Endpoint, ...]:
    """Each endpoint of a report; what is not as a report should be is left out."""
    return tuple(_readable(endpoints))


def served_by(gateway: str, address: str, endpoints: Iterable[Endpoint]) -> Iterator[Served]:
    """Each version of each endpoint."""
    for each in endpoints:
        for one in each.versions:
            yield Served(gateway, address, each.name, each.model, each.alias, one.version, one.role, one.state)


def _readable(endpoints: Iterable[Mapping[str, Any]]) -> Iterator[Endpoint]:
    for each in endpoints:
        try:
            yield msgspec.convert(each, Endpoint)
        except msgspec.ValidationError:
            continue
