"""Writes what another registry already has, with its ids, numbers and times: the one way around our own numbering.

Everything may be put again, so that an import can be repeated: what is there already is brought up to date, and what
only this registry has stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, bindparam, insert, select, update

from registry.artifacts import Manifest
from registry.core import ModelVersion, RegisteredModel
from registry.errors import AlreadyExists, Conflict
from registry.names import DIGEST_TAG, check_alias, check_model_name, check_tags, shown
from registry.sql.aliases import delete_alias, set_alias
from registry.sql.database import Database, Transaction
from registry.sql.imported_runs import put_experiment, put_logged_model, put_metrics, put_run
from registry.sql.manifests import add_manifest
from registry.sql.schema import alias_moves, aliases, model_tags, models, version_tags, versions
from registry.tracking import Experiment, LoggedModel, Metric, Run

IMPORTED = "imported"
MUTABLE = ("description", "stage", "status", "status_message", "updated_at")

_MODEL = select(models).where(models.c.name == bindparam("name"))
_VERSION = select(versions).where(
    versions.c.model_id == bindparam("model_id"), versions.c.number == bindparam("number")
)
_POINTS_AT = (
    select(aliases.c.alias, versions.c.number)
    .join_from(aliases, versions, versions.c.id == aliases.c.version_id)
    .where(aliases.c.model_id == bindparam("model_id"))
)
_IMPORTED_MOVES = (
    select(alias_moves.c.alias, alias_moves.c.to_version)
    .where(alias_moves.c.model_id == bindparam("model_id"), alias_moves.c.reason == IMPORTED)
    .order_by(alias_moves.c.id)
)


@dataclass(frozen=True, slots=True)
class ImportedFiles:
    """Where a version's files lie in our store, and what they are; a prompt has no manifest."""

    location: str
    manifest: Manifest | None
    logged_model_id: str | None = None


@dataclass(frozen=True, slots=True)
class ImportedVersion:
    """A version of another registry. Without files it is one that is here already."""

    version: ModelVersion
    files: ImportedFiles | None


class SqlImports:
    """Puts things into one database; each call is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put_experiment(self, experiment: Experiment) -> str:
        """Find the experiment by its birth or its name, or make it, with its own id where that is free.

        Gives its id here.
        """
        return self._database.write(put_experiment, experiment)

    def put_run(self, run: Run) -> None:
        """The run with all but its metrics."""
        self._database.write(put_run, run)

    def put_metrics(self, run_id: str, measured: list[Metric]) -> None:
        """Add to a run's history what is not in it."""
        self._database.write(put_metrics, run_id, measured)

    def put_logged_model(self, model: LoggedModel) -> None:
        """The logged model; of its metrics those whose run is here."""
        self._database.write(put_logged_model, model)

    def put_model(self, model: RegisteredModel, imported: Iterable[ImportedVersion], last_version: int) -> list[str]:
        """The model with its versions and aliases in one change; when nothing differs there is none.

        Numbers up to *last_version* are never given to a version that is made here. An alias follows the other
        registry until somebody moves it here; then it stays. Gives a sentence for each alias that both moved.

        Raises `AlreadyExists` when a version of the same number but of another birth is here.
        """
        check_model_name(model.name)
        check_tags(model.tags)
        for alias in model.aliases:
            check_alias(alias)
        given = list(imported)
        for each in given:
            check_tags(each.version.tags)
        try:
            return self._database.change(_put_model, model, given, last_version)
        except _NothingDiffersError as nothing:
            return nothing.disputes


class _NothingDiffersError(Exception):
    """Undoes the transaction, so that nobody is told of a change that is none."""

    def __init__(self, disputes: list[str]) -> None:
        super().__init__()
        self.disputes = disputes


def _put_model(
    transaction: Transaction, model: RegisteredModel, imported: list[ImportedVersion], last_version: int
) -> list[str]:
    connection = transaction.connection
    model_id = _put_row(transaction, model, last_version)
    if _merge_pairs(connection, model_tags, "model_id", model_id, check_tags(model.tags)):
        transaction.record("model", model.name, action="updated")
    for each in imported:
        _put_version(transaction, model_id, each)
    numbers = {each.version.version for each in imported}
    wanted = {alias: int(number) for alias, number in model.aliases.items() if number in numbers}
    disputes = _put_aliases(transaction, model.name, model_id, wanted, set(model.aliases))
    if not transaction.changes:
        raise _NothingDiffersError(disputes)
    return disputes


