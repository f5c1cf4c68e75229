"""Alembic revisions of the registry's tables, run by `registry.sql.migrate`."""
