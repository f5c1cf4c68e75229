"""A SELECT that is compiled once, so that a SQLite file's own driver can run it.

SQLAlchemy's way to a row takes several times as long as the row: for the reads that clients wait for, and only for
those, the statement is SQLAlchemy's and the way is short.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, Select
from sqlalchemy.dialects import sqlite

Rows = Sequence[Sequence[Any]]


class Prepared:
    """A statement over a few named values, whose columns are numbers and texts: nothing is converted."""

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement

    def run(self, connection: Connection, /, **values: Any) -> Rows:
        """The rows, on either database and inside a transaction."""
        if connection.dialect.name == "sqlite":
            driver = connection.connection.driver_connection
            assert driver is not None
            with suppress(connection.dialect.loaded_dbapi.Error):  # below it goes wrong alike, and SQLAlchemy says how
                rows: Rows = driver.execute(*self.for_sqlite(values)).fetchall()
                return rows
        return connection.execute(self.statement, values).all()

    def first(self, connection: Connection, /, **values: Any) -> Sequence[Any] | None:
        """The first row of `run`, if there is one."""
        return next(iter(self.run(connection, **values)), None)

    def for_sqlite(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """The text, and the values in the order of its question marks."""
        text, names, fixed = self._compiled
        return text, [values[name] if name in values else fixed[name] for name in names]

    @cached_property
    def _compiled(self) -> tuple[str, Sequence[str], Mapping[str, Any]]:
        compiled = self.statement.compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True})
        return str(compiled), compiled.positiontup or (), compiled.params
