"""Brings a database to our schema, and refuses those that are somebody else's or from the future.

An up-to-date database is recognised by one query; Alembic is imported only when there is work for it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from registry.errors import InvalidUri
from registry.sql.schema import SCHEMA_VERSION, VERSION_TABLE

MLFLOW_TABLES = {"alembic_version", "experiments", "registered_models"}
# Any number that no other program is likely to lock.
POSTGRES_LOCK = 0x7475726E6F7574


def is_current(connection: Connection) -> bool:
    """Whether the schema is ours and up to date. Raises `InvalidUri` when the database is not for us."""
    tables = set(inspect(connection).get_table_names())
    if VERSION_TABLE in tables:
        return _found_version(connection) == SCHEMA_VERSION
    if MLFLOW_TABLES & tables:
        raise InvalidUri(
            "this database holds MLflow's own tables and was left untouched: copy its models with "
            "`turnout import mlflow`, or run `mlflow server` on it and use that server's address"
        )
    return False


def migrate(connection: Connection) -> None:
    """Upgrade inside the transaction that *connection* is in; does nothing when another process has."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": POSTGRES_LOCK})
    if is_current(connection):
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if inspect(connection).has_table(VERSION_TABLE):
        found = _found_version(connection)
        if found not in {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}:
            raise InvalidUri(
                f"the registry's schema is version {found}, which is newer than this Turnout's "
                f"{SCHEMA_VERSION}; nothing was changed: upgrade Turnout"
            )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _found_version(connection: Connection) -> str | None:
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()
    return found
