"""The tables of experiments, runs and what was logged to them; `schema` has the registry's own."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Table, Text, UniqueConstraint

from registry.sql.schema import Id, Name, metadata

experiments = Table(
    "turnout_experiments",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", Name, nullable=False, unique=True),
    Column("artifact_location", Text, nullable=False),
    Column("lifecycle_stage", Name, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

experiment_tags = Table(
    "turnout_experiment_tags",
    metadata,
    Column("experiment_id", Id, ForeignKey("turnout_experiments.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

runs = Table(
    "turnout_runs",
    metadata,
    Column("run_id", Name, primary_key=True),
    Column("experiment_id", Id, ForeignKey("turnout_experiments.id"), nullable=False),
    Column("name", Name, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("status", Name, nullable=False),
    Column("start_time", BigInteger),
    Column("end_time", BigInteger),
    Column("artifact_uri", Text, nullable=False),
    Column("lifecycle_stage", Name, nullable=False),
    Index("turnout_runs_experiment", "experiment_id", "start_time"),
)

run_tags = Table(
    "turnout_run_tags",
    metadata,
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

params = Table(
    "turnout_params",
    metadata,
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

metrics = Table(
    "turnout_metrics",
    metadata,
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("timestamp", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Float(53), primary_key=True),
    Column("is_nan", Boolean, primary_key=True),
    sqlite_with_rowid=False,
    comment="Every value that was measured, in the order of its history; the same one again is no other row.",
)

latest_metrics = Table(
    "turnout_latest_metrics",
    metadata,
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Float(53), nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

run_datasets = Table(
    "turnout_run_datasets",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), nullable=False),
    Column("name", Name, nullable=False),
    Column("digest", Name, nullable=False),
    Column("source_type", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("schema", Text),
    Column("profile", Text),
    Column("context", Name),
    Column("tags", Text, nullable=False),
    UniqueConstraint("run_id", "name", "digest", name="turnout_run_datasets_of_run"),
    comment="Datasets that a run read; `tags` is a JSON object, and `context` what it says of the purpose.",
)

run_models = Table(
    "turnout_run_models",
    metadata,
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("direction", Name, primary_key=True),
    Column("model_id", Name, primary_key=True),
    Column("step", BigInteger, nullable=False),
    comment="Logged models that a run read (`input`) or made (`output`).",
)

logged_model_params = Table(
    "turnout_logged_model_params",
    metadata,
    Column("model_id", Name, ForeignKey("turnout_logged_models.model_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("value", Name, nullable=False),
)

logged_model_metrics = Table(
    "turnout_logged_model_metrics",
    metadata,
    Column("model_id", Name, ForeignKey("turnout_logged_models.model_id", ondelete="CASCADE"), primary_key=True),
    Column("key", Name, primary_key=True),
    Column("timestamp", BigInteger, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", Name, ForeignKey("turnout_runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("value", Float(53), nullable=False),
    Column("is_nan", Boolean, nullable=False),
    Column("dataset_name", Name),
    Column("dataset_digest", Name),
    Index("turnout_logged_model_metrics_run", "run_id"),
)
