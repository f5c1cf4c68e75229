"""What a registry is: registered models, their versions, and the aliases that point at them.

Attribute and method names are MLflow's, so that code moves by changing an import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Protocol, Self, runtime_checkable

from registry.artifacts import ArtifactStore, Manifest, ServedArtifacts
from registry.changes import Changes, Webhooks
from registry.names import DIGEST_TAG
from registry.page import Page
from registry.tracking import Tracking
from registry.uri import ModelUri


class _Entity:
    """Gives `dict(entity)` the keys that MLflow's entities give."""

    __slots__ = ()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        for each in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            if each.repr:
                yield each.name, getattr(self, each.name)


@dataclass(frozen=True, slots=True)
class ModelVersion(_Entity):
    """One immutable version of a registered model. Times are milliseconds since the epoch.

    What follows `model_id` is always None: MLflow's scripts read it, and no registry of ours has such things.
    """

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    user_id: str | None = None
    current_stage: str = "None"
    source: str | None = None
    run_id: str | None = None
    run_link: str | None = None
    status: str = "READY"
    status_message: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Sequence[str] = ()
    model_id: str | None = None
    metrics: None = None
    params: None = None
    deployment_job_state: None = None
    workspace: str | None = None
    registry: str = field(default="", repr=False)

    @property
    def key(self) -> tuple[str, str, str, int, str | None]:
        """Equal exactly for the same version: a model deleted and created again reuses its numbers."""
        return (self.registry, self.name, self.version, self.creation_timestamp, self.source)

    @property
    def digest(self) -> str | None:
        """The root digest of its files' manifest, as `sha256:<hex>`, when the registry knows it."""
        return self.tags.get(DIGEST_TAG)


@dataclass(frozen=True, slots=True)
class RegisteredModel(_Entity):
    """A name under which versions are kept. Times are milliseconds since the epoch.

    What follows `aliases` is always None: MLflow's scripts read it, and no registry of ours has such things.
    """

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str | None = None
    latest_versions: Sequence[ModelVersion] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    deployment_job_id: None = None
    deployment_job_state: None = None
    workspace: str | None = None


@dataclass(frozen=True, slots=True)
class AliasChange:
    """One move of an alias. `from_version` None: it was not set; `to_version` None: it was deleted."""

    id: int
    alias: str
    at: datetime
    by: str | None
    from_version: str | None
    to_version: str | None
    reason: str | None = None
    rollback_of: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The shape of `interface.md`'s history, used by `--json` and by the HTTP interface."""
        return {
            "id": self.id,
            "at": self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "by": self.by,
            "from": self.from_version,
            "to": self.to_version,
            "reason": self.reason,
            "rollback_of": self.rollback_of,
        }


