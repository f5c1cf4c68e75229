"""Alembic's entry point. The connection comes from our own code, inside its own transaction."""

from __future__ import annotations

from alembic import context

from registry.sql.schema import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
