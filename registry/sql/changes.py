"""The change log: what each change number stood for. A cursor is a database, a number and that number's nonce.

The nonce tells a number from the same number after a restore, so nobody is told of half of what happened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, bindparam, delete, insert, literal, select

from registry.changes import Change, Changes
from registry.sql.prepared import Prepared
from registry.sql.schema import changes, state

KEPT_ROWS = 10_000
MAX_ROWS_TOLD = 1_000

_CURSOR = re.compile(r"(.{1,200})\.([0-9]{1,18})\.([0-9a-f]{1,64})", re.ASCII | re.DOTALL)
CURSOR = Prepared(select(state.c.database_id, state.c.change_seq, state.c.change_nonce))
_KEEP = insert(changes).from_select(
    ["seq", "nonce", "at", "changes"],
    select(
        state.c.change_seq,
        bindparam("nonce", type_=changes.c.nonce.type),
        bindparam("at", type_=changes.c.at.type),
        bindparam("changes", type_=changes.c.changes.type),
    ).where(state.c.id == 1),
)
_FORGET = delete(changes).where(changes.c.seq < select(state.c.change_seq - KEPT_ROWS).scalar_subquery())
_KNOWN = Prepared(select(literal(1)).where(changes.c.seq == bindparam("seq"), changes.c.nonce == bindparam("nonce")))
_AFTER = select(changes).where(changes.c.seq > bindparam("seq")).order_by(changes.c.seq).limit(MAX_ROWS_TOLD)


def as_cursor(row: Sequence[Any]) -> str:
    """Where the change log stands; a row of `CURSOR`."""
    database_id, change_seq, nonce = row
    return f"{database_id}.{change_seq}.{nonce}"


def keep_changes(connection: Connection, nonce: str, at: int, recorded: Sequence[dict[str, Any]]) -> None:
    """Log what was recorded under the number that was just taken; drop old rows, at one change in 256."""
    row = {"nonce": nonce, "at": at, "changes": msgspec.json.encode(recorded).decode()}
    connection.execute(_KEEP, row)
    if nonce.startswith("00"):
        connection.execute(_FORGET)


def read_changes(connection: Connection, cursor: str) -> Changes:
    """What follows *cursor*, of a long list only the beginning; the cursor to ask with next tells where it ends."""
    current = as_cursor(CURSOR.run(connection)[0])
    if cursor == current:
        return Changes(current)
    match = _CURSOR.fullmatch(cursor)
    database_id = current.rpartition(".")[0].rpartition(".")[0]
    if match is None or match[1] != database_id:
        return Changes(current, is_complete=False)
    seq = int(match[2])
    if _KNOWN.first(connection, seq=seq, nonce=match[3]) is None:
        return Changes(current, is_complete=False)
    rows = connection.execute(_AFTER, {"seq": seq}).all()
    if not rows:
        return Changes(current, is_complete=False)
    last = rows[-1]
    return Changes(f"{database_id}.{last.seq}.{last.nonce}", [each for row in rows for each in _changes_of(row)])


def _changes_of(row: Row[Any]) -> Iterator[Change]:
    for details in msgspec.json.decode(row.changes):
        yield Change(row.seq, details.pop("kind"), details.pop("name"), row.at, details)