class Registry(Protocol):
    """Registered models, model versions and aliases; every implementation passes one contract suite.

    Every method may raise `Unavailable`; those that name a thing raise `NotFound` when it is not there and
    `InvalidParameter` when the name can be none. A refused call changes nothing.
    """

    @property
    def uri(self) -> str:
        """The address it was opened with, without any password."""

    @property
    def artifacts(self) -> ArtifactStore: ...

    @property
    def tracking(self) -> Tracking: ...

    def close(self) -> None:
        """Close every connection, and end a pending `wait` soon. Safe to call twice; so does leaving a `with`."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    # Registered models

    def create_registered_model(
        self,
        name: str,
        tags: Mapping[str, Any] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,
    ) -> RegisteredModel:
        """Make a model without versions. *deployment_job_id* is ignored: it names a job of Databricks."""

    def get_registered_model(self, name: str) -> RegisteredModel: ...

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel: ...

    def update_registered_model(
        self, name: str, description: str | None = None, deployment_job_id: str | None = None
    ) -> RegisteredModel:
        """Replace the description. *deployment_job_id* is ignored: it names a job of Databricks."""

    def delete_registered_model(self, name: str) -> None: ...

    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int = 100,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[RegisteredModel]: ...

    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[ModelVersion]: ...

    def set_registered_model_tag(self, name: str, key: str, value: Any) -> None: ...

    def delete_registered_model_tag(self, name: str, key: str) -> None: ...

    # Model versions

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Mapping[str, Any] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        await_creation_for: int | None = 300,
        model_id: str | None = None,
    ) -> ModelVersion:
        """Add the next version; its manifest is computed here from the files that *source* names.

        A local path is refused: `register_model` copies the files into the artifact root first. The version is
        ready when this returns, so *await_creation_for* is never waited for.
        """

    def copy_model_version(self, src_model_uri: str, dst_name: str) -> ModelVersion: ...

    def get_model_version(self, name: str, version: str | int) -> ModelVersion: ...

    def update_model_version(self, name: str, version: str | int, description: str | None = None) -> ModelVersion: ...

    def delete_model_version(self, name: str, version: str | int) -> None: ...

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = 10_000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[ModelVersion]: ...

    def get_model_version_download_uri(self, name: str, version: str | int) -> str: ...

    def get_model_version_manifest(self, name: str, version: str | int) -> Manifest | None:
        """Every file of the version with its sha256, or None where nobody recorded one."""

    def transition_model_version_stage(
        self, name: str, version: str | int, stage: str, archive_existing_versions: bool = False
    ) -> ModelVersion: ...

    def set_model_version_tag(
        self,
        name: str,
        version: str | int | None = None,
        key: str | None = None,
        value: Any = None,
        stage: str | None = None,
    ) -> None: ...

    def delete_model_version_tag(
        self, name: str, version: str | int | None = None, key: str | None = None, stage: str | None = None
    ) -> None: ...

    # Aliases

    def set_registered_model_alias(
        self,
        name: str,
        alias: str,
        version: str | int,
        *,
        expected_version: str | int | None = None,
        reason: str | None = None,
    ) -> None:
        """Point *alias* at *version*; with *expected_version* only if it points there (0: is not set).

        Raises `Conflict` when somebody moved it meanwhile. Warns (UserWarning) about an alias that differs
        from an existing one only by case.
        """

    def delete_registered_model_alias(
        self, name: str, alias: str, *, expected_version: str | int | None = None, reason: str | None = None
    ) -> None: ...

    def get_model_version_by_alias(self, name: str, alias: str, *, at: datetime | None = None) -> ModelVersion:
        """The version that the alias names, or named at a moment; one without a time zone is taken as UTC."""

    def get_alias_history(
        self, name: str, alias: str, max_results: int = 100, page_token: str | None = None
    ) -> Page[AliasChange]:
        """Every move of the alias, newest first."""

    def rollback_alias(
        self,
        name: str,
        alias: str,
        *,
        expected_version: str | int | None = None,
        reason: str | None = None,
    ) -> AliasChange:
        """Point the alias at the version before the current one in its history.

        Skips moves that were rolled back and versions deleted since, so twice goes further back.
        Raises `InvalidParameter` when there is no such version.
        """

    # Following

    def resolve(self, uri: ModelUri | str) -> ModelVersion:
        """The version that a `models:/` reference names at this moment."""

    def cursor(self) -> str:
        """Where the change feed stands: opaque, and different after any change."""

    def wait(self, cursor: str, timeout: float) -> str:
        """Return the current cursor once it differs from *cursor*, or at the timeout in seconds.

        An unknown cursor, or one from before a restore, returns at once.
        """


@runtime_checkable
class Reporting(Protocol):
    """A registry that gateways report to: one behind a server of ours."""

    def report_gateway(self, gateway_id: str, report: Mapping[str, Any]) -> None:
        """Send a heartbeat: {address, interval_s, endpoints, counters}.

        Raises `NotFound` where the server keeps no such reports, as MLflow's does not.
        """


class ServedRegistry(Registry, Protocol):
    """What a registry server stands on: a registry, and what only its own database can tell."""

    @property
    def artifacts(self) -> ServedArtifacts: ...

    @property
    def webhooks(self) -> Webhooks: ...

    def changes_since(self, cursor: str) -> Changes:
        """What changed after *cursor*, and the cursor to ask with next. Never waits."""

    def rollback_target(self, name: str, alias: str) -> str | None:
        """The version that `rollback_alias` would point the alias at now; None where it has no earlier one."""

    def protects(self, path: str) -> bool:
        """Whether files at, above or below *path* of the artifact store belong to a registered version."""

    def versions_at(self, path: str, max_results: int = 50) -> list[ModelVersion]:
        """The versions, newest first, whose files lie at exactly *path* of the artifact store: also copies of one."""
