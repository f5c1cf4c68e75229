"""Where this registry's artifacts lie: what its database recorded, or a folder beside the SQLite file."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sqlalchemy import Connection, select, update

from registry.errors import InvalidParameter
from registry.sql.database import Database, Transaction
from registry.sql.schema import logged_models, state

DEFAULT_FOLDER = "artifacts"


def record_destination(database: Database, given: str, beside: Path | None) -> None:
    """Keep *given* as the artifact root of this registry, for whoever opens it later.

    A path below the SQLite file's folder (*beside*) is kept relative to it, so that the whole can be moved.
    Raises `InvalidParameter` when files lie at another root already.
    """
    wanted = parse_destination(given)
    recorded = database.read(_read_destination)
    current = _absolute(recorded, beside)
    if current == wanted and recorded is not None:
        return
    if current != wanted and current is not None and database.read(_has_files):
        raise InvalidParameter(f"this registry keeps its artifacts at {current}, not at {wanted}: leave the option out")
    kept = str(wanted)
    if beside is not None and beside in wanted.parents:
        kept = str(wanted.relative_to(beside))
    database.write(_write_destination, kept)


def find_destination(database: Database, beside: Path | None) -> Path:
    """The artifact root. Raises `InvalidParameter` when none was ever given and there is no default."""
    found = _absolute(database.read(_read_destination), beside)
    if found is None:
        raise InvalidParameter(
            f"the registry at {database.uri} has no place for artifacts yet: open it once with "
            "--artifacts-destination DIRECTORY, or connect(..., artifacts_destination=DIRECTORY)"
        )
    return found


def parse_destination(given: str) -> Path:
    """A directory, given as a path or as a file: address."""
    if given.startswith("file:"):
        parts = urlsplit(given)
        if parts.netloc not in {"", "localhost"}:
            raise InvalidParameter(f"artifacts destination {given!r} names another host")
        return Path(unquote(parts.path)).absolute()
    if "://" in given or not given.strip() or "\0" in given:
        raise InvalidParameter(f"artifacts destination {given!r} is no directory of this machine")
    return Path(given).absolute()


def _absolute(recorded: str | None, beside: Path | None) -> Path | None:
    if beside is not None:
        return beside / (recorded or DEFAULT_FOLDER)
    return None if recorded is None else Path(recorded)


def _read_destination(connection: Connection) -> str | None:
    found: str | None = connection.execute(select(state.c.artifacts_destination)).scalar()
    return found


def _write_destination(transaction: Transaction, kept: str) -> None:
    transaction.connection.execute(update(state).values(artifacts_destination=kept))


def _has_files(connection: Connection) -> bool:
    return connection.execute(select(logged_models.c.model_id).limit(1)).first() is not None
