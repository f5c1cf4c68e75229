"""Which files of the artifact store belong to a registered version, and so never change, and to which."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, exists, or_, select

from registry.artifacts import check_path
from registry.core import ModelVersion
from registry.sql.database import Database
from registry.sql.locations import ARTIFACTS
from registry.sql.prepared import Prepared
from registry.sql.rows import SELECT_VERSION, as_full_version
from registry.sql.schema import OWN_LOCATION, versions

_AT_OR_ABOVE = exists().where(OWN_LOCATION, versions.c.location.in_(bindparam("places", expanding=True)))
_BELOW = exists().where(
    OWN_LOCATION, versions.c.location >= bindparam("first"), versions.c.location < bindparam("after")
)
_PROTECTED = select(or_(_AT_OR_ABOVE, _BELOW))
_VERSIONS_AT = Prepared(
    SELECT_VERSION.where(OWN_LOCATION, versions.c.location == bindparam("place"))
    .order_by(versions.c.id.desc())
    .limit(bindparam("most"))
)


def is_protected(connection: Connection, path: str) -> bool:
    """Whether a version's files lie at the path, above it or below it."""
    parts = check_path(path).split("/")
    places = [ARTIFACTS + "/".join(parts[: count + 1]) for count in range(len(parts))]
    # "0" comes right after "/" in the order of bytes.
    between = {"first": f"{ARTIFACTS}{path}/", "after": f"{ARTIFACTS}{path}0"}
    return bool(connection.execute(_PROTECTED, {"places": places, **between}).scalar())


def find_versions_at(database: Database, path: str, most: int) -> list[ModelVersion]:
    """The versions whose files lie at exactly that path, newest first."""
    rows = database.rows(_VERSIONS_AT, place=f"{ARTIFACTS}{check_path(path)}", most=most)
    return [as_full_version(row) for row in rows]
