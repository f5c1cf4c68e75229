"""Experiments and runs, the list of changes, webhooks and their deliveries."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Name = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _belongs_to(table: str, column: str) -> sa.ForeignKey:
    return sa.ForeignKey(f"{table}.{column}", ondelete="CASCADE")


def _tags_of(table: str, owner: sa.Column[object]) -> None:
    op.create_table(table, owner, sa.Column("key", Name, primary_key=True), sa.Column("value", Name, nullable=False))


def upgrade() -> None:
    _extend_logged_models()
    _create_experiments()
    _create_runs()
    _create_metrics()
    _create_inputs()
    _create_logged_model_data()
    _index_locations()
    _create_changes()
    _create_webhooks()


def _extend_logged_models() -> None:
    table = "turnout_logged_models"
    op.add_column(table, sa.Column("experiment_id", Id, nullable=False, server_default="0"))
    op.add_column(table, sa.Column("model_type", sa.Text))
    op.add_column(table, sa.Column("status_message", sa.Text))
    op.add_column(table, sa.Column("is_deleted", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("turnout_logged_models_experiment", table, ["experiment_id", "created_at"])
    op.create_index("turnout_logged_models_run", table, ["source_run_id"])


def _create_experiments() -> None:
    experiments = op.create_table(
        "turnout_experiments",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("name", Name, nullable=False, unique=True),
        sa.Column("artifact_location", sa.Text, nullable=False),
        sa.Column("lifecycle_stage", Name, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    now = time.time_ns() // 1_000_000
    default = {
        "id": 0,  # MLflow's clients send experiment "0" without asking whether it is there
        "name": "Default",
        "artifact_location": "mlflow-artifacts:/0",
        "lifecycle_stage": "active",
        "created_at": now,
        "updated_at": now,
    }
    op.bulk_insert(experiments, [default])
    _tags_of(
        "turnout_experiment_tags",
        sa.Column("experiment_id", Id, _belongs_to("turnout_experiments", "id"), primary_key=True),
    )


def _create_runs() -> None:
    op.create_table(
        "turnout_runs",
        sa.Column("run_id", Name, primary_key=True),
        sa.Column("experiment_id", Id, sa.ForeignKey("turnout_experiments.id"), nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("status", Name, nullable=False),
        sa.Column("start_time", sa.BigInteger),
        sa.Column("end_time", sa.BigInteger),
        sa.Column("artifact_uri", sa.Text, nullable=False),
        sa.Column("lifecycle_stage", Name, nullable=False),
    )
    op.create_index("turnout_runs_experiment", "turnout_runs", ["experiment_id", "start_time"])
    for table in ("turnout_run_tags", "turnout_params"):
        _tags_of(table, sa.Column("run_id", Name, _belongs_to("turnout_runs", "run_id"), primary_key=True))


def _create_metrics() -> None:
    op.create_table(
        "turnout_metrics",
        sa.Column("run_id", Name, _belongs_to("turnout_runs", "run_id"), primary_key=True),
        sa.Column("key", Name, primary_key=True),
        sa.Column("timestamp", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Float(53), primary_key=True),
        sa.Column("is_nan", sa.Boolean, primary_key=True),
        sqlite_with_rowid=False,
        comment="Every value that was measured, in the order of its history; the same one again is no other row.",
    )
    op.create_table(
        "turnout_latest_metrics",
        sa.Column("run_id", Name, _belongs_to("turnout_runs", "run_id"), primary_key=True),
        sa.Column("key", Name, primary_key=True),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("is_nan", sa.Boolean, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _create_inputs() -> None:
    op.create_table(
        "turnout_run_datasets",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("run_id", Name, _belongs_to("turnout_runs", "run_id"), nullable=False),
        sa.Column("name", Name, nullable=False),
        sa.Column("digest", Name, nullable=False),
        sa.Column("source_type", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("schema", sa.Text),
        sa.Column("profile", sa.Text),
        sa.Column("context", Name),
        sa.Column("tags", sa.Text, nullable=False),
        sa.UniqueConstraint("run_id", "name", "digest", name="turnout_run_datasets_of_run"),
        comment="Datasets that a run read; `tags` is a JSON object, and `context` what it says of the purpose.",
    )
    op.create_table(
        "turnout_run_models",
        sa.Column("run_id", Name, _belongs_to("turnout_runs", "run_id"), primary_key=True),
        sa.Column("direction", Name, primary_key=True),
        sa.Column("model_id", Name, primary_key=True),
        sa.Column("step", sa.BigInteger, nullable=False),
        comment="Logged models that a run read (`input`) or made (`output`).",
    )


def _create_logged_model_data() -> None:
    table = "turnout_logged_models"
    _tags_of(
        "turnout_logged_model_params",
        sa.Column("model_id", Name, _belongs_to(table, "model_id"), primary_key=True),
    )
    op.create_table(
        "turnout_logged_model_metrics",
        sa.Column("model_id", Name, _belongs_to(table, "model_id"), primary_key=True),
        sa.Column("key", Name, primary_key=True),
        sa.Column("timestamp", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run_id", Name, _belongs_to("turnout_runs", "run_id"), primary_key=True),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("is_nan", sa.Boolean, nullable=False),
        sa.Column("dataset_name", Name),
        sa.Column("dataset_digest", Name),
    )
    op.create_index("turnout_logged_model_metrics_run", "turnout_logged_model_metrics", ["run_id"])


def _index_locations() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("turnout_versions", "location", type_=sa.Text(collation="C"))
    own = sa.text("location LIKE 'mlflow-artifacts:/%'")
    op.create_index(
        "turnout_versions_location", "turnout_versions", ["location"], sqlite_where=own, postgresql_where=own
    )


def _create_changes() -> None:
    op.create_table(
        "turnout_changes",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("nonce", Name, primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("changes", sa.Text, nullable=False),
        comment="One row for each change number of late: `changes` is a JSON list. Old rows are dropped.",
    )
    # Whoever stands at the number of this moment can be told what follows.
    op.execute("INSERT INTO turnout_changes SELECT change_seq, change_nonce, 0, '[]' FROM turnout_state")


def _create_webhooks() -> None:
    op.create_table(
        "turnout_webhooks",
        sa.Column("webhook_id", Name, primary_key=True),
        sa.Column("name", Name, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("events", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("secret", sa.Text),
        sa.Column("status", Name, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        comment="`events` is a JSON list of ENTITY.ACTION.",
    )
    op.create_index("turnout_webhooks_created_at", "turnout_webhooks", ["created_at", "webhook_id"])
    op.create_table(
        "turnout_deliveries",
        sa.Column("id", Id, primary_key=True, autoincrement=True),
        sa.Column("webhook_id", Name, _belongs_to("turnout_webhooks", "webhook_id"), nullable=False),
        sa.Column("delivery_id", Name, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("due_at", sa.BigInteger, nullable=False),
        sa.Column("claimed_until", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
        comment="What webhooks are still to be told. A row goes when it was delivered or given up.",
    )
    op.create_index("turnout_deliveries_due_at", "turnout_deliveries", ["due_at"])
    op.create_index("turnout_deliveries_webhook", "turnout_deliveries", ["webhook_id"])
