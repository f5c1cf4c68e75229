"""How rows become models and versions: one statement each, so that every answer is of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Text

from registry.core import ModelVersion, RegisteredModel
from registry.errors import NotFound
from registry.sql.schema import aliases, model_tags, models, state, version_tags, versions

STAGES = ("None", "Staging", "Production", "Archived")

NO_PAIRS = "{}"  # what SQLite makes of no rows

_decode_tags = msgspec.json.Decoder(dict[str, str]).decode
_decode_aliases = msgspec.json.Decoder(dict[str, int]).decode


class json_object(FunctionElement[str]):
    """`{key: value}` of all rows, as text."""

    type = Text()
    inherit_cache = True


@compiles(json_object, "sqlite")
def _on_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_group_object({compiler.process(element.clauses, **options)})"


@compiles(json_object, "postgresql")
def _on_postgresql(element: Any, compiler: Any, **options: Any) -> str:
    return f"CAST(json_object_agg({compiler.process(element.clauses, **options)}) AS TEXT)"


def _latest_of(stage: str) -> ColumnElement[int]:
    newest = (
        select(versions.c.id)
        .where(versions.c.model_id == models.c.id, versions.c.stage == stage)
        .order_by(versions.c.number.desc())
        .limit(1)
    )
    return newest.correlate(models).scalar_subquery().label(f"latest_{stage.lower()}")


_ALIASES_OF_VERSION = (
    select(json_object(aliases.c.alias, versions.c.number))
    .where(aliases.c.version_id == versions.c.id)
    .correlate(versions)
    .scalar_subquery()
)
_TAGS_OF_VERSION = (
    select(json_object(version_tags.c.key, version_tags.c.value))
    .where(version_tags.c.version_id == versions.c.id)
    .correlate(versions)
    .scalar_subquery()
)
_VERSION_COLUMNS = (
    models.c.name,
    versions.c.number,
    versions.c.created_at,
    versions.c.updated_at,
    versions.c.description,
    versions.c.user_id,
    versions.c.stage,
    versions.c.source,
    versions.c.run_id,
    versions.c.run_link,
    versions.c.status,
    versions.c.status_message,
    versions.c.logged_model_id,
    select(state.c.database_id).where(state.c.id == 1).scalar_subquery().label("registry"),
    _TAGS_OF_VERSION.label("tags"),
)

# Search results, and the versions inside a registered model, come without their aliases, as in MLflow.
SELECT_PLAIN_VERSION = select(*_VERSION_COLUMNS).join_from(versions, models)
SELECT_VERSION = SELECT_PLAIN_VERSION.add_columns(_ALIASES_OF_VERSION.label("aliases"))

SELECT_MODEL = select(
    models.c.id,
    models.c.name,
    models.c.created_at,
    models.c.updated_at,
    models.c.description,
    select(json_object(model_tags.c.key, model_tags.c.value))
    .where(model_tags.c.model_id == models.c.id)
    .correlate(models)
    .scalar_subquery()
    .label("tags"),
    select(json_object(aliases.c.alias, versions.c.number))
    .where(aliases.c.model_id == models.c.id, versions.c.id == aliases.c.version_id)
    .correlate(models)
    .scalar_subquery()
    .label("aliases"),
    *(_latest_of(stage) for stage in STAGES),
)

_VERSION_BY_NUMBER = SELECT_VERSION.where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
_MODEL_BY_NAME = SELECT_MODEL.where(models.c.name == bindparam("name"))
_MODEL_ID = select(models.c.id, models.c.last_version).where(models.c.name == bindparam("name"))
_VERSION_ID = (
    select(versions.c.id, versions.c.model_id, versions.c.stage)
    .join_from(versions, models)
    .where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
)
_BY_IDS = versions.c.id.in_(bindparam("ids", expanding=True))
_PLAIN_BY_IDS = SELECT_PLAIN_VERSION.add_columns(versions.c.id).where(_BY_IDS)
_FULL_BY_IDS = SELECT_VERSION.add_columns(versions.c.id).where(_BY_IDS)


def as_version(row: Sequence[Any]) -> ModelVersion:
    """A row of `SELECT_PLAIN_VERSION` or `SELECT_VERSION`, whose columns come first."""
    name, number, created_at, updated_at, description, user_id, stage, source = row[:8]
    run_id, run_link, status, status_message, logged_model_id, registry, tags = row[8:15]
    its_aliases = row[15] if len(row) > 15 and isinstance(row[15], str) else None
    return ModelVersion(
        name=name,
        version=str(number),
        creation_timestamp=created_at,
        last_updated_timestamp=updated_at,
        description=description,
        user_id=user_id,
        current_stage=stage,
        source=source,
        run_id=run_id,
        run_link=run_link,
        status=status,
        status_message=status_message,
        tags=_decode_tags(tags) if tags and tags != NO_PAIRS else {},
        aliases=sorted(_decode_aliases(its_aliases)) if its_aliases else [],
        model_id=logged_model_id,
        registry=registry,
    )


def as_models(connection: Connection, rows: Sequence[Sequence[Any]]) -> list[RegisteredModel]:
    """Rows of `SELECT_MODEL`, each with the newest version of every stage."""
    found = versions_by_id(connection, (each for row in rows for each in row[7:] if each is not None))
    return [_as_model(row, [found[each] for each in row[7:] if each in found]) for row in rows]


def _as_model(row: Sequence[Any], newest: list[ModelVersion]) -> RegisteredModel:
    """What is not there is not worked on: a search makes a thousand of these."""
    _, name, created_at, updated_at, description, tags, its_aliases = row[:7]
    return RegisteredModel(
        name=name,
        creation_timestamp=created_at,
        last_updated_timestamp=updated_at,
        description=description,
        latest_versions=in_order(newest) if len(newest) > 1 else newest,
        tags=_decode_tags(tags) if tags and tags != NO_PAIRS else {},
        aliases={alias: str(number) for alias, number in sorted(_decode_aliases(its_aliases).items())}
        if its_aliases and its_aliases != NO_PAIRS
        else {},
    )


def in_order(found: Iterable[ModelVersion]) -> list[ModelVersion]:
    """By number, as MLflow lists the newest of each stage."""
    return sorted(found, key=lambda each: int(each.version))


def versions_by_id(
    connection: Connection, ids: Iterable[int], *, with_aliases: bool = False
) -> dict[int, ModelVersion]:
    wanted = list(ids)
    if not wanted:
        return {}
    found = connection.execute(_FULL_BY_IDS if with_aliases else _PLAIN_BY_IDS, {"ids": wanted})
    return {row[-1]: as_version(row) for row in found.all()}


def read_model(connection: Connection, name: str) -> RegisteredModel:
    rows = connection.execute(_MODEL_BY_NAME, {"name": name}).all()
    if not rows:
        raise no_such_model(name)
    return as_models(connection, rows)[0]


def read_version(connection: Connection, name: str, number: int) -> ModelVersion:
    row = connection.execute(_VERSION_BY_NUMBER, {"name": name, "number": number}).one_or_none()
    if row is None:
        raise no_such_version(connection, name, number)
    return as_version(row)


class FoundModel(NamedTuple):
    id: int
    last_version: int


class FoundVersion(NamedTuple):
    id: int
    model_id: int
    stage: str


def find_model(connection: Connection, name: str) -> FoundModel:
    row = connection.execute(_MODEL_ID, {"name": name}).one_or_none()
    if row is None:
        raise no_such_model(name)
    return FoundModel(*row)


def find_version(connection: Connection, name: str, number: int) -> FoundVersion:
    row = connection.execute(_VERSION_ID, {"name": name, "number": number}).one_or_none()
    if row is None:
        raise no_such_version(connection, name, number)
    return FoundVersion(*row)


def no_such_model(name: str) -> NotFound:
    return NotFound(f"Registered Model with name={name} not found")


def no_such_version(connection: Connection, name: str, number: int) -> NotFound:
    """Says which versions there are, since a wrong number is mostly a slip."""
    counted = select(func.count(), func.max(versions.c.number)).join_from(versions, models)
    count, newest = connection.execute(counted.where(models.c.name == name)).one()
    has = "it has none" if not count else f"its newest of {count} is {newest}"
    return NotFound(f"Model Version (name={name}, version={number}) not found: {has}")
