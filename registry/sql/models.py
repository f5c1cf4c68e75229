"""Registered models: create, read, rename, describe, tag, delete. Functions on a connection."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from registry.core import RegisteredModel
from registry.errors import AlreadyExists, InvalidParameter
from registry.names import MAX_TAGS, shown
from registry.sql.database import Transaction
from registry.sql.manifests import delete_unused_manifests
from registry.sql.prepared import Prepared
from registry.sql.rows import find_model, read_model
from registry.sql.schema import model_tags, models, versions

_ID_BY_NAME = Prepared(select(models.c.id).where(models.c.name == bindparam("name")))
_INSERT = insert(models)
_INSERT_TAG = insert(model_tags)


def create_model(
    transaction: Transaction, name: str, tags: Mapping[str, str], description: str | None
) -> RegisteredModel:
    add_model(transaction, name, tags, description)
    return read_model(transaction.connection, name)


def add_model(transaction: Transaction, name: str, tags: Mapping[str, str], description: str | None) -> int:
    """Insert a model and return its id, which is never used for another one."""
    connection = transaction.connection
    if has_model(connection, name):
        raise AlreadyExists(f"Registered Model (name={name}) already exists")
    row = {
        "name": name,
        "description": description,
        "created_at": transaction.now,
        "updated_at": transaction.now,
        "last_version": 0,
    }
    (model_id,) = connection.execute(_INSERT, row).inserted_primary_key or (0,)
    if tags:
        connection.execute(
            _INSERT_TAG, [{"model_id": model_id, "key": key, "value": value} for key, value in tags.items()]
        )
    transaction.record("model", name, action="created")
    return int(model_id)


def has_model(connection: Connection, name: str) -> bool:
    return _ID_BY_NAME.first(connection, name=name) is not None


def rename_model(transaction: Transaction, name: str, new_name: str) -> RegisteredModel:
    """Give a model another name; its versions, tags, aliases and history go with it."""
    connection = transaction.connection
    model_id = find_model(connection, name).id
    if new_name != name and has_model(connection, new_name):
        raise AlreadyExists(f"Registered Model (name={new_name}) already exists")
    renamed = {"name": new_name, "updated_at": transaction.now}
    connection.execute(update(models).where(models.c.id == model_id).values(renamed))
    connection.execute(update(versions).where(versions.c.model_id == model_id).values(updated_at=transaction.now))
    transaction.record("model", name, action="renamed", new_name=new_name)
    return read_model(connection, new_name)


def describe_model(transaction: Transaction, name: str, description: str | None) -> RegisteredModel:
    connection = transaction.connection
    model_id = find_model(connection, name).id
    changed = {"description": description, "updated_at": transaction.now}
    connection.execute(update(models).where(models.c.id == model_id).values(changed))
    transaction.record("model", name, action="updated")
    return read_model(connection, name)


def delete_model(transaction: Transaction, name: str) -> None:
    """Delete a model; the database deletes its versions, tags, aliases and history along with it."""
    connection = transaction.connection
    model_id = find_model(connection, name).id
    digests = select(versions.c.digest).where(versions.c.model_id == model_id, versions.c.digest.is_not(None))
    orphans = list(connection.execute(digests.distinct()).scalars())
    connection.execute(delete(models).where(models.c.id == model_id))
    delete_unused_manifests(connection, orphans)
    transaction.record("model", name, action="deleted")


def set_model_tag(transaction: Transaction, name: str, key: str, value: str) -> None:
    connection = transaction.connection
    transaction.record("tag", name, action="set", key=key)
    model_id = find_model(connection, name).id
    this = (model_tags.c.model_id == model_id) & (model_tags.c.key == key)
    if connection.execute(update(model_tags).where(this).values(value=value)).rowcount:
        return
    count = select(func.count()).select_from(model_tags).where(model_tags.c.model_id == model_id)
    if connection.execute(count).scalar_one() >= MAX_TAGS:
        raise InvalidParameter(f"model {shown(name)} has {MAX_TAGS} tags, which is the most: delete one first")
    connection.execute(_INSERT_TAG, {"model_id": model_id, "key": key, "value": value})


def delete_model_tag(transaction: Transaction, name: str, key: str) -> None:
    connection = transaction.connection
    model_id = find_model(connection, name).id
    this = (model_tags.c.model_id == model_id) & (model_tags.c.key == key)
    if connection.execute(delete(model_tags).where(this)).rowcount:
        transaction.record("tag", name, action="deleted", key=key)


def touch_model(transaction: Transaction, model_id: int) -> None:
    """Move a model's last-updated time: its versions have changed."""
    transaction.connection.execute(update(models).where(models.c.id == model_id).values(updated_at=transaction.now))
