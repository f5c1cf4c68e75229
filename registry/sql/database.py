"""Transactions, retries, the change number and the wait for it, over one of the two kinds of database."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy import Connection, Engine, bindparam, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from registry.errors import InvalidParameter, RegistryError, Unavailable
from registry.sql.changes import CURSOR, as_cursor, keep_changes
from registry.sql.outbox import queue_messages
from registry.sql.prepared import Prepared, Rows
from registry.sql.schema import state

P = ParamSpec("P")
T = TypeVar("T")

WRITE_ATTEMPTS = 5
MAX_ACTOR_CHARS = 256
READ_ONLY_SQLSTATE = "25006"
POLL_S = 2.0
# A file's watcher wakes at the write, a moment before the commit can be seen: look again soon after.
FIRST_LOOK_S = 0.003

_RAISE_CHANGE_SEQ = (
    update(state).values(change_seq=state.c.change_seq + 1, change_nonce=bindparam("nonce")).where(state.c.id == 1)
)


class Backend(Protocol):
    """What differs between a SQLite file and a PostgreSQL server."""

    kind: str  # SQLAlchemy's name of the dialect
    begin_write: str
    begin_snapshot: str
    notify: str | None
    one_writer: bool  # at a time, so that threads do better to wait for each other than to ask again and again

    @property
    def uri(self) -> str: ...

    def engine(self) -> Engine:
        """An engine on an up-to-date schema. Raises `Unavailable` while the database is gone."""

    def rows(self, statement: Prepared, values: Mapping[str, Any], /) -> Rows | None:
        """What the statement gives, by a shorter way than a connection of the engine; None where there is none."""

    def may_retry(self, error: DBAPIError, /) -> bool:
        """Whether a transaction that failed so, before its commit, can simply be run again."""

    def listen(self, stop: threading.Event) -> AbstractContextManager[Callable[[float], bool]]:
        """Start listening for changes. The callable waits so many seconds and says whether it heard any."""

    def close(self) -> None:
        """Close what is not in use. Called again once the rest has come back."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One write: when it happens, who does it, and what it changes, as the change feed will tell."""

    connection: Connection
    now: int
    actor: str | None
    changes: list[dict[str, Any]] = field(default_factory=list)

    def record(self, kind: str, name: str, **details: Any) -> None:
        """Tell of a change of the model *name*; see `registry.changes.Change` for the kinds and their details."""
        self.changes.append({"kind": kind, "name": name, **details})


