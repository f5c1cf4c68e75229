"""One SQLite file: which library opens it, how it is created, and what happens when it goes away.

A file that has been opened is never created again: when it vanishes the registry is `Unavailable`, and when
it is back, or another stands in its place, that one is opened. A log of committed changes (`-wal`) is never
removed here: not even its owner can tell who else has written to it.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from registry.errors import InvalidUri, RegistryError, Unavailable
from registry.sql.ears import FolderEars
from registry.sql.migrate import is_current, migrate
from registry.sql.prepared import Prepared, Rows
from registry.sql.readers import Readers

BUSY_TIMEOUT_S = 5.0
JOURNAL_SIZE_LIMIT = 64 << 20
NETWORK_FILE_SYSTEMS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "fuse.sshfs", "afs", "fuse.glusterfs"}
FROZEN = "ro&immutable=1"
WAL_VERSIONS_AT = 18  # sqlite.org/fileformat.html: write and read version

# Device and inode; of a file that is opened without locks also its size and its time, for a change shows nowhere else.
Identity = tuple[int, ...]

logger = logging.getLogger(__name__)


def holds_wal_fix(version: tuple[int, ...]) -> bool:
    """Whether a SQLite of this version cannot lose pages when two connections write and checkpoint at once."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def choose_driver() -> ModuleType:
    """The SQLite library to use: pysqlite3's when its version holds the fix, else Python's."""
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return sqlite3
    return dbapi2 if holds_wal_fix(dbapi2.sqlite_version_info) else sqlite3


