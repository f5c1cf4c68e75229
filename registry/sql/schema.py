"""The tables, all named `turnout_…` so that they can never be taken for MLflow's."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    literal_column,
)

SCHEMA_VERSION = "0002"
VERSION_TABLE = "turnout_schema_version"

# Byte order and exact comparison on both databases, whatever a PostgreSQL server's locale is.
Name = Text().with_variant(Text(collation="C"), "postgresql")
Id = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

state = Table(
    "turnout_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("database_id", Name, nullable=False),
    Column("change_seq", BigInteger, nullable=False),
    Column("change_nonce", Name, nullable=False),
    Column("artifacts_destination", Text),
    comment="One row. Every change of the registry raises change_seq in its own transaction.",
)

models = Table(
    "turnout_models",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Name, nullable=False, unique=True),
    Column("description", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_version", Integer, nullable=False),
    Index("turnout_models_updated_at", "updated_at", "name"),
    sqlite_autoincrement=True,
)

model_tags = Table(
    "turnout_model_tags",
    metadata,
    Column("model_id", Id, ForeignKey("turnout_models.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

versions = Table(
    "turnout_versions",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("model_id", Id, ForeignKey("turnout_models.id", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("description", Text),
    Column("user_id", Text),
    Column("stage", Name, nullable=False),
    Column("source", Name, nullable=False),
    Column("location", Name, nullable=False),
    Column("run_id", Name),
    Column("run_link", Text),
    Column("status", Name, nullable=False),
    Column("status_message", Text),
    Column("logged_model_id", Name),
    Column("digest", Name),
    UniqueConstraint("model_id", "number", name="turnout_versions_number"),
    Index("turnout_versions_stage", "model_id", "stage", "number"),
    Index("turnout_versions_run_id", "run_id"),
    Index("turnout_versions_updated_at", "updated_at"),
    Index("turnout_versions_digest", "digest"),
    sqlite_autoincrement=True,
)

# What `protection.py` looks for. Addresses elsewhere are left out: PostgreSQL cannot index the longest of them.
OWN_LOCATION = literal_column("location").like(literal_column("'mlflow-artifacts:/%'"))
Index("turnout_versions_location", versions.c.location, sqlite_where=OWN_LOCATION, postgresql_where=OWN_LOCATION)

version_tags = Table(
    "turnout_version_tags",
    metadata,
    Column("version_id", Id, ForeignKey("turnout_versions.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

aliases = Table(
    "turnout_aliases",
    metadata,
    Column("model_id", Id, ForeignKey("turnout_models.id", ondelete="CASCADE"), primary_key=True),
    Column("alias", Name, primary_key=True),
    Column("version_id", Id, ForeignKey("turnout_versions.id"), nullable=False),
    Index("turnout_aliases_version_id", "version_id"),
)

alias_moves = Table(
    "turnout_alias_moves",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("model_id", Id, ForeignKey("turnout_models.id", ondelete="CASCADE"), nullable=False),
    Column("alias", Name, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("by", Text),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("reason", Text),
    Column("rollback_of", Id),
    Index("turnout_alias_moves_alias", "model_id", "alias", "id"),
    sqlite_autoincrement=True,
)

manifest_files = Table(
    "turnout_manifest_files",
    metadata,
    Column("digest", Name, primary_key=True),
    Column("path", Name, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("sha256", Name, nullable=False),
    comment="A manifest is named by its own digest, so copies share its rows.",
)

logged_models = Table(
    "turnout_logged_models",
    metadata,
    Column("model_id", Name, primary_key=True),
    Column("name", Name, nullable=False),
    Column("artifact_uri", Text, nullable=False),
    Column("status", Name, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("source_run_id", Name),
    Column("experiment_id", Id, nullable=False, server_default="0"),
    Column("model_type", Text),
    Column("status_message", Text),
    Column("is_deleted", Boolean, nullable=False, server_default=false()),
    Index("turnout_logged_models_experiment", "experiment_id", "created_at"),
    Index("turnout_logged_models_run", "source_run_id"),
)

logged_model_tags = Table(
    "turnout_logged_model_tags",
    metadata,
    Column("model_id", Name, ForeignKey("turnout_logged_models.model_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

changes = Table(
    "turnout_changes",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("nonce", Name, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("changes", Text, nullable=False),
    comment="One row for each change number of late: `changes` is a JSON list. Old rows are dropped.",
)

webhooks = Table(
    "turnout_webhooks",
    metadata,
    Column("webhook_id", Name, primary_key=True),
    Column("name", Name, nullable=False),
    Column("url", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("description", Text),
    Column("secret", Text),
    Column("status", Name, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("turnout_webhooks_created_at", "created_at", "webhook_id"),
    comment="`events` is a JSON list of ENTITY.ACTION.",
)

deliveries = Table(
    "turnout_deliveries",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("webhook_id", Name, ForeignKey("turnout_webhooks.webhook_id", ondelete="CASCADE"), nullable=False),
    Column("delivery_id", Name, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("claimed_until", BigInteger, nullable=False),
    Index("turnout_deliveries_due_at", "due_at"),
    Index("turnout_deliveries_webhook", "webhook_id"),
    sqlite_autoincrement=True,
    comment="What webhooks are still to be told. A row goes when it was delivered or given up.",
)