def _put_row(transaction: Transaction, model: RegisteredModel, last_version: int) -> int:
    """The model's own row; the newer of two descriptions stays."""
    connection = transaction.connection
    found = connection.execute(_MODEL, {"name": model.name}).one_or_none()
    described = {"description": model.description, "updated_at": model.last_updated_timestamp}
    if found is None:
        row = {"name": model.name, "created_at": model.creation_timestamp, "last_version": last_version, **described}
        transaction.record("model", model.name, action="created")
        (model_id,) = connection.execute(insert(models), row).inserted_primary_key or (0,)
        return int(model_id)
    changed: dict[str, Any] = described if model.last_updated_timestamp > found.updated_at else {}
    if last_version > found.last_version:
        changed["last_version"] = last_version
    if changed:
        transaction.record("model", model.name, action="updated")
        connection.execute(update(models).where(models.c.id == found.id).values(changed))
    return int(found.id)


def _put_version(transaction: Transaction, model_id: int, imported: ImportedVersion) -> None:
    connection, version, number = transaction.connection, imported.version, int(imported.version.version)
    found = connection.execute(_VERSION, {"model_id": model_id, "number": number}).one_or_none()
    if found is None:
        version_id, digest = _add_version(connection, model_id, imported)
        transaction.record("version", version.name, action="created", version=version.version)
    elif found.created_at != version.creation_timestamp:
        raise AlreadyExists(another(version))
    else:
        version_id, digest = found.id, found.digest
        row = _row_of(version)
        if version.last_updated_timestamp > found.updated_at:
            changed = {name: row[name] for name in MUTABLE}
            connection.execute(update(versions).where(versions.c.id == version_id).values(changed))
            transaction.record("version", version.name, action="updated", version=version.version)
    tags = check_tags(version.tags) | ({DIGEST_TAG: digest} if digest else {})
    if _merge_pairs(connection, version_tags, "version_id", version_id, tags) and found is not None:
        transaction.record("version", version.name, action="updated", version=version.version)


def another(version: ModelVersion) -> str:
    """Why a version cannot be put."""
    return (
        f"version {version.version} of model {shown(version.name)} is here already and is another one: rename the "
        "model here or there, then import again"
    )


def _add_version(connection: Connection, model_id: int, imported: ImportedVersion) -> tuple[int, str | None]:
    """Insert it; gives its id and its digest."""
    files = imported.files
    if files is None:
        raise Conflict(f"version {imported.version.version} was deleted here during the import: import again")
    digest = add_manifest(connection, files.manifest) if files.manifest else None
    row = _row_of(imported.version) | {
        "model_id": model_id,
        "number": int(imported.version.version),
        "location": files.location,
        "logged_model_id": files.logged_model_id,
        "digest": digest,
    }
    (version_id,) = connection.execute(insert(versions), row).inserted_primary_key or (0,)
    return int(version_id), digest


def _row_of(version: ModelVersion) -> dict[str, Any]:
    return {
        "created_at": version.creation_timestamp,
        "updated_at": version.last_updated_timestamp,
        "description": version.description,
        "user_id": version.user_id,
        "stage": version.current_stage,
        "source": version.source or "",
        "run_id": version.run_id or None,
        "run_link": version.run_link,
        "status": version.status,
        "status_message": version.status_message,
    }


def _put_aliases(
    transaction: Transaction, name: str, model_id: int, wanted: Mapping[str, int], there: set[str]
) -> list[str]:
    """Move what was moved there since the last import; *there* holds also aliases whose version is left out."""
    given = {"model_id": model_id}
    here = {row.alias: row.number for row in transaction.connection.execute(_POINTS_AT, given)}
    before = {row.alias: row.to_version for row in transaction.connection.execute(_IMPORTED_MOVES, given)}
    disputes = []
    for alias, number in wanted.items():
        if before.get(alias) == number or here.get(alias) == number:
            continue
        if here.get(alias) == before.get(alias):
            set_alias(transaction, name, alias, number, None, IMPORTED)
        else:
            disputes.append(
                f"alias {shown(alias)} of model {shown(name)} was moved here and there, and stays here at "
                f"{_place(here.get(alias))}; there it is at {_place(number)}"
            )
    for alias in sorted(before.keys() - there):
        if before[alias] is not None and here.get(alias) == before[alias]:
            delete_alias(transaction, name, alias, None, IMPORTED)
    return disputes


def _place(number: int | None) -> str:
    return "no version" if number is None else f"version {number}"


def _merge_pairs(connection: Connection, table: Table, owner: str, id: int, pairs: Mapping[str, str]) -> bool:
    """Set what differs; says whether anything did."""
    this: ColumnElement[bool] = table.c[owner] == id
    there = dict(connection.execute(select(table.c.key, table.c.value).where(this)).tuples().all())
    differing = {key: value for key, value in pairs.items() if there.get(key) != value}
    for key, value in differing.items():
        if key in there:
            connection.execute(update(table).where(this, table.c.key == key).values(value=value))
        else:
            connection.execute(insert(table), {owner: id, "key": key, "value": value})
    return bool(differing)
