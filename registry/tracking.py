"""What training clients need beside the registry: logged models, the source that versions are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model's files under an id, before and beside any registration. Times are ms since the epoch."""

    model_id: str
    name: str
    artifact_uri: str
    status: str
    creation_timestamp: int
    last_updated_timestamp: int
    source_run_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def model_uri(self) -> str:
        return f"models:/{self.model_id}"


class Tracking(Protocol):
    """Logged models by id."""

    def create_logged_model(
        self, name: str, source_run_id: str | None = None, tags: Mapping[str, str] | None = None
    ) -> LoggedModel:
        """A new one, `LOGGED_MODEL_PENDING`, whose files belong under its `artifact_uri`."""

    def finalize_logged_model(self, model_id: str, status: str = "LOGGED_MODEL_READY") -> LoggedModel:
        """Say that its files are complete; only then can a version be made from it."""

    def get_logged_model(self, model_id: str) -> LoggedModel: ...
