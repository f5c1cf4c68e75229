"""What lies in a run's or a logged model's artifact folder, as MLflow's tracking routes tell it."""

from __future__ import annotations

from typing import Any

from registry.artifacts import ArtifactStore, check_path
from registry.models.cache import STORE
from registry.wire.tracking import encode_listing


def list_artifacts(store: ArtifactStore, artifact_uri: str, path: str | None) -> dict[str, Any]:
    """The folder *path* below the artifacts at *artifact_uri*; nothing for a file or no folder.

    Also nothing for artifacts that lie in somebody else's store.
    """
    folder = (path or "").rstrip("/")
    if path:
        check_path(folder)
    if not artifact_uri.startswith(STORE):
        return encode_listing(artifact_uri, folder, ())
    root = artifact_uri.removeprefix(STORE).strip("/")
    entries = store.list_folder(f"{root}/{folder}" if folder else root)
    return encode_listing(artifact_uri, folder, entries)
