"""What is asked of a batch prediction, which version answers it, and whether an earlier run can be gone on with."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.batch.formats import Location
from gateway.batch.parts import Parts
from gateway.batch.rows import Limit, counted
from gateway.config import EndpointConfig
from gateway.errors import BatchFailed
from gateway.runtimes.base import Resolved
from registry import ModelUri, ModelVersion, NotFound, Registry, connect

log = logging.getLogger("turnout.batch")


@dataclass(frozen=True, slots=True)
class Job:
    """One call of `turnout predict`."""

    config: EndpointConfig
    source: Location
    target: Location
    cache: Path
    registry_uri: str | None
    params: dict[str, Any] | None
    limit: Limit
    with_input: bool
    max_bad_rows: int
    overwrites: bool
    restarts: bool


def resolve(job: Job, record: Mapping[str, Any] | None) -> Resolved:
    """The model's files. A run that goes on keeps the version with which it began, wherever the alias points by now."""
    model = job.config.model
    if isinstance(model, Path):
        return Resolved.of_directory(model, job.cache / "models")
    with contextlib.closing(connect(job.registry_uri, create=False)) as client:
        version = client.resolve(model)
        begun = (record or {}).get("version")
        if begun is not None and record is not None and record["model"] == str(model) and begun != version.version:
            log.warning("%s is version %s by now; this run goes on with version %s", model, version.version, begun)
            version = _version(client, version.name, begun)
        return Resolved.of_version(version, model.alias, job.cache / "models", client)


def _version(client: Registry, name: str, number: str) -> ModelVersion:
    try:
        return client.resolve(ModelUri(name, version=int(number)))
    except NotFound as problem:
        raise BatchFailed(f"{problem}; finished parts are of it, so pass --restart to begin anew") from None


def take_up(job: Job, resolved: Resolved, parts: Parts) -> None:
    """Go on with the parts of an earlier run that asked the same, or begin.

    Raises `BatchFailed` where finished parts answer something else.
    """
    asked = {
        "model": str(job.config.model),
        "version": resolved.version.version if resolved.version else None,
        "digest": resolved.digest,
        "params": job.params,
        "format": job.target.format,
        "with_input": job.with_input,
    }
    before = parts.record
    if before == asked and not job.restarts:
        return
    if before is not None and parts.finished and not job.restarts:
        name = next(name for name in asked if before.get(name) != asked[name])
        held = f"{str(parts.folder)!r} holds {counted(parts.finished, 'finished part')}"
        raise BatchFailed(
            f"{held} of a run whose {name.replace('_', ' ')} was {before.get(name)!r}, and {asked[name]!r} is asked; "
            "pass --restart to begin anew, or name another file"
        )
    parts.clear()
    parts.begin(asked)
