"""How rows become models and versions: one statement each, so that every answer is of one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Text

from registry.core import ModelVersion, RegisteredModel
from registry.errors import NotFound
from registry.sql.prepared import Prepared
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


def _newest_of(stage: str) -> ColumnElement[int]:
    others = versions.alias("others")
    newest = (
        select(others.c.id)
        .where(others.c.model_id == models.c.id, others.c.stage == stage)
        .order_by(others.c.number.desc())
        .limit(1)
    )
    return newest.correlate(models).scalar_subquery()


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

_PLAIN = len(_VERSION_COLUMNS)

# Search results, and the versions inside a registered model, come without their aliases, as in MLflow.
SELECT_PLAIN_VERSION = select(*_VERSION_COLUMNS).join_from(versions, models)
SELECT_VERSION = SELECT_PLAIN_VERSION.add_columns(_ALIASES_OF_VERSION.label("aliases"))

_pointed_at = versions.alias("pointed_at")
IS_NEWEST = versions.c.id.in_([_newest_of(stage) for stage in STAGES])

# A model without versions has one row, any other has one for the newest version of each of its stages.
SELECT_MODEL = select(
    *_VERSION_COLUMNS,
    models.c.id,
    models.c.created_at,
    models.c.updated_at,
    models.c.description,
    select(json_object(model_tags.c.key, model_tags.c.value))
    .where(model_tags.c.model_id == models.c.id)
    .correlate(models)
    .scalar_subquery()
    .label("model_tags"),
    select(json_object(aliases.c.alias, _pointed_at.c.number))
    .where(aliases.c.model_id == models.c.id, _pointed_at.c.id == aliases.c.version_id)
    .correlate(models)
    .scalar_subquery()
    .label("model_aliases"),
).select_from(models.outerjoin(versions, IS_NEWEST))

VERSION_BY_NUMBER = Prepared(
    SELECT_VERSION.where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
)
MODEL_BY_NAME = Prepared(SELECT_MODEL.where(models.c.name == bindparam("name")).order_by(versions.c.number))
_MODEL_ID = Prepared(select(models.c.id, models.c.last_version).where(models.c.name == bindparam("name")))
_VERSION_ID = Prepared(
    select(versions.c.id, versions.c.model_id, versions.c.stage)
    .join_from(versions, models)
    .where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
)


def as_version(row: Sequence[Any], its_aliases: str | None = None) -> ModelVersion:
    """A row that begins with the columns of `SELECT_PLAIN_VERSION`; its aliases as JSON, if they are wanted."""
    name, number, created_at, updated_at, description, user_id, stage, source = row[:8]
    run_id, run_link, status, status_message, logged_model_id, registry, tags = row[8:_PLAIN]
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


def as_full_version(row: Sequence[Any]) -> ModelVersion:
    """A row of `SELECT_VERSION`."""
    return as_version(row, row[_PLAIN])


def as_models(rows: Iterable[Sequence[Any]]) -> list[RegisteredModel]:
    """Rows of `SELECT_MODEL`, those of one model together and by number, as MLflow lists its newest versions."""
    return [_as_model(list(its_rows)) for _, its_rows in groupby(rows, itemgetter(_PLAIN))]


def _as_model(rows: Sequence[Sequence[Any]]) -> RegisteredModel:
    """What is not there is not worked on: a search makes a thousand of these."""
    name = rows[0][0]
    _, created_at, updated_at, description, tags, its_aliases = rows[0][_PLAIN:]
    return RegisteredModel(
        name=name,
        creation_timestamp=created_at,
        last_updated_timestamp=updated_at,
        description=description,
        latest_versions=[as_version(row) for row in rows if row[1] is not None],
        tags=_decode_tags(tags) if tags and tags != NO_PAIRS else {},
        aliases={alias: str(number) for alias, number in sorted(_decode_aliases(its_aliases).items())}
        if its_aliases and its_aliases != NO_PAIRS
        else {},
    )


def read_model(connection: Connection, name: str) -> RegisteredModel:
    rows = MODEL_BY_NAME.run(connection, name=name)
    if not rows:
        raise no_such_model(name)
    return as_models(rows)[0]


def read_version(connection: Connection, name: str, number: int) -> ModelVersion:
    row = VERSION_BY_NUMBER.first(connection, name=name, number=number)
    if row is None:
        raise no_such_version(connection, name, number)
    return as_full_version(row)


class FoundModel(NamedTuple):
    id: int
    last_version: int


class FoundVersion(NamedTuple):
    id: int
    model_id: int
    stage: str


def find_model(connection: Connection, name: str) -> FoundModel:
    row = _MODEL_ID.first(connection, name=name)
    if row is None:
        raise no_such_model(name)
    return FoundModel(*row)


def find_version(connection: Connection, name: str, number: int) -> FoundVersion:
    row = _VERSION_ID.first(connection, name=name, number=number)
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
