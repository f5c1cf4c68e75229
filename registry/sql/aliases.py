"""Aliases, each move of which is kept: who, when, from where, to where, why. Functions on a connection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from registry.core import AliasChange, ModelVersion
from registry.errors import AliasNotFound, Conflict, InvalidParameter, NotFound
from registry.names import MAX_ALIASES, shown
from registry.notices import notify
from registry.page import Page
from registry.sql.database import Transaction
from registry.sql.paging import read_page_token, write_page_token
from registry.sql.prepared import Prepared
from registry.sql.rows import SELECT_VERSION, as_full_version, find_model, find_version, read_version
from registry.sql.schema import alias_moves, aliases, models, versions

VERSION_BY_ALIAS = Prepared(
    SELECT_VERSION.where(
        models.c.name == bindparam("name"),
        aliases.c.model_id == models.c.id,
        aliases.c.alias == bindparam("alias"),
        versions.c.id == aliases.c.version_id,
    )
)
_POINTS_AT = Prepared(
    select(versions.c.number)
    .join_from(aliases, versions)
    .where(aliases.c.model_id == bindparam("model_id"), aliases.c.alias == bindparam("alias"))
)
_LAST_MOVED_AT = Prepared(
    select(alias_moves.c.at)
    .where(alias_moves.c.model_id == bindparam("model_id"), alias_moves.c.alias == bindparam("alias"))
    .order_by(alias_moves.c.id.desc())
    .limit(1)
)
_KEEP_MOVE = insert(alias_moves)
_LATEST_NUMBER = select(func.max(versions.c.number)).where(versions.c.model_id == bindparam("model_id"))


def read_version_by_alias(connection: Connection, name: str, alias: str) -> ModelVersion:
    """The version that an alias names now; `latest` in any case is the highest of all stages."""
    if alias.lower() == "latest":
        return read_latest_version(connection, name)
    row = VERSION_BY_ALIAS.first(connection, name=name, alias=alias)
    if row is None:
        raise _no_such_alias(connection, name, alias)
    return as_full_version(row)


def read_latest_version(connection: Connection, name: str) -> ModelVersion:
    number = connection.execute(_LATEST_NUMBER, {"model_id": find_model(connection, name).id}).scalar()
    if number is None:
        raise NotFound(f"model {shown(name)} has no versions yet, so there is no latest one")
    return read_version(connection, name, number)


def read_version_by_alias_at(connection: Connection, name: str, alias: str, at_ms: int) -> ModelVersion:
    """The version that an alias named at a moment, if it still exists."""
    if alias.lower() == "latest":
        raise InvalidParameter(f"{shown(alias)} is computed and has no history: leave `at` out, or name an alias")
    model_id = find_model(connection, name).id
    last_move = (
        select(alias_moves.c.to_version)
        .where(alias_moves.c.model_id == model_id, alias_moves.c.alias == alias, alias_moves.c.at <= at_ms)
        .order_by(alias_moves.c.id.desc())
        .limit(1)
    )
    number = connection.execute(last_move).scalar()
    if number is None:
        raise AliasNotFound(f"model {shown(name)} had no alias {shown(alias)} at that moment")
    return read_version(connection, name, number)


def set_alias(
    transaction: Transaction, name: str, alias: str, number: int, expected: int | None, reason: str | None
) -> str | None:
    """Point an alias at a version. Returns a warning for the caller, if there is one."""
    connection = transaction.connection
    version = find_version(connection, name, number)
    now_at = _points_at(connection, version.model_id, alias)
    _check_expected(name, alias, expected, now_at)
    if now_at == number:
        return None
    warning = None
    if now_at is None:
        warning = _check_new(connection, name, version.model_id, alias)
    _point(transaction, version.model_id, alias, version.id, is_new=now_at is None)
    _keep_move(transaction, name, version.model_id, alias, now_at, number, reason, None)
    return warning


def delete_alias(transaction: Transaction, name: str, alias: str, expected: int | None, reason: str | None) -> None:
    """Remove an alias; one that is not set stays so, without a trace."""
    connection = transaction.connection
    model_id = find_model(connection, name).id
    now_at = _points_at(connection, model_id, alias)
    _check_expected(name, alias, expected, now_at)
    if now_at is None:
        return
    connection.execute(delete(aliases).where(aliases.c.model_id == model_id, aliases.c.alias == alias))
    _keep_move(transaction, name, model_id, alias, now_at, None, reason, None)


def delete_aliases_of_version(transaction: Transaction, name: str, model_id: int, version_id: int, number: int) -> None:
    """Remove those that point at a version which is about to be deleted."""
    connection = transaction.connection
    found = connection.execute(select(aliases.c.alias).where(aliases.c.version_id == version_id)).scalars()
    for alias in sorted(found):
        _keep_move(transaction, name, model_id, alias, number, None, f"version {number} was deleted", None)
    connection.execute(delete(aliases).where(aliases.c.version_id == version_id))


def roll_back_alias(
    transaction: Transaction, name: str, alias: str, expected: int | None, reason: str | None
) -> AliasChange:
    """Point an alias at the version before the current one in its history."""
    connection = transaction.connection
    model_id = find_model(connection, name).id
    now_at = _points_at(connection, model_id, alias)
    _check_expected(name, alias, expected, now_at)
    move = _move_to_undo(connection, model_id, alias, now_at)
    if move is not None:
        _point(transaction, model_id, alias, move.from_id, is_new=now_at is None)
        return _keep_move(transaction, name, model_id, alias, now_at, move.from_version, reason, move.id)
    if now_at is None:
        raise _no_such_alias(connection, name, alias)
    raise InvalidParameter(
        f"alias {shown(alias)} of model {shown(name)} points at version {now_at} and has no earlier version "
        "to go back to"
    )


def read_rollback_target(connection: Connection, name: str, alias: str) -> int | None:
    """The version that a rollback would point the alias at, None where it has no earlier one."""
    model_id = find_model(connection, name).id
    move = _move_to_undo(connection, model_id, alias, _points_at(connection, model_id, alias))
    return None if move is None else int(move.from_version)


def read_history(
    connection: Connection, name: str, alias: str, max_results: int, page_token: str | None
) -> Page[AliasChange]:
    """Every move, newest first; a page begins below the last move of the one before it."""
    model_id = find_model(connection, name).id
    before = read_page_token(page_token, "before")
    moves = (
        select(alias_moves)
        .where(alias_moves.c.model_id == model_id, alias_moves.c.alias == alias)
        .order_by(alias_moves.c.id.desc())
        .limit(max_results + 1)
    )
    if before is not None:
        moves = moves.where(alias_moves.c.id < before)
    rows = connection.execute(moves).all()
    if not rows and before is None:
        raise _no_such_alias(connection, name, alias)
    page = rows[:max_results]
    more = len(rows) > max_results
    return Page([_as_change(row) for row in page], write_page_token("before", page[-1].id) if more else None)


def _move_to_undo(connection: Connection, model_id: int, alias: str, now_at: int | None) -> Any:
    """The newest move that came from another version than the alias points at; None where there is none."""
    standing = _standing_moves(connection, model_id, alias)
    return next((move for move in standing if move.from_id is not None and move.from_version != now_at), None)


def _standing_moves(connection: Connection, model_id: int, alias: str) -> Iterator[Any]:
    """The moves that no rollback undid, newest first; `from_id` is None where that version is gone.

    A rollback undoes the move that it names and all that came after that one, itself included.
    """
    earlier = versions.alias("earlier")
    moves = (
        select(alias_moves.c.id, alias_moves.c.from_version, alias_moves.c.rollback_of, earlier.c.id.label("from_id"))
        .outerjoin_from(
            alias_moves,
            earlier,
            (earlier.c.model_id == alias_moves.c.model_id) & (earlier.c.number == alias_moves.c.from_version),
        )
        .where(alias_moves.c.model_id == model_id, alias_moves.c.alias == alias)
        .order_by(alias_moves.c.id.desc())
    )
    undone_from: int | None = None
    for move in connection.execute(moves).all():
        if undone_from is not None and move.id >= undone_from:
            continue
        if move.rollback_of is None:
            yield move
        else:
            undone_from = move.rollback_of


def _points_at(connection: Connection, model_id: int, alias: str) -> int | None:
    row = _POINTS_AT.first(connection, model_id=model_id, alias=alias)
    return None if row is None else int(row[0])


def _check_expected(name: str, alias: str, expected: int | None, now_at: int | None) -> None:
    if expected is None or expected == (now_at or 0):
        return
    wanted = f"at version {expected}" if expected else "nowhere"
    found = "nowhere" if now_at is None else f"at version {now_at}"
    raise Conflict(
        f"alias {shown(alias)} of model {shown(name)} was expected to point {wanted}, and it points {found}: "
        "somebody moved it meanwhile"
    )


def _check_new(connection: Connection, name: str, model_id: int, alias: str) -> str | None:
    others = list(connection.execute(select(aliases.c.alias).where(aliases.c.model_id == model_id)).scalars())
    if len(others) >= MAX_ALIASES:
        raise InvalidParameter(f"model {shown(name)} has {MAX_ALIASES} aliases, which is the most: delete one first")
    alike = [each for each in others if each.casefold() == alias.casefold()]
    if not alike:
        return None
    return (
        f"model {shown(name)} has an alias {shown(alike[0])} already: {shown(alias)} was set as another one, "
        "because aliases are case-sensitive"
    )


def _point(transaction: Transaction, model_id: int, alias: str, version_id: int, *, is_new: bool) -> None:
    if is_new:
        row = {"model_id": model_id, "alias": alias, "version_id": version_id}
        transaction.connection.execute(insert(aliases), row)
        return
    this = (aliases.c.model_id == model_id) & (aliases.c.alias == alias)
    transaction.connection.execute(update(aliases).where(this).values(version_id=version_id))


def _keep_move(
    transaction: Transaction,
    name: str,
    model_id: int,
    alias: str,
    from_version: int | None,
    to_version: int | None,
    reason: str | None,
    rollback_of: int | None,
) -> AliasChange:
    """Record a move. Its time is never before the last one's, though the clock may have been set back."""
    at_ms = max(transaction.now, _last_moved_at(transaction.connection, model_id, alias))
    row = {
        "model_id": model_id,
        "alias": alias,
        "at": at_ms,
        "by": transaction.actor,
        "from_version": from_version,
        "to_version": to_version,
        "reason": reason,
        "rollback_of": rollback_of,
    }
    places = {"from": _as_text(from_version), "to": _as_text(to_version)}
    transaction.record("alias", name, alias=alias, **places)
    (move_id,) = transaction.connection.execute(_KEEP_MOVE, row).inserted_primary_key or (0,)
    return AliasChange(
        id=move_id,
        alias=alias,
        at=_moment(at_ms),
        by=transaction.actor,
        from_version=places["from"],
        to_version=places["to"],
        reason=reason,
        rollback_of=rollback_of,
    )


def _last_moved_at(connection: Connection, model_id: int, alias: str) -> int:
    row = _LAST_MOVED_AT.first(connection, model_id=model_id, alias=alias)
    return 0 if row is None else int(row[0])


def _as_change(row: Row[Any]) -> AliasChange:
    return AliasChange(
        id=row.id,
        alias=row.alias,
        at=_moment(row.at),
        by=row.by,
        from_version=_as_text(row.from_version),
        to_version=_as_text(row.to_version),
        reason=row.reason,
        rollback_of=row.rollback_of,
    )


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _as_text(number: int | None) -> str | None:
    return None if number is None else str(number)


def warn_of(warning: str | None) -> None:
    if warning is not None:
        notify(warning, stacklevel=3)


def _no_such_alias(connection: Connection, name: str, alias: str) -> AliasNotFound:
    model_id = find_model(connection, name).id
    others = select(aliases.c.alias).where(aliases.c.model_id == model_id).order_by(aliases.c.alias).limit(10)
    has = ", ".join(connection.execute(others).scalars()) or "none"
    return AliasNotFound(f"model {shown(name)} has no alias {shown(alias)}; it has: {has}")
