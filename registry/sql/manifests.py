"""Manifests in the database: rows of files under their own digest, shared by every version that has it."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, delete, insert, select

from registry.artifacts import FileDigest, Manifest
from registry.sql.schema import manifest_files, versions

_FILES = (
    select(manifest_files.c.path, manifest_files.c.size, manifest_files.c.sha256)
    .where(manifest_files.c.digest == bindparam("digest"))
    .order_by(manifest_files.c.path)
)
_ANY_FILE = select(manifest_files.c.path).where(manifest_files.c.digest == bindparam("digest")).limit(1)


def read_manifest(connection: Connection, digest: str) -> Manifest:
    return Manifest(
        tuple(FileDigest(row.path, row.size, row.sha256) for row in connection.execute(_FILES, {"digest": digest}))
    )


def add_manifest(connection: Connection, manifest: Manifest) -> str:
    """Keep a manifest's rows unless they are kept already; its digest names them."""
    digest = manifest.digest
    if connection.execute(_ANY_FILE, {"digest": digest}).first() is None:
        rows = [
            {"digest": digest, "path": file.path, "size": file.size, "sha256": file.sha256} for file in manifest.files
        ]
        connection.execute(insert(manifest_files), rows)
    return digest


def delete_unused_manifests(connection: Connection, digests: Iterable[str | None]) -> None:
    """Forget those that no version has any more."""
    for digest in digests:
        if digest is None:
            continue
        if connection.execute(select(versions.c.id).where(versions.c.digest == digest).limit(1)).first() is None:
            connection.execute(delete(manifest_files).where(manifest_files.c.digest == digest))
