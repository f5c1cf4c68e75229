"""The schema: what the migrations make is what the code expects."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from registry.connection import connect
from registry.sql import migrate
from registry.sql.schema import SCHEMA_VERSION, VERSION_TABLE, metadata
from registry.sql.sqlite import choose_driver


def test_the_last_revision_is_the_expected_one():
    """`SCHEMA_VERSION` names the newest revision, and there is one line of them."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")

    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA_VERSION]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_migrations_make_the_tables_of_the_code(kind, tmp_path, request):
    """A migrated database has the tables, columns and indexes that the code's metadata has."""
    if kind == "sqlite":
        address = f"sqlite:///{tmp_path}/r.db"
        engine = create_engine(address, module=choose_driver())
    else:
        address = request.getfixturevalue("postgres_url")()
        engine = create_engine(address.replace("postgresql:", "postgresql+psycopg:"))
    connect(address).close()

    with engine.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    engine.dispose()

    assert found == []


def test_tf147_a_migration_that_was_killed_is_done_again(tmp_path):
    """A file left half-made beside its place is nobody's registry, and the next start makes a whole one."""
    (tmp_path / ".r.db.0123456789abcdef.new").write_bytes(b"half")

    with connect(f"sqlite:///{tmp_path}/r.db") as registry:
        assert registry.search_registered_models() == []