class Database:
    """Runs functions on connections; safe for use by many threads at once."""

    def __init__(self, backend: Backend, actor: Callable[[], str | None]) -> None:
        self._backend = backend
        self._actor = actor
        self._closed = threading.Event()
        self._turn: AbstractContextManager[object] = threading.Lock() if backend.one_writer else nullcontext()

    @property
    def uri(self) -> str:
        return self._backend.uri

    @property
    def kind(self) -> str:
        return self._backend.kind

    def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function whose one statement sees one moment; once more when the connection was lost."""
        for attempt in range(2):
            try:
                with self._connection() as connection:
                    return work(connection, *args, **kwargs)
            except DBAPIError as error:
                if attempt or not self._backend.may_retry(error):
                    raise self._explained(error) from error
        raise AssertionError

    def rows(self, statement: Prepared, **values: Any) -> Rows:
        """Like `read`, for one statement and nothing else, by the shortest way."""
        with self._in_use():
            found = self._backend.rows(statement, values)
        return self.read(statement.run, **values) if found is None else found

    def snapshot(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `read`, for several statements that must see the same moment."""

        def in_snapshot(connection: Connection) -> T:
            connection.exec_driver_sql(self._backend.begin_snapshot)
            try:
                return work(connection, *args, **kwargs)
            finally:
                _roll_back(connection)

        return self.read(in_snapshot)

    def write(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run *work* in one transaction, which is durable when this returns and undone when it raises."""
        for attempt in range(WRITE_ATTEMPTS):
            try:
                return self._write_once(work, *args, **kwargs)
            except DBAPIError as error:
                if attempt == WRITE_ATTEMPTS - 1 or not self._backend.may_retry(error):
                    raise self._explained(error) from error
            time.sleep(random.uniform(0, 0.01 * 2**attempt))
        raise AssertionError

    def change(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `write`, raising the change number, which also makes changes happen one after another.

        What *work* records is kept under the new number.
        """

        def changing(transaction: Transaction) -> T:
            nonce = token_hex(4)
            transaction.connection.execute(_RAISE_CHANGE_SEQ, {"nonce": nonce})
            if self._backend.notify:
                transaction.connection.execute(text(self._backend.notify))
            # Now that the row is locked: the time before a wait for another writer would lie in that one's past.
            locked = replace(transaction, now=_now())
            result = work(locked, *args, **kwargs)
            keep_changes(transaction.connection, nonce, locked.now, locked.changes)
            queue_messages(transaction.connection, locked.now, locked.changes)
            return result

        return self.write(changing)

    def cursor(self) -> str:
        return as_cursor(self.rows(CURSOR)[0])

    def wait(self, cursor: str, timeout: float) -> str:
        """Return the cursor once it differs from *cursor*, at the timeout, or at `close`.

        While the database is gone this waits for it, and raises `Unavailable` at the timeout.
        """
        deadline = time.monotonic() + timeout
        was_gone = False
        look_again_s = POLL_S
        # The ears open before the first look, so that no change falls between the two.
        with self._left_closed(), self._backend.listen(self._closed) as heard_within:
            while not self._closed.is_set():
                try:
                    current = self.cursor()
                except Unavailable:
                    if time.monotonic() >= deadline:
                        raise
                    was_gone = True
                else:
                    if current != cursor or was_gone or time.monotonic() >= deadline:
                        return current
                pause_s = max(0.0, min(look_again_s, POLL_S, deadline - time.monotonic()))
                look_again_s = FIRST_LOOK_S if heard_within(pause_s) else min(look_again_s * 2, POLL_S)
        return cursor

    def close(self) -> None:
        self._closed.set()
        self._backend.close()

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        with self._in_use():
            try:
                connection = self._backend.engine().connect()
            except PoolTimeout:
                raise Unavailable(f"every connection to {self.uri} is busy; try again") from None
            with connection:
                yield connection

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        if self._closed.is_set():
            raise Unavailable(f"the registry at {self.uri} was closed; open it again")
        with self._left_closed():
            yield

    @contextmanager
    def _left_closed(self) -> Iterator[None]:
        """Close the backend afterwards when it was closed meanwhile: what was in use then has only now come back."""
        try:
            yield
        finally:
            if self._closed.is_set():
                self._backend.close()

    def _write_once(self, work: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._turn, self._connection() as connection:
            connection.exec_driver_sql(self._backend.begin_write)
            try:
                result = work(Transaction(connection, _now(), self._acting()), *args, **kwargs)
            except BaseException:
                _roll_back(connection)
                raise
            try:
                connection.exec_driver_sql("COMMIT")
            except DBAPIError as error:
                _roll_back(connection)
                if error.connection_invalidated:  # nobody knows whether it was committed: never run it again
                    raise self._explained(error) from error
                raise
            return result

    def _acting(self) -> str | None:
        actor = self._actor()
        if actor is None:
            return None
        return actor.replace("\0", "").encode(errors="replace").decode()[:MAX_ACTOR_CHARS]

    def _explained(self, error: DBAPIError) -> RegistryError:
        cause = str(error.orig).strip().split("\n")[0]
        if "readonly database" in cause or getattr(error.orig, "sqlstate", None) == READ_ONLY_SQLSTATE:
            return Unavailable(
                f"the registry at {self.uri} is read-only here, so nothing was changed: write as a user who may "
                "change it"
            )
        if isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated:
            return Unavailable(f"the registry at {self.uri} does not answer: {cause}; try again")
        if type(error) is DBAPIError or type(error).__name__ == "DatabaseError":
            return Unavailable(f"the registry at {self.uri} is damaged: {cause}; restore it from a backup")
        if isinstance(error, IntegrityError):
            return RegistryError("the registry refused a change that would contradict itself; nothing was changed")
        return InvalidParameter(f"the registry at {self.uri} cannot hold such a value; nothing was changed")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _roll_back(connection: Connection) -> None:
    try:
        connection.exec_driver_sql("ROLLBACK")
    except Exception:  # the database ends the transaction of a connection that it loses
        with suppress(Exception):
            connection.invalidate()
