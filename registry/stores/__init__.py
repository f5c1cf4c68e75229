"""Where artifacts can be kept: a directory of this machine, or a bucket of an object store."""

from __future__ import annotations

from pathlib import Path

from registry.artifacts import ServedArtifacts
from registry.stores.local import LocalArtifacts


def open_store(destination: str) -> ServedArtifacts:
    """The store at a directory, or at an address such as `s3://bucket/prefix`. Nothing is asked of it yet."""
    if "://" not in destination:
        return LocalArtifacts(Path(destination))
    from registry.stores.objects import ObjectArtifacts

    return ObjectArtifacts(destination)
