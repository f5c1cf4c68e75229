"""A PostgreSQL server as the registry's database, with LISTEN for changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from registry.errors import InvalidUri, RegistryError, Unavailable
from registry.sql.migrate import is_current, migrate
from registry.sql.prepared import Prepared, Rows

if TYPE_CHECKING:
    import psycopg

CHANNEL = "turnout_changes"
CONNECT_TIMEOUT_S = 5
LOCK_TIMEOUT_S = 5
STATEMENT_TIMEOUT_S = 30
POOL_TIMEOUT_S = 10.0
SECRETS = ("password", "sslpassword", "passfile")
# Serialization failure and deadlock: the transaction was undone, and runs well the second time.
CONFLICTS = {"40001", "40P01"}


class PostgresServer:
    """The backend for one PostgreSQL database. Thread-safe; the lock guards `_engine` and `_idle_ears`."""

    kind = "postgresql"
    begin_write = "BEGIN"
    begin_snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    notify: str | None = f"NOTIFY {CHANNEL}"
    one_writer = False

    def __init__(self, address: str) -> None:
        self._url = _parse(address)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._idle_ears: list[_Ears] = []
        self._is_closed = False
        self.engine()

    @property
    def uri(self) -> str:
        return _public(self._url)

    def engine(self) -> Engine:
        """The engine, once the schema was seen to be current."""
        with self._lock:
            if self._engine is None:
                engine = _build_engine(self._url)
                try:
                    _check(engine)
                except DBAPIError as error:
                    engine.dispose()
                    cause = str(error.orig).strip().split("\n")[0]
                    raise Unavailable(f"the registry at {self.uri} cannot be opened: {cause}") from None
                except RegistryError:
                    engine.dispose()
                    raise
                self._engine = engine
            return self._engine

    def rows(self, _statement: Prepared, _values: Mapping[str, Any]) -> Rows | None:
        return None  # the network takes longer than SQLAlchemy

    def may_retry(self, error: DBAPIError, /) -> bool:
        return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in CONFLICTS

    @contextmanager
    def listen(self, stop: threading.Event) -> Iterator[Callable[[float], bool]]:
        """LISTEN on a connection of its own, which is kept for the next wait."""
        with self._lock:
            ears = self._idle_ears.pop() if self._idle_ears else None
        ears = ears or _Ears(self._url, stop)
        try:
            yield ears.heard_within
        finally:
            with self._lock:
                keep = not self._is_closed
                if keep:
                    self._idle_ears.append(ears)
            if not keep:
                ears.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            engine = self._engine
            ears, self._idle_ears = self._idle_ears, []
        for each in ears:
            each.close()
        if engine is not None:
            engine.pool.dispose()  # not the engine: connections in use must come back to this pool, for the next close


class _Ears:
    """One LISTEN connection; while the server is away it is deaf, and connects again by itself."""

    SLICE_S = 0.25

    def __init__(self, url: URL, stop: threading.Event) -> None:
        self._url = url
        self._stop = stop
        self._connection: psycopg.Connection[Any] | None = None
        self._connect()

    def heard_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._stop.is_set():
            if self._connection is None:
                self._stop.wait(min(seconds, 1.0))
                self._connect()
                return self._connection is not None  # something may have been missed
            if self._heard(min(self.SLICE_S, max(0.0, deadline - time.monotonic()))):
                return True
            if time.monotonic() >= deadline:
                return False
        return False

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _heard(self, seconds: float) -> bool:
        import psycopg

        assert self._connection is not None
        try:
            # An endless generator would hold the connection; a closed `stop` must be seen between slices.
            return any(True for _ in self._connection.notifies(timeout=seconds, stop_after=1))
        except psycopg.Error:
            self.close()
            return True

    def _connect(self) -> None:
        import psycopg

        parameters = self._url.translate_connect_args(username="user", database="dbname") | dict(self._url.query)
        try:
            self._connection = psycopg.connect(autocommit=True, connect_timeout=CONNECT_TIMEOUT_S, **parameters)
            self._connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error:
            self.close()


def _parse(address: str) -> URL:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise InvalidUri("a PostgreSQL address looks like postgresql://user@host:5432/database") from None
    if url.drivername not in {"postgresql", "postgresql+psycopg"}:
        raise InvalidUri(f"{url.drivername}:// is not supported: write postgresql://, which uses psycopg 3")
    return url.set(drivername="postgresql+psycopg")


def public_uri(address: str) -> str:
    """The address without anything secret in it."""
    return _public(_parse(address))


def _public(url: URL) -> str:
    query = {key: value for key, value in url.query.items() if key not in SECRETS}
    public = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    return public.render_as_string(hide_password=True)


def _build_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=8,
            max_overflow=24,
            pool_timeout=POOL_TIMEOUT_S,
            pool_reset_on_return=None,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    except ModuleNotFoundError:
        raise InvalidUri("postgresql:// needs psycopg: pip install 'turnout[postgres]'") from None
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
    connection.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT_S}s'")


def _check(engine: Engine) -> None:
    with engine.connect() as connection:
        if is_current(connection):
            return
        connection.exec_driver_sql("BEGIN")
        try:
            migrate(connection)
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with suppress(DBAPIError):
                connection.exec_driver_sql("ROLLBACK")
            raise
