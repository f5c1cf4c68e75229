"""What a run read and made: datasets, and logged models."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, select, text

from registry.errors import NotFound
from registry.sql.metrics import chunks
from registry.sql.schema import logged_models
from registry.sql.schema_tracking import run_datasets, run_models
from registry.tracking import DatasetInput, ModelLink

DATASET_CONTEXT_TAG = "mlflow.data.context"
INPUT = "input"
OUTPUT = "output"

_decode_texts = msgspec.json.Decoder(dict[str, str]).decode

_DATASETS = (
    select(run_datasets)
    .where(run_datasets.c.run_id.in_(bindparam("ids", expanding=True)))
    .order_by(run_datasets.c.run_id, run_datasets.c.id)
)
_LINKS = (
    select(run_models)
    .where(run_models.c.run_id.in_(bindparam("ids", expanding=True)))
    .order_by(run_models.c.run_id, run_models.c.step, run_models.c.model_id)
)
_ADD_DATASET = text(
    "INSERT INTO turnout_run_datasets "
    "(run_id, name, digest, source_type, source, schema, profile, context, tags) "
    "VALUES (:run_id, :name, :digest, :source_type, :source, :schema, :profile, :context, :tags) "
    "ON CONFLICT DO NOTHING"
)
_ADD_LINK = text(
    "INSERT INTO turnout_run_models (run_id, direction, model_id, step) "
    "VALUES (:run_id, :direction, :model_id, :step) "
    "ON CONFLICT (run_id, direction, model_id) DO UPDATE SET step = excluded.step"
)


def add_datasets(connection: Connection, run_id: str, datasets: Sequence[DatasetInput]) -> None:
    """Keep what the run read. A dataset of the same name and digest is kept once, as it first came."""
    connection.execute(_ADD_DATASET, [_dataset_row(run_id, each) for each in datasets])


def add_links(connection: Connection, run_id: str, direction: str, models: Sequence[ModelLink]) -> None:
    """Keep which logged models the run read (`INPUT`) or made (`OUTPUT`). Raises `NotFound` for an unknown one."""
    known = select(logged_models.c.model_id).where(logged_models.c.model_id.in_([each.model_id for each in models]))
    if unknown := {each.model_id for each in models} - set(connection.execute(known).scalars()):
        raise NotFound(f"Logged model with ID '{min(unknown)}' not found.")
    rows = {each.model_id: each for each in models}
    connection.execute(
        _ADD_LINK,
        [
            {"run_id": run_id, "direction": direction, "model_id": model_id, "step": rows[model_id].step}
            for model_id in sorted(rows)
        ],
    )


def _dataset_row(run_id: str, dataset: DatasetInput) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "name": dataset.name,
        "digest": dataset.digest,
        "source_type": dataset.source_type,
        "source": dataset.source,
        "schema": dataset.schema,
        "profile": dataset.profile,
        "context": dataset.tags.get(DATASET_CONTEXT_TAG),
        "tags": json.dumps(dict(dataset.tags)),
    }


def read_datasets(connection: Connection, run_ids: Sequence[str]) -> dict[str, list[DatasetInput]]:
    found: dict[str, list[DatasetInput]] = defaultdict(list)
    for ids in chunks(run_ids):
        for row in connection.execute(_DATASETS, {"ids": ids}):
            found[row.run_id].append(
                DatasetInput(
                    name=row.name,
                    digest=row.digest,
                    source_type=row.source_type,
                    source=row.source,
                    schema=row.schema,
                    profile=row.profile,
                    tags=_decode_texts(row.tags),
                )
            )
    return found


def read_links(connection: Connection, run_ids: Sequence[str]) -> dict[tuple[str, str], list[ModelLink]]:
    found: dict[tuple[str, str], list[ModelLink]] = defaultdict(list)
    for ids in chunks(run_ids):
        for row in connection.execute(_LINKS, {"ids": ids}):
            found[row.run_id, row.direction].append(ModelLink(row.model_id, row.step))
    return found
