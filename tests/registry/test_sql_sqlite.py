"""The SQLite file: what happens when it is foreign, damaged, locked, moved or replaced."""

from __future__ import annotations

import importlib
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import event

from registry import register_model
from registry.connection import connect
from registry.errors import InvalidParameter, InvalidUri, NotFound, Unavailable
from registry.sql.readers import Readers
from registry.sql.sqlite import SqliteFile, choose_driver, holds_wal_fix

driver = choose_driver()
ROOT = Path(__file__).parents[2]
CREATES = """
import os, sys
from registry.connection import connect
connect(f"sqlite:///{sys.argv[1]}").create_registered_model(sys.argv[2])
os._exit(0)
"""


@pytest.fixture
def path(tmp_path):
    """Where the file lies."""
    return tmp_path / "registry.db"


def run(path, *statements):
    """Run statements behind the registry's back, in one transaction."""
    connection = driver.connect(path)
    with connection:
        found = [connection.execute(each).fetchall() for each in statements]
    connection.close()
    return found[-1]


def remove_log(path):
    """What an operator removes before a backup is put in the file's place."""
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 4), True),
        ((4, 0, 0), True),
    ],
)
def test_which_sqlite_holds_the_fix(version, good):
    """The releases that can lose pages in WAL mode are known."""
    assert holds_wal_fix(version) is good


def test_settings(sqlite_registry, path):
    """The file is in WAL mode where SQLite is good, and one process can read while another writes."""
    mode = run(path, "PRAGMA journal_mode")[0][0]

    assert mode == ("wal" if holds_wal_fix(driver.sqlite_version_info) else "delete")


def test_mlflow_database_is_refused_untouched(path):
    """A database with MLflow's tables is refused, named ways out, and not changed by a byte."""
    run(
        path,
        "CREATE TABLE experiments (id)",
        "CREATE TABLE registered_models (id)",
        "CREATE TABLE alembic_version (id)",
    )
    before = path.read_bytes()

    with pytest.raises(InvalidUri, match=r"turnout import mlflow.*mlflow server"):
        connect(f"sqlite:///{path}")

    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir() if not each.name.endswith(("-wal", "-shm"))] == [path.name]


def test_tf148_newer_schema_is_refused(sqlite_registry, path):
    """A database of a later Turnout is refused and not changed."""
    run(path, "UPDATE turnout_schema_version SET version_num = '9999'")

    with pytest.raises(InvalidUri, match="newer"):
        connect(sqlite_registry.uri)

    assert run(path, "SELECT version_num FROM turnout_schema_version") == [("9999",)]


def test_a_database_with_other_tables_is_joined(path):
    """Tables of somebody else stay beside ours."""
    run(path, "CREATE TABLE notes (text)", "INSERT INTO notes VALUES ('hello')")

    with connect(f"sqlite:///{path}") as registry:
        registry.create_registered_model("wine")

    assert run(path, "SELECT * FROM notes") == [("hello",)]


