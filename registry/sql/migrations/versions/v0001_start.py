"""The first tables: models, versions, tags, aliases and their history, manifests, logged models."""

from __future__ import annotations

from secrets import token_hex

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _belongs_to(table: str, column: str = "id") -> sa.ForeignKey:
    return sa.ForeignKey(f"{table}.{column}", ondelete="CASCADE")


def upgrade() -> None:
    _create_state()
    _create_models()
    _create_versions()
    _create_aliases()
    _create_files()


def _create_state() -> None:
    state = op.create_table(
        "turnout_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("database_id", Name, nullable=False),
        sa.Column("change_seq", sa.BigInteger, nullable=False),
        sa.Column("change_nonce", Name, nullable=False),
        sa.Column("artifacts_destination", sa.Text),
        comment="One row. Every change of the registry raises change_seq in its own transaction.",
    )
    op.bulk_insert(state, [{"id": 1, "database_id": token_hex(16), "change_seq": 0, "change_nonce": token_hex(4)}])


def _create_models() -> None:
    op.create_table(
        "turnout_models",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("name", Name, nullable=False, unique=True),
        sa.Column("description", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("last_version", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("turnout_models_updated_at", "turnout_models", ["updated_at", "name"])
    op.create_table(
        "turnout_model_tags",
        sa.Column("model_id", Id, _belongs_to("turnout_models"), primary_key=True),
        sa.Column("key", Name, primary_key=True),
        sa.Column("value", Name, nullable=False),
    )


def _create_versions() -> None:
    op.create_table(
        "turnout_versions",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("model_id", Id, _belongs_to("turnout_models"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("user_id", sa.Text),
        sa.Column("stage", Name, nullable=False),
        sa.Column("source", Name, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("run_id", Name),
        sa.Column("run_link", sa.Text),
        sa.Column("status", Name, nullable=False),
        sa.Column("status_message", sa.Text),
        sa.Column("logged_model_id", Name),
        sa.Column("digest", Name),
        sa.UniqueConstraint("model_id", "number", name="turnout_versions_number"),
        sqlite_autoincrement=True,
    )
    op.create_index("turnout_versions_stage", "turnout_versions", ["model_id", "stage", "number"])
    op.create_index("turnout_versions_run_id", "turnout_versions", ["run_id"])
    op.create_index("turnout_versions_updated_at", "turnout_versions", ["updated_at"])
    op.create_index("turnout_versions_digest", "turnout_versions", ["digest"])
    op.create_table(
        "turnout_version_tags",
        sa.Column("version_id", Id, _belongs_to("turnout_versions"), primary_key=True),
        sa.Column("key", Name, primary_key=True),
        sa.Column("value", Name, nullable=False),
    )


def _create_aliases() -> None:
    op.create_table(
        "turnout_aliases",
        sa.Column("model_id", Id, _belongs_to("turnout_models"), primary_key=True),
        sa.Column("alias", Name, primary_key=True),
        sa.Column("version_id", Id, sa.ForeignKey("turnout_versions.id"), nullable=False),
    )
    op.create_index("turnout_aliases_version_id", "turnout_aliases", ["version_id"])
    op.create_table(
        "turnout_alias_moves",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("model_id", Id, _belongs_to("turnout_models"), nullable=False),
        sa.Column("alias", Name, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("by", sa.Text),
        sa.Column("from_version", sa.Integer),
        sa.Column("to_version", sa.Integer),
        sa.Column("reason", sa.Text),
        sa.Column("rollback_of", Id),
        sqlite_autoincrement=True,
    )
    op.create_index("turnout_alias_moves_alias", "turnout_alias_moves", ["model_id", "alias", "id"])


def _create_files() -> None:
    op.create_table(
        "turnout_manifest_files",
        sa.Column("digest", Name, primary_key=True),
        sa.Column("path", Name, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("sha256", Name, nullable=False),
        comment="A manifest is named by its own digest, so copies share its rows.",
    )
    op.create_table(
        "turnout_logged_models",
        sa.Column("model_id", Name, primary_key=True),
        sa.Column("name", Name, nullable=False),
        sa.Column("artifact_uri", sa.Text, nullable=False),
        sa.Column("status", Name, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("source_run_id", Name),
    )
    op.create_table(
        "turnout_logged_model_tags",
        sa.Column("model_id", Name, _belongs_to("turnout_logged_models", "model_id"), primary_key=True),
        sa.Column("key", Name, primary_key=True),
        sa.Column("value", Name, nullable=False),
    )
