"""Where this registry's artifacts lie: what its database recorded, or a folder beside the SQLite file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, select, update

from registry.errors import InvalidParameter
from registry.names import shown
from registry.sql.database import Database, Transaction
from registry.sql.prepared import Prepared
from registry.sql.schema import logged_models, state
from registry.sql.schema_tracking import runs

DEFAULT_FOLDER = "artifacts"

_DESTINATION = Prepared(select(state.c.artifacts_destination))

_BUCKET = re.compile(r"(s3|s3a|gs|az|azure|adl|abfs|abfss|https)://([A-Za-z0-9][\w.@-]*)((?:/[\w.+=-]+)*)/*", re.ASCII)


def record_destination(database: Database, given: str, beside: Path | None) -> None:
    """Keep *given* as the artifact root of this registry, for whoever opens it later.

    A path below the SQLite file's folder (*beside*) is kept relative to it, so that the whole can be moved.
    Raises `InvalidParameter` when files lie at another root already.
    """
    wanted = parse_destination(given)
    recorded = _read_destination(database)
    current = _absolute(recorded, beside)
    if current == wanted and recorded is not None:
        return
    if current != wanted and current is not None and database.read(_has_files):
        raise InvalidParameter(f"this registry keeps its artifacts at {current}, not at {wanted}: leave the option out")
    kept = wanted
    if beside is not None and "://" not in wanted and beside in Path(wanted).parents:
        kept = str(Path(wanted).relative_to(beside))
    database.write(_write_destination, kept)


def find_destination(database: Database, beside: Path | None) -> str:
    """The artifact root, an absolute path or an address.

    Raises `InvalidParameter` when none was ever given and there is no default.
    """
    found = _absolute(_read_destination(database), beside)
    if found is None:
        raise InvalidParameter(
            f"the registry at {database.uri} has no place for artifacts yet: open it once with "
            "--artifacts-destination DIRECTORY, or connect(..., artifacts_destination=DIRECTORY)"
        )
    return found


def parse_destination(given: str) -> str:
    """An absolute path, given as a path or as a file: address, or the address of a place in an object store.

    An address never has credentials in it: it is kept in the database and shown to people.
    """
    if given.startswith("file:"):
        parts = urlsplit(given)
        if parts.netloc not in {"", "localhost"}:
            raise InvalidParameter(f"artifacts destination {shown(given)} names another host")
        return str(Path(unquote(parts.path)).absolute())
    if "://" in given:
        return _parse_address(given)
    if not given.strip() or "\0" in given:
        raise InvalidParameter(f"artifacts destination {shown(given)} is no directory of this machine")
    return str(Path(given).absolute())


def _parse_address(given: str) -> str:
    scheme, _, rest = given.partition("://")
    address = f"{scheme.lower()}://{rest}"
    # What is refused is not repeated: a key may be in it.
    if "@" in rest and not scheme.lower().startswith("abfs"):
        raise InvalidParameter(
            "an artifacts destination has no '@' or password in it: give credentials in the variables of the "
            "environment that the object store's own tools read, such as AWS_ACCESS_KEY_ID"
        )
    found = _BUCKET.fullmatch(address)
    if found is None or not {".", ".."}.isdisjoint(found[3].split("/")):
        raise InvalidParameter(
            f"artifacts destination {scheme[:20]}://… cannot be used: give a directory, s3://bucket/prefix, "
            "gs://bucket/prefix, az://container/prefix or abfss://container@account.dfs.core.windows.net/prefix"
        )
    return f"{found[1]}://{found[2]}{found[3]}"


def _absolute(recorded: str | None, beside: Path | None) -> str | None:
    if recorded is not None and "://" in recorded:
        return recorded
    if beside is not None:
        return str(beside / (recorded or DEFAULT_FOLDER))
    return recorded


def _read_destination(database: Database) -> str | None:
    ((found,),) = database.rows(_DESTINATION)
    destination: str | None = found
    return destination


def _write_destination(transaction: Transaction, kept: str) -> None:
    transaction.connection.execute(update(state).values(artifacts_destination=kept))


def _has_files(connection: Connection) -> bool:
    """Whether something was made that knows its place in the root already."""
    return any(connection.execute(select(each).limit(1)).first() for each in (logged_models.c.model_id, runs.c.run_id))