@pytest.mark.parametrize("content", [b"", b"this is no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def test_tf142_damaged_file_is_never_recreated(path, content):
    """A file that is no database is refused with guidance, and left as it is."""
    path.write_bytes(content)

    with pytest.raises(Unavailable, match="backup"):
        connect(f"sqlite:///{path}")

    assert path.read_bytes() == content


def test_tf142_damaged_page(sqlite_registry, path):
    """A page that was overwritten while the registry was closed gives Unavailable, not wrong rows."""
    for each in range(200):
        run(path, f"INSERT INTO turnout_models VALUES (NULL, 'm{each}', '{'x' * 500}', 1, 1, 0)")
    sqlite_registry.close()
    run(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(Unavailable, match="backup"), connect(sqlite_registry.uri) as registry:
        registry.search_registered_models()

    assert path.read_bytes() == bytes(content)


def test_tf140_locked_database(sqlite_registry, path):
    """While another process holds the write lock, reads go on and a write is Unavailable after the time-out."""
    sqlite_registry.create_registered_model("wine")
    other = driver.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begin = time.monotonic()

    assert sqlite_registry.get_registered_model("wine").name == "wine"
    with pytest.raises(Unavailable, match="locked"):
        sqlite_registry.create_registered_model("grape")

    assert 3 < time.monotonic() - begin < 30
    other.execute("ROLLBACK")
    other.close()
    assert sqlite_registry.create_registered_model("grape").name == "grape"


def test_moved_file_is_noticed_and_never_recreated(sqlite_registry, path):
    """While the file is away everything is Unavailable and no file appears; when it is back, all is well."""
    sqlite_registry.create_registered_model("wine")
    path.rename(f"{path}.away")

    for call in (
        sqlite_registry.search_registered_models,
        sqlite_registry.cursor,
        lambda: sqlite_registry.create_registered_model("grape"),
        lambda: sqlite_registry.wait("x", 0.1),
    ):
        with pytest.raises(Unavailable, match="no registry"):
            call()
    assert not path.exists()

    os.rename(f"{path}.away", path)
    assert sqlite_registry.get_registered_model("wine").name == "wine"
    assert sqlite_registry.create_registered_model("grape").name == "grape"


class Fleeting(SqliteFile):
    """Is gone, once it is to be, when it has just been seen."""

    is_to_go = False

    def _refuse_log_of_another(self, identity):
        if self.is_to_go:
            self.path.unlink()
        super()._refuse_log_of_another(identity)


def test_a_file_that_vanishes_while_it_is_opened(path):
    """Between the look for it and the next one: that is a registry that is away, too."""
    file = Fleeting(path)
    file.close()
    file.is_to_go = True

    with pytest.raises(Unavailable, match="no registry"):
        file.engine()


def test_replaced_file_is_opened_anew(sqlite_registry, path, tmp_path):
    """Another database in the file's place is what is read from then on, with another cursor."""
    sqlite_registry.create_registered_model("wine")
    before = sqlite_registry.cursor()
    (tmp_path / "other").mkdir()
    with connect(f"sqlite:///{tmp_path}/other/r.db") as other:
        other.create_registered_model("grape")

    remove_log(path)
    os.replace(tmp_path / "other" / "r.db", path)

    assert [each.name for each in sqlite_registry.search_registered_models()] == ["grape"]
    assert sqlite_registry.cursor() != before
    assert sqlite_registry.wait(before, 30) == sqlite_registry.cursor()
    with pytest.raises(NotFound):
        sqlite_registry.get_registered_model("wine")


def test_the_log_of_another_file_is_never_removed(sqlite_registry, path, tmp_path):
    """A file put in place beside the old one's log is refused with guidance; what others wrote there stays."""
    sqlite_registry.create_registered_model("before")
    run(path, f"VACUUM INTO '{tmp_path}/backup.db'")
    sqlite_registry.create_registered_model("after")
    os.replace(tmp_path / "backup.db", path)
    other = [sys.executable, "-c", CREATES, str(path)]
    subprocess.run([*other, "acknowledged"], cwd=ROOT, check=True)
    log = (tmp_path / "registry.db-wal").read_bytes() if holds_wal_fix(driver.sqlite_version_info) else b""

    if log:
        for call in (sqlite_registry.search_registered_models, lambda: sqlite_registry.create_registered_model("new")):
            with pytest.raises(Unavailable, match=r"stop every process.*remove registry\.db-wal and"):
                call()
        assert (tmp_path / "registry.db-wal").read_bytes() == log

    with connect(sqlite_registry.uri) as fresh:
        assert "acknowledged" in [each.name for each in fresh.search_registered_models()]


def test_restore_as_documented(sqlite_registry, path, tmp_path):
    """With everybody stopped and the log removed, the backup is what is read, by old and new processes alike."""
    sqlite_registry.create_registered_model("before")
    run(path, f"VACUUM INTO '{tmp_path}/backup.db'")
    sqlite_registry.create_registered_model("after")

    sqlite_registry.close()
    remove_log(path)
    os.replace(tmp_path / "backup.db", path)

    with connect(sqlite_registry.uri) as restored:
        restored.create_registered_model("since")
        assert [each.name for each in restored.search_registered_models()] == ["before", "since"]
    assert run(path, "PRAGMA integrity_check") == [("ok",)]


def test_times_of_moves_never_go_back(sqlite_registry, path):
    """When the clock was set back, a move is dated like the one before it, and the last one counts."""
    sqlite_registry.create_registered_model("wine", {"mlflow.prompt.is_prompt": "true"})
    for _ in range(2):
        sqlite_registry.create_model_version("wine", "dummy-source")
    sqlite_registry.set_registered_model_alias("wine", "champion", 1)
    run(path, "UPDATE turnout_alias_moves SET at = at + 3600000")

    sqlite_registry.set_registered_model_alias("wine", "champion", 2)

    second, first = sqlite_registry.get_alias_history("wine", "champion")
    assert second.at == first.at
    assert sqlite_registry.get_model_version_by_alias("wine", "champion", at=second.at).version == "2"


@pytest.fixture
def guarded():
    """A registry whose folder and file its reader may not write, and `as_reader`, to be that reader for a while."""
    folder = Path(tempfile.mkdtemp())
    path = folder / "r.db"
    with connect(f"sqlite:///{path}") as registry:
        registry.create_registered_model("wine")

    @contextmanager
    def as_reader():
        for each in folder.iterdir():
            each.chmod(0o444)
        folder.chmod(0o555)
        was = os.geteuid()
        importlib.import_module("watchfiles")  # now: the other user may not be able to read the interpreter's folder
        if was == 0:
            os.seteuid(pwd.getpwnam("nobody").pw_uid)
        try:
            yield
        finally:
            os.seteuid(was)
            folder.chmod(0o755)
            for each in folder.iterdir():
                each.chmod(0o644)

    yield path, as_reader
    shutil.rmtree(folder)


def test_tf141_a_folder_that_may_not_be_written(guarded):
    """Where only reading is allowed reads work and leave no file, and a write says that it is read-only."""
    path, as_reader = guarded

    with as_reader(), connect(f"sqlite:///{path}", create=False) as registry:
        assert [each.name for each in registry.search_registered_models()] == ["wine"]
        assert registry.wait(registry.cursor(), 0.01) == registry.cursor()
        with pytest.raises(Unavailable, match="read-only") as caught:
            registry.create_registered_model("grape")

    assert "try again" not in str(caught.value)
    assert [each.name for each in path.parent.iterdir()] == ["r.db"]


def test_tf141_a_reader_sees_what_the_owner_writes(guarded):
    """A reader who cannot lock the file still sees each change: while the owner has it open, and after."""
    path, as_reader = guarded
    with as_reader():
        reader = connect(f"sqlite:///{path}")
        assert [each.name for each in reader.search_registered_models()] == ["wine"]

    with connect(f"sqlite:///{path}") as owner:
        owner.create_registered_model("grape")
        with as_reader():
            assert [each.name for each in reader.search_registered_models()] == ["grape", "wine"]
    with as_reader():
        assert [each.name for each in reader.search_registered_models()] == ["grape", "wine"]
    with connect(f"sqlite:///{path}") as owner:
        owner.create_registered_model("apple")
    with as_reader():
        assert [each.name for each in reader.search_registered_models()] == ["apple", "grape", "wine"]
        reader.close()


def test_restored_backup_has_another_cursor(sqlite_registry, path, tmp_path):
    """After a restore the same number of changes gives another cursor than before."""
    sqlite_registry.create_registered_model("wine")
    with sqlite_registry:
        sqlite_registry.create_registered_model("grape")
        after = sqlite_registry.cursor()
    shutil.copy(path, tmp_path / "backup")
    run(tmp_path / "backup", "UPDATE turnout_state SET change_seq = change_seq - 1, change_nonce = 'old'")
    os.replace(tmp_path / "backup", path)

    with connect(sqlite_registry.uri) as restored:
        restored.create_registered_model("fruit")
        now = restored.cursor()

    assert now.split(".")[:2] == after.split(".")[:2]
    assert now != after


def test_folder_that_vanishes(tmp_path):
    """A wait on a folder that went away ends at its time-out without a busy loop."""
    (tmp_path / "mount").mkdir()
    with connect(f"sqlite:///{tmp_path}/mount/r.db") as registry:
        cursor = registry.cursor()
        (tmp_path / "mount").rename(tmp_path / "away")
        cpu = time.process_time()

        with pytest.raises(Unavailable):
            registry.wait(cursor, 0.5)

        assert time.process_time() - cpu < 0.4
        (tmp_path / "away").rename(tmp_path / "mount")
        assert registry.wait(cursor, 0) == cursor


def test_write_that_fails_half_way_leaves_nothing(sqlite_registry, path):
    """A change that the database refuses in the middle is undone as a whole."""
    run(path, "CREATE TRIGGER full BEFORE INSERT ON turnout_model_tags BEGIN SELECT RAISE(ABORT, 'no'); END")
    before = sqlite_registry.cursor()

    with pytest.raises(Exception, match="nothing was changed"):
        sqlite_registry.create_registered_model("wine", {"a": "b"})

    assert sqlite_registry.search_registered_models() == []
    assert sqlite_registry.cursor() == before


def test_tf071_too_many_aliases(sqlite_registry, path):
    """A model takes 1,000 aliases and no more."""
    sqlite_registry.create_registered_model("wine", {"mlflow.prompt.is_prompt": "true"})
    sqlite_registry.create_model_version("wine", "dummy-source")
    run(path, *[f"INSERT INTO turnout_aliases VALUES (1, 'a{each}', 1)" for each in range(1000)])

    with pytest.raises(InvalidParameter, match="1000"):
        sqlite_registry.set_registered_model_alias("wine", "one-more", 1)

    assert len(sqlite_registry.get_registered_model("wine").aliases) == 1000


def test_the_latest_is_read_at_one_moment(sqlite_registry, tmp_path):
    """Another process deletes it between the look for its number and the look at it."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {python_function: {}}")
    for _ in range(2):
        register_model(tmp_path / "model", "wine", client=sqlite_registry)
    engine = sqlite_registry._database._backend.engine()

    with connect(sqlite_registry.uri) as other:

        @event.listens_for(engine, "after_cursor_execute")
        def delete_it(_connection, _cursor, statement, *_):
            if "max(" in statement:
                with suppress(Unavailable):  # where readers hold up writers
                    other.delete_model_version("wine", 2)

        assert sqlite_registry.get_model_version_by_alias("wine", "latest").version == "2"


def test_deleting_forgets_unused_manifests(sqlite_registry, path):
    """A manifest stays as long as a version has it, and goes with the last one."""
    logged = sqlite_registry.tracking.create_logged_model("model")
    (path.parent / "m").mkdir()
    (path.parent / "m" / "MLmodel").write_text("x")
    sqlite_registry.artifacts.write_directory(path.parent / "m", f"0/models/{logged.model_id}/artifacts")
    sqlite_registry.tracking.finalize_logged_model(logged.model_id)
    sqlite_registry.create_registered_model("wine")
    sqlite_registry.create_model_version("wine", logged.model_uri)
    sqlite_registry.copy_model_version("models:/wine/1", "prod")
    assert run(path, "SELECT count(*) FROM turnout_manifest_files") == [(1,)]

    sqlite_registry.delete_registered_model("wine")
    assert run(path, "SELECT count(*) FROM turnout_manifest_files") == [(1,)]
    sqlite_registry.delete_model_version("prod", 1)

    assert run(path, "SELECT count(*) FROM turnout_manifest_files") == [(0,)]
    assert run(path, "PRAGMA foreign_key_check") == []


def test_alias_lookup_uses_indexes_only(sqlite_registry, path):
    """Nothing on the way from an alias to its version reads a whole table."""
    from registry.sql.aliases import VERSION_BY_ALIAS

    statement, values = VERSION_BY_ALIAS.for_sqlite({"name": "m", "alias": "champion"})
    connection = sqlite3.connect(path) if driver is sqlite3 else driver.connect(path)
    plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    connection.close()

    assert not [each for each in plan if str(each[3]).startswith("SCAN")]


def open_files(path):
    """Descriptors of this process that stand for the file or its log."""
    found = []
    for each in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{each}"))
    return [each for each in found if each.startswith(str(path))]


def test_reads_of_many_threads_and_then_close(sqlite_registry, path):
    """However many read at once, each gets its own rows, and after `close` the file is open no more."""
    for number in range(16):
        sqlite_registry.create_registered_model(f"m{number}")
    together = Barrier(16)

    def read(name):
        together.wait(30)
        return {sqlite_registry.get_registered_model(name).name for _ in range(50)}

    with ThreadPoolExecutor(16) as threads:
        found = {each: threads.submit(read, each) for each in (f"m{number}" for number in range(16))}
        assert all(future.result(60) == {name} for name, future in found.items())
    assert open_files(path)
    sqlite_registry.close()
    assert open_files(path) == []


def test_a_reader_that_is_in_use_is_closed_when_it_comes_back(path):
    """Closing takes no connection out of the hands of the thread that reads with it."""
    connection = driver.connect(path, check_same_thread=False)
    readers = Readers(lambda: connection)
    connection.create_function("close_now", 0, lambda: readers.close() or 7)

    assert readers.rows("SELECT close_now() + ?", [1]) == [(8,)]

    with pytest.raises(driver.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