class SqliteFile:
    """The backend for one file. Thread-safe; the lock guards everything that begins with `_`.

    `_last` is the file that was opened last, and the write-ahead log that it had then.
    """

    kind = "sqlite"
    begin_write = "BEGIN IMMEDIATE"
    begin_snapshot = "BEGIN"
    notify: str | None = None
    one_writer = True

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path.absolute()
        self._driver = choose_driver()
        if not holds_wal_fix(self._driver.sqlite_version_info):
            version = self._driver.sqlite_version
            logger.warning("SQLite %s can lose pages in WAL mode, so the slower DELETE mode is used", version)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._readers: Readers | None = None
        self._identity: Identity | None = None
        self._is_frozen = False
        self._last: tuple[Identity, Identity | None] | None = None
        self._openings = 0
        self._idle_ears: list[FolderEars] = []
        _refuse_network_file_system(self.path)
        if self.path.is_dir():
            raise InvalidUri(
                f"{self.path} is a folder, and a registry is a file: write sqlite:///{self.path}/turnout.db"
            )
        if create and not self.path.exists():
            self._create()
        self.engine()

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    def engine(self) -> Engine:
        """The engine on the file that lies at the path at this moment."""
        try:
            identity = _identify(self.path)
            if self._is_frozen:
                identity = _identify_content(self.path)
            engine = self._engine
            return self._open(identity[:2]) if engine is None or self._identity != identity else engine
        except OSError as problem:  # it may also go while it is opened
            self._forget()
            raise self._missing(problem) from None

    def rows(self, statement: Prepared, values: Mapping[str, Any]) -> Rows | None:
        """Whatever goes wrong, SQLAlchemy's way goes wrong alike, and its errors are explained."""
        self.engine()
        readers = self._readers
        if readers is None:
            return None
        try:
            return readers.rows(*statement.for_sqlite(values))
        except self._driver.Error:
            return None

    def may_retry(self, _error: DBAPIError, /) -> bool:
        return False  # the busy timeout has waited already

    @contextmanager
    def listen(self, stop: threading.Event) -> Iterator[Callable[[float], bool]]:
        """Watch the folder, for a commit shows in `<file>-wal` and seldom in the file itself.

        The ears are kept for the next wait, until another file lies at the path: then its folder may be another, too.
        """
        with self._lock:
            opened = self._openings
            ears = self._idle_ears.pop() if self._idle_ears else None
        ears = ears or FolderEars(self.path, stop)
        try:
            yield ears.heard_within
        finally:
            with self._lock:
                keep = self._openings == opened
                if keep:
                    self._idle_ears.append(ears)
            if not keep:
                ears.close()

    def close(self) -> None:
        self._forget()

    def _forget(self) -> None:
        with self._lock:
            self._close_engine()

    def _open(self, identity: Identity) -> Engine:
        with self._lock:
            if self._engine is not None and self._identity == identity:
                return self._engine
            self._close_engine()
            self._refuse_log_of_another(identity)
            mode = _mode(self.path)
            if mode == FROZEN:
                identity = _identify_content(self.path)
            engine = _build_engine(self._driver, self.path, mode, _prepare if mode == "rw" else _prepare_to_read)
            try:
                _check(self._driver, self.path, engine, mode)
            except DBAPIError as error:
                engine.dispose()
                raise _explained(self.path, error) from error
            except BaseException:
                engine.dispose()
                raise
            self._engine, self._identity, self._is_frozen = engine, identity, mode == FROZEN
            self._readers = Readers(partial(_connect_to_read, self._driver, self.path, mode))
            self._last = identity[:2], _identify_if_there(_log(self.path))
            return engine

    def _close_engine(self) -> None:
        engine, self._engine, self._identity = self._engine, None, None
        readers, self._readers = self._readers, None
        ears, self._idle_ears = self._idle_ears, []
        self._openings += 1
        for each in ears:
            each.close()
        if readers is not None:
            readers.close()
        if engine is not None:
            engine.dispose()

    def _refuse_log_of_another(self, identity: Identity) -> None:
        """SQLite would read another file's write-ahead log into this one, for it knows them by name alone."""
        if self._last is None or self._last[0] == identity or self._last[1] is None:
            return
        if _identify_if_there(_log(self.path)) == self._last[1]:
            raise Unavailable(
                f"another file was put at {self.path} while the log of the one before, {self.path.name}-wal, is still "
                f"there: stop every process that uses it, remove {self.path.name}-wal and {self.path.name}-shm, and "
                "put the file there again"
            )

    def _missing(self, problem: OSError) -> Unavailable:
        return Unavailable(
            f"there is no registry at {self.uri}: {problem.strerror or problem}; `turnout register` makes one where "
            "there never was any"
        )

    def _create(self) -> None:
        """Make the file beside its place and link it there whole: nobody ever sees a half-made one."""
        if not self.path.parent.is_dir():
            raise Unavailable(f"cannot create {self.path}: there is no folder {self.path.parent}; make it first")
        fresh = self.path.with_name(f".{self.path.name}.{token_hex(8)}.new")
        try:
            engine = _build_engine(self._driver, fresh, "rwc", _prepare_fresh)
            try:
                _migrate(engine)
            finally:
                engine.dispose()
            if holds_wal_fix(self._driver.sqlite_version_info):
                _mark_as_wal(fresh)
            _place(fresh, self.path)
            _sync_folder(self.path.parent)
        except (OSError, DBAPIError) as problem:
            cause = problem.orig if isinstance(problem, DBAPIError) else problem
            raise Unavailable(f"cannot create {self.path}: {cause}") from problem
        finally:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{fresh}{suffix}").unlink(missing_ok=True)


def _build_engine(driver: ModuleType, path: Path, mode: str, prepare: Callable[..., None] | None = None) -> Engine:
    engine = create_engine(
        "sqlite://",
        module=driver,
        creator=partial(_connect, driver, path, mode),
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=24,
        pool_timeout=BUSY_TIMEOUT_S,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
    )
    if prepare is not None:
        event.listen(engine, "connect", prepare)
    return engine


def _connect(driver: ModuleType, path: Path, mode: str) -> Any:
    address = f"file:{quote(str(path))}?mode={mode}"
    return driver.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False, cached_statements=256)


