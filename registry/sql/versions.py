"""Model versions: add, copy, describe, move between stages, tag, delete. Functions on a connection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from registry.artifacts import Manifest
from registry.core import ModelVersion
from registry.errors import InvalidParameter, NotFound
from registry.names import DIGEST_TAG, MAX_TAGS, shown
from registry.sql.aliases import delete_aliases_of_version
from registry.sql.database import Transaction
from registry.sql.logged_models import note_version
from registry.sql.manifests import add_manifest, delete_unused_manifests, read_manifest
from registry.sql.models import add_model, has_model, touch_model
from registry.sql.prepared import Prepared
from registry.sql.rows import (
    IS_NEWEST,
    SELECT_VERSION,
    STAGES,
    as_full_version,
    find_model,
    find_version,
    no_such_version,
    read_model,
    read_version,
)
from registry.sql.schema import models, version_tags, versions
from registry.sql.sources import PROMPT_SOURCE, Origin, concrete_uri, resolve_source
from registry.uri import ModelUri

IS_PROMPT_TAG = "mlflow.prompt.is_prompt"

PLACE = Prepared(
    select(versions.c.location, versions.c.digest)
    .join_from(versions, models)
    .where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
)
_TAKE_NUMBER = (
    update(models)
    .where(models.c.id == bindparam("this"))
    .values(last_version=models.c.last_version + 1, updated_at=bindparam("now"))
)
_INSERT = insert(versions)
_INSERT_TAG = insert(version_tags)


def add_version(
    transaction: Transaction,
    name: str,
    origin: Origin,
    tags: Mapping[str, str],
    run_link: str | None,
    description: str | None,
) -> ModelVersion:
    """Insert a model's next version; numbers are dense and never used again."""
    connection = transaction.connection
    model = find_model(connection, name)
    number = model.last_version + 1
    connection.execute(_TAKE_NUMBER, {"this": model.id, "now": transaction.now})
    digest = add_manifest(connection, origin.manifest) if origin.manifest is not None else None
    row = {
        "model_id": model.id,
        "number": number,
        "created_at": transaction.now,
        "updated_at": transaction.now,
        "description": description or "",
        "user_id": transaction.actor,
        "stage": "None",
        "source": origin.source,
        "location": origin.location,
        "run_id": origin.run_id or None,
        "run_link": run_link or "",
        "status": "READY",
        "logged_model_id": origin.model_id,
        "digest": digest,
    }
    (version_id,) = connection.execute(_INSERT, row).inserted_primary_key or (0,)
    _add_tags(connection, version_id, dict(tags) | ({DIGEST_TAG: digest} if digest else {}))
    if origin.model_id and origin.prefix is not None:  # not for a copy of a version
        note_version(connection, origin.model_id, name, number)
    transaction.record("version", name, action="created", version=str(number))
    return read_version(connection, name, number)


def copy_version(transaction: Transaction, uri: ModelUri, dst_name: str) -> ModelVersion:
    """Add a version that shares the files of another one, and make its model when there is none."""
    connection = transaction.connection
    concrete = concrete_uri(connection, uri)
    assert concrete.name is not None
    assert concrete.version is not None
    source = read_version(connection, concrete.name, concrete.version)
    origin = resolve_source(connection, str(concrete), None, None, ())
    if not has_model(connection, dst_name):
        add_model(transaction, dst_name, {}, None)
    tags = {key: value for key, value in source.tags.items() if key != DIGEST_TAG}
    return add_version(transaction, dst_name, origin, tags, source.run_link, source.description)


def check_is_prompt(connection: Connection, name: str) -> None:
    """Only a prompt's version has no files."""
    if IS_PROMPT_TAG not in read_model(connection, name).tags:
        raise InvalidParameter(f"source {shown(PROMPT_SOURCE)} is a local path, and model {shown(name)} is no prompt")


def describe_version(transaction: Transaction, name: str, number: int, description: str | None) -> ModelVersion:
    version = find_version(transaction.connection, name, number)
    changed = {"description": description, "updated_at": transaction.now}
    transaction.connection.execute(update(versions).where(versions.c.id == version.id).values(changed))
    transaction.record("version", name, action="updated", version=str(number))
    return read_version(transaction.connection, name, number)


def delete_version(transaction: Transaction, name: str, number: int) -> None:
    """Delete a version, and the aliases on it; the database deletes its tags along with it."""
    connection = transaction.connection
    version = find_version(connection, name, number)
    digest = connection.execute(select(versions.c.digest).where(versions.c.id == version.id)).scalar()
    delete_aliases_of_version(transaction, name, version.model_id, version.id, number)
    connection.execute(delete(versions).where(versions.c.id == version.id))
    touch_model(transaction, version.model_id)
    delete_unused_manifests(connection, [digest])
    transaction.record("version", name, action="deleted", version=str(number))


