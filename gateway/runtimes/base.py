"""The border between serving and the place where models run."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, cast

from gateway.config import EndpointConfig
from gateway.worker.frames import Payload
from registry import (
    ModelVersion,
    Registry,
    RegistryError,
    Unavailable,
    cached_model,
    fetch_model,
    read_mlmodel,
    snapshot_directory,
)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a replica loads: verified files, of a model version or of a directory without one."""

    path: Path
    digest: str
    mlmodel: dict[str, Any] = field(repr=False)
    version: ModelVersion | None = None
    alias: str | None = None

    @classmethod
    def of_version(cls, version: ModelVersion, alias: str | None, cache: Path, client: Registry) -> Self:
        """Fetched and verified; raises what `registry.fetch_model` raises.

        While the registry is away, what was fetched before is taken as it was recorded with the version.
        """
        try:
            path = fetch_model(version, cache, client)
        except Unavailable:
            with contextlib.suppress(RegistryError):
                return cls.of_cache(version, version.digest or "", alias, cache)
            raise
        return cls(path, version.digest or f"sha256:{path.name}", read_mlmodel(path), version, alias)

    @classmethod
    def of_cache(cls, version: ModelVersion, digest: str, alias: str | None, cache: Path) -> Self:
        """Verified; raises what `registry.cached_model` raises."""
        path = cached_model(cache, digest)
        return cls(path, digest, read_mlmodel(path), version, alias)

    @classmethod
    def of_directory(cls, directory: Path, cache: Path) -> Self:
        """A copy of it as it is at this moment; raises what `registry.snapshot_directory` raises."""
        path, digest = snapshot_directory(directory, cache)
        return cls(path, digest, read_mlmodel(path))

    @property
    def signature(self) -> dict[str, Any] | None:
        """As the MLmodel file has it, marked where it came from type hints: then only `inputs` may be sent."""
        signature = self.mlmodel.get("signature")
        if signature and self.mlmodel.get("is_signature_from_type_hint"):
            return {**signature, "is_signature_from_type_hint": True}
        return cast(dict[str, Any] | None, signature)

    @property
    def label(self) -> str:
        """The version's number, or for a directory the start of its digest."""
        return self.version.version if self.version else self.digest.removeprefix("sha256:")[:12]


@dataclass(frozen=True, slots=True)
class Proven:
    """Which way a replica answers, whether requests may be joined into one call, and the proof, in words."""

    path: str
    joins: bool
    proof: str


class Replica(Protocol):
    """One loaded copy of a model."""

    freed: Callable[[], None]  # it calls this each time that it has room again, also when nobody waits for the answer

    @property
    def address(self) -> str:
        """Where other processes of this machine reach it."""

    @property
    def room(self) -> int:
        """How many more predictions it takes at this moment; 0 when it is gone, also before `closed` says so."""

    @property
    def service_s(self) -> float:
        """About how long it works on one prediction."""

    def memory_bytes(self) -> int:
        """What it holds that no other process shares; 0 when it is gone. Blocks, for a millisecond or so."""

    async def predict(self, payload: Payload, until_s: float) -> Payload:
        """Answer, or raise `ModelError` as the model refused, or `ReplicaDied`. Cancelling does not stop the model.

        What is cancelled before the model has begun it is not begun. Nor is what has not begun at *until_s*, a time of
        the event loop: `DeadlineExceeded`.
        """

    def proven(self) -> AsyncIterator[Proven]:
        """Which way it answers, each time that it has found a better one; from then on it does. Ends when it dies."""

    def given_up(self, limit_s: float) -> None:
        """A caller waits no longer: if it works, or comes to work, on one request for *limit_s*, it is ended."""

    def accuse(self, reason: str, limit_s: float) -> None:
        """Another process that asks it finds that it is to be ended: it sent nonsense, or works too long on one call.

        For the latter, which is over *limit_s*, its own word counts.
        """

    async def closed(self) -> str:
        """Wait until its process is gone; says how it ended, as a phrase."""

    async def close(self) -> None:
        """End it, by force if it will not. Safe to call twice, never raises."""


class Place(Protocol):
    """Where the replicas of one version run: what it needs is installed there, and stays while the place is held."""

    @property
    def environment(self) -> str:
        """The environment's name, and the Python in it."""

    async def start(self, progress: Callable[[str], None], is_awaited: bool = True) -> Replica:
        """One replica that is loaded and warm; *progress* hears `loading`, `warming`.

        While it is not *is_awaited*, since another version serves, it may take its time and is to disturb nobody.

        Raises `LoadFailed` with the cause; then nothing of it is left running.
        """


class Runtime(Protocol):
    """Has places for replicas."""

    async def build(self, resolved: Resolved, config: EndpointConfig) -> None:
        """Have what this version needs installed; nothing runs yet. Raises `LoadFailed` with the cause."""

    def prepare(self, resolved: Resolved, config: EndpointConfig) -> AbstractAsyncContextManager[Place]:
        """Hold a place for this version, built first if need be. Raises `LoadFailed` with the cause."""

    async def close(self) -> None: ...