def _connect_to_read(driver: ModuleType, path: Path, mode: str) -> Any:
    connection = _connect(driver, path, mode)
    _prepare_to_read(connection, None)
    return connection


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    version = tuple(int(part) for part in cursor.execute("SELECT sqlite_version()").fetchone()[0].split("."))
    cursor.execute(f"PRAGMA journal_mode={'WAL' if holds_wal_fix(version) else 'DELETE'}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.execute(f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT}")
    cursor.close()


def _prepare_fresh(connection: Any, _record: object) -> None:
    """No log beside a file that is to get another name: logs, and what SQLite keeps in memory of them, go by names."""
    connection.execute("PRAGMA journal_mode=DELETE").close()
    connection.execute("PRAGMA synchronous=FULL").close()


def _mark_as_wal(path: Path) -> None:
    """Leave the file as a connection in WAL mode leaves it when it closes: the versions in its header are 2."""
    with path.open("r+b") as file:
        file.seek(WAL_VERSIONS_AT)
        file.write(b"\x02\x02")
        file.flush()
        os.fsync(file.fileno())


def _prepare_to_read(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA temp_store=MEMORY").close()


def _mode(path: Path) -> str:
    """How SQLite may open the file: `rw`, `ro`, or `ro` without locks where no lock file could be made.

    Without locks SQLite would overlook a log, so that is for files that have none.
    """
    is_open_folder = _may_write(path.parent)
    if is_open_folder and _may_write(path):
        return "rw"
    return "ro" if is_open_folder or _size(_log(path)) else FROZEN


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _log(path: Path) -> Path:
    return Path(f"{path}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _check(driver: ModuleType, path: Path, engine: Engine, mode: str) -> None:
    """Look before the first setting is made: a file that is not ours stays as it is, byte for byte."""
    if path.stat().st_size == 0:
        raise Unavailable(f"{path} is empty, which no registry is: restore it from a backup, or move it away")
    onlooker = _build_engine(driver, path, FROZEN if mode == FROZEN else "ro")
    try:
        with onlooker.connect() as connection:
            current = is_current(connection)
    finally:
        onlooker.dispose()
    if not current:
        _migrate(engine)
        return
    with engine.connect():  # now, so that what is wrong with the file shows here
        pass


def _migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            migrate(connection)
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with suppress(OperationalError):
                connection.exec_driver_sql("ROLLBACK")
            raise


def _explained(path: Path, error: DBAPIError) -> RegistryError:
    cause = str(error.orig)
    if "locked" in cause or "busy" in cause:
        return Unavailable(f"the registry {path} is locked by another process; try again")
    if isinstance(error, OperationalError):
        return Unavailable(f"the registry {path} cannot be opened: {cause}")
    return Unavailable(f"{path} is damaged or no registry: {cause}; it was left as it is: restore it from a backup")


def _place(fresh: Path, path: Path) -> None:
    try:
        os.link(fresh, path)
    except FileExistsError:  # another process was faster, and its file is as good
        return
    except OSError as problem:
        if problem.errno not in {errno.EPERM, errno.ENOTSUP}:
            raise
        fresh.rename(path)  # a file system without hard links


def _identify(path: Path) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _identify_content(path: Path) -> Identity:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns, _size(_log(path))


def _identify_if_there(path: Path) -> Identity | None:
    try:
        return _identify(path)
    except OSError:
        return None


def _refuse_network_file_system(path: Path) -> None:
    """SQLite's locks and shared memory do not work between hosts."""
    try:
        device = os.stat(path.parent).st_dev
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if before.split()[2] == f"{os.major(device)}:{os.minor(device)}":
            kind = after.split()[0]
            if kind in NETWORK_FILE_SYSTEMS:
                raise InvalidUri(
                    f"{path} lies on a network file system ({kind}), where SQLite loses data: use PostgreSQL"
                )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