def read_location(connection: Connection, name: str, number: int) -> str:
    """Where a version's files lie, as resolved when it was made."""
    location, _ = _place(connection, name, number)
    return str(location)


def read_version_manifest(connection: Connection, name: str, number: int) -> Manifest | None:
    _, digest = _place(connection, name, number)
    return None if digest is None else read_manifest(connection, digest)


def read_newest_of_stages(connection: Connection, name: str, stages: Sequence[str]) -> list[ModelVersion]:
    """The newest version of each stage, with its aliases; no stages means all."""
    newest = SELECT_VERSION.where(models.c.name == name, IS_NEWEST, versions.c.stage.in_(stages or STAGES))
    rows = connection.execute(newest.order_by(versions.c.number)).all()
    if not rows:
        find_model(connection, name)
    return [as_full_version(row) for row in rows]


def move_to_stage(transaction: Transaction, name: str, number: int, stage: str, archive_existing: bool) -> ModelVersion:
    connection = transaction.connection
    version = find_version(connection, name, number)
    if archive_existing:
        others = (versions.c.model_id == version.model_id) & (versions.c.stage == stage)
        archived = {"stage": "Archived", "updated_at": transaction.now}
        connection.execute(update(versions).where(others, versions.c.id != version.id).values(archived))
    moved = {"stage": stage, "updated_at": transaction.now}
    connection.execute(update(versions).where(versions.c.id == version.id).values(moved))
    touch_model(transaction, version.model_id)
    transaction.record("version", name, action="moved", version=str(number), stage=stage)
    return read_version(connection, name, number)


def set_version_tag(transaction: Transaction, name: str, where: int | str, key: str, value: str) -> None:
    """Set a tag on the version of a number, or on the newest of a stage."""
    connection = transaction.connection
    version_id, number = _tagged_version(connection, name, where)
    transaction.record("tag", name, action="set", key=key, version=str(number))
    this = (version_tags.c.version_id == version_id) & (version_tags.c.key == key)
    if connection.execute(update(version_tags).where(this).values(value=value)).rowcount:
        return
    count = select(func.count()).select_from(version_tags).where(version_tags.c.version_id == version_id)
    if connection.execute(count).scalar_one() >= MAX_TAGS:
        raise InvalidParameter(f"this version of {shown(name)} has {MAX_TAGS} tags, which is the most")
    _add_tags(connection, version_id, {key: value})


def delete_version_tag(transaction: Transaction, name: str, where: int | str, key: str) -> None:
    version_id, number = _tagged_version(transaction.connection, name, where)
    this = (version_tags.c.version_id == version_id) & (version_tags.c.key == key)
    if transaction.connection.execute(delete(version_tags).where(this)).rowcount:
        transaction.record("tag", name, action="deleted", key=key, version=str(number))


def check_stages(stages: Any) -> list[str]:
    """The stages in a list, in their canonical spelling; none means an empty list."""
    if stages is not None and (isinstance(stages, str | bytes) or not isinstance(stages, Iterable)):
        raise InvalidParameter(f"stages must be a list, such as ['Staging'], got {shown(stages)}")
    return [check_stage(each) for each in stages or ()]


def check_stage(stage: Any) -> str:
    """The canonical spelling of a stage that was given in any case."""
    for each in STAGES:
        if isinstance(stage, str) and stage.lower() == each.lower():
            return each
    raise InvalidParameter(f"invalid stage {shown(stage)}: it must be one of {', '.join(STAGES)}")


def _place(connection: Connection, name: str, number: int) -> Sequence[Any]:
    row = PLACE.first(connection, name=name, number=number)
    if row is None:
        raise no_such_version(connection, name, number)
    return row


def _tagged_version(connection: Connection, name: str, where: int | str) -> tuple[int, int]:
    """The version's id, and its number."""
    if isinstance(where, int):
        return int(find_version(connection, name, where).id), where
    newest = read_newest_of_stages(connection, name, [where])
    if not newest:
        raise NotFound(f"model {shown(name)} has no version in stage {where}")
    number = int(newest[0].version)
    return int(find_version(connection, name, number).id), number


def _add_tags(connection: Connection, version_id: int, tags: Mapping[str, str]) -> None:
    rows = [{"version_id": version_id, "key": key, "value": value} for key, value in tags.items()]
    if rows:
        connection.execute(_INSERT_TAG, rows)
