"""Experiments: make, read, rename, hide and bring back, tag. Functions on a connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from registry.errors import AlreadyExists, InvalidParameter, NotFound
from registry.names import shown
from registry.sql.database import Transaction
from registry.sql.rows import json_object
from registry.sql.schema_tracking import experiment_tags, experiments, runs
from registry.tracking import ACTIVE, DELETED, Experiment

_decode_tags = msgspec.json.Decoder(dict[str, str]).decode

SELECT_EXPERIMENT = select(
    experiments.c.id,
    experiments.c.name,
    experiments.c.artifact_location,
    experiments.c.lifecycle_stage,
    experiments.c.created_at,
    experiments.c.updated_at,
    select(json_object(experiment_tags.c.key, experiment_tags.c.value))
    .where(experiment_tags.c.experiment_id == experiments.c.id)
    .correlate(experiments)
    .scalar_subquery()
    .label("tags"),
)
_BY_ID = SELECT_EXPERIMENT.where(experiments.c.id == bindparam("id"))
_BY_NAME = SELECT_EXPERIMENT.where(experiments.c.name == bindparam("name"))
_SET_TAG = text(
    "INSERT INTO turnout_experiment_tags (experiment_id, key, value) VALUES (:experiment_id, :key, :value) "
    "ON CONFLICT (experiment_id, key) DO UPDATE SET value = excluded.value"
)


def as_experiment(row: Sequence[Any]) -> Experiment:
    """A row of `SELECT_EXPERIMENT`."""
    number, name, location, stage, created_at, updated_at, tags = row[:7]
    return Experiment(str(number), name, location, stage, created_at, updated_at, _decode_tags(tags) if tags else {})


def create_experiment(transaction: Transaction, name: str, location: str | None, tags: Mapping[str, str]) -> str:
    """Insert one and give its id. Where it lies follows from that id, unless a location is given."""
    connection = transaction.connection
    _refuse_taken(connection, name)
    row = {
        "name": name,
        "artifact_location": location or "",
        "lifecycle_stage": ACTIVE,
        "created_at": transaction.now,
        "updated_at": transaction.now,
    }
    try:
        (number,) = connection.execute(insert(experiments), row).inserted_primary_key or (0,)
    except IntegrityError:  # another process made it meanwhile
        raise _taken(name) from None
    if location is None:
        this = update(experiments).where(experiments.c.id == number)
        connection.execute(this.values(artifact_location=f"mlflow-artifacts:/{number}"))
    if tags:
        rows = [{"experiment_id": number, "key": key, "value": value} for key, value in tags.items()]
        connection.execute(insert(experiment_tags), rows)
    return str(number)


def read_experiment(connection: Connection, experiment_id: int) -> Experiment:
    row = connection.execute(_BY_ID, {"id": experiment_id}).one_or_none()
    if row is None:
        raise NotFound(f"No Experiment with id={experiment_id} exists")
    return as_experiment(row)


def read_experiment_by_name(connection: Connection, name: str) -> Experiment:
    row = connection.execute(_BY_NAME, {"name": name}).one_or_none()
    if row is None:
        raise NotFound(f"Could not find experiment with name {shown(name)}")
    return as_experiment(row)


def read_active_experiment(connection: Connection, experiment_id: int) -> Experiment:
    """One into which something can be written."""
    found = read_experiment(connection, experiment_id)
    if found.lifecycle_stage != ACTIVE:
        raise InvalidParameter(
            f"The experiment {experiment_id} must be in the 'active' state. "
            f"Current state is {found.lifecycle_stage}: restore it first."
        )
    return found


def rename_experiment(transaction: Transaction, experiment_id: int, new_name: str) -> None:
    found = read_active_experiment(transaction.connection, experiment_id)
    if found.name != new_name:
        _refuse_taken(transaction.connection, new_name)
    this = update(experiments).where(experiments.c.id == experiment_id)
    try:
        transaction.connection.execute(this.values(name=new_name, updated_at=transaction.now))
    except IntegrityError:
        raise _taken(new_name) from None


def move_experiment(transaction: Transaction, experiment_id: int, stage: str) -> None:
    """Delete it with its runs, or bring all of them back."""
    found = read_experiment(transaction.connection, experiment_id)
    if found.lifecycle_stage == stage:
        what = "deleted" if stage == ACTIVE else "active"
        raise NotFound(f"No {what} Experiment with id={experiment_id} exists: it is {found.lifecycle_stage}")
    this = update(experiments).where(experiments.c.id == experiment_id)
    transaction.connection.execute(this.values(lifecycle_stage=stage, updated_at=transaction.now))
    transaction.connection.execute(
        update(runs).where(runs.c.experiment_id == experiment_id).values(lifecycle_stage=stage)
    )


def set_experiment_tag(transaction: Transaction, experiment_id: int, key: str, value: str) -> None:
    read_active_experiment(transaction.connection, experiment_id)
    transaction.connection.execute(_SET_TAG, {"experiment_id": experiment_id, "key": key, "value": value})


def delete_experiment_tag(transaction: Transaction, experiment_id: int, key: str) -> None:
    read_active_experiment(transaction.connection, experiment_id)
    this = (experiment_tags.c.experiment_id == experiment_id) & (experiment_tags.c.key == key)
    if not transaction.connection.execute(delete(experiment_tags).where(this)).rowcount:
        raise NotFound(f"No tag with name: {key} in experiment with id {experiment_id}")


def _refuse_taken(connection: Connection, name: str) -> None:
    row = connection.execute(_BY_NAME, {"name": name}).one_or_none()
    if row is not None:
        raise _taken(name, row.lifecycle_stage)


def _taken(name: str, stage: str = ACTIVE) -> AlreadyExists:
    advice = ": it is deleted; restore it, or take another name" if stage == DELETED else ""
    return AlreadyExists(f"Experiment(name={name}) already exists{advice}.")
