"""PostgreSQL: what happens when the server restarts, drops connections, or is somebody else's."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest

from registry.connection import connect
from registry.errors import InvalidUri, Unavailable


@pytest.fixture
def address(postgres_url):
    """The address of a new registry."""
    return postgres_url()


def database_of(address):
    return address.split("/")[3].split("?")[0]


@pytest.fixture
def kill_connections(postgres_cluster, address):
    """Ends every connection to the registry's database, as an administrator may."""
    name = database_of(address)

    def kill():
        postgres_cluster.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    return kill


def test_tf143_dropped_connections_heal(address, kill_connections):
    """After every connection was dropped, reads and writes work at once."""
    with connect(address) as registry:
        registry.create_registered_model("wine")

        kill_connections()
        assert registry.get_registered_model("wine").name == "wine"
        kill_connections()
        assert registry.create_registered_model("grape").name == "grape"
        kill_connections()
        assert len(registry.search_registered_models()) == 2


def test_tf143_a_wait_survives_a_dropped_connection(address, kill_connections):
    """A wait whose connection was dropped still sees the next change."""
    with connect(address) as registry, connect(address) as other:
        cursor = registry.cursor()
        seen: list[str] = []
        thread = threading.Thread(target=lambda: seen.append(registry.wait(cursor, 60)))
        thread.start()

        kill_connections()
        other.create_registered_model("wine")
        thread.join(30)

        assert seen == [other.cursor()]


def test_tf143_restart(postgres_cluster, address):
    """While the server is away calls are Unavailable; when it is back the same registry works."""
    with connect(address) as registry:
        registry.create_registered_model("wine")
        cursor = registry.cursor()

        postgres_cluster.stop()
        try:
            for call in (
                registry.cursor,
                lambda: registry.create_registered_model("grape"),
                lambda: registry.wait(cursor, 0.1),
            ):
                with pytest.raises(Unavailable):
                    call()
        finally:
            postgres_cluster.start()

        assert registry.wait(cursor, 0) == cursor
        assert [each.name for each in registry.search_registered_models()] == ["wine"]


def test_closing_leaves_no_connection_behind(postgres_cluster, address):
    """A registry that is closed while threads use it ends each of their connections once it comes back."""
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database_of(address)}'"

    def use(registry, started):
        while True:
            registry.search_registered_models()
            started.release()

    with psycopg.connect(postgres_cluster.url("postgres"), autocommit=True) as onlooker:
        for _ in range(5):
            started = threading.Semaphore(0)
            with connect(address) as registry, ThreadPoolExecutor(4) as threads:
                users = [threads.submit(use, registry, started) for _ in range(3)]
                waiter = threads.submit(registry.wait, registry.cursor(), 60)
                for _ in range(50):
                    started.acquire()
                registry.close()
            assert [type(user.exception()) for user in users] == [Unavailable] * 3
            assert waiter.exception() is None

            deadline = time.monotonic() + 10
            while (left := onlooker.execute(count).fetchone()) != (0,):  # the server notices a moment later
                assert time.monotonic() < deadline, left


def test_mlflow_database_is_refused_untouched(postgres_cluster):
    """A database with MLflow's tables is refused and gets none of ours."""
    address = postgres_cluster.new_database()
    name = database_of(address)
    postgres_cluster.execute("CREATE TABLE registered_models (name text)", name)

    with pytest.raises(InvalidUri, match="turnout import mlflow"):
        connect(address)

    with pytest.raises(Exception, match="does not exist"):
        postgres_cluster.execute("SELECT * FROM turnout_state", name)


def test_tf145_a_lock_that_is_not_given_back(postgres_cluster, address):
    """A write that another session blocks is Unavailable after the lock time-out; reads go on."""
    with connect(address) as registry, psycopg.connect(address) as other:
        other.execute("SELECT * FROM turnout_state FOR UPDATE")

        with pytest.raises(Unavailable, match="lock"):
            registry.create_registered_model("wine")

        assert registry.search_registered_models() == []
        other.rollback()
        assert registry.create_registered_model("wine").name == "wine"


def test_the_time_of_a_move_is_after_its_wait(postgres_cluster, address):
    """A move that waited for another writer is dated after the wait, so `at` and what was seen then agree."""
    with connect(address) as registry, psycopg.connect(address) as other:
        registry.create_registered_model("wine", {"mlflow.prompt.is_prompt": "true"})
        for _ in range(2):
            registry.create_model_version("wine", "dummy-source")
        registry.set_registered_model_alias("wine", "champion", 1)
        other.execute("SELECT * FROM turnout_state FOR UPDATE")
        moving = threading.Thread(target=registry.set_registered_model_alias, args=("wine", "champion", 2))
        moving.start()
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while other.execute(blocked).fetchone() == (0,):
            assert moving.is_alive()

        meanwhile = datetime.now(UTC)
        seen = registry.get_model_version_by_alias("wine", "champion").version
        moving.join(0.01)
        other.rollback()
        moving.join()

        assert seen == "1"
        assert registry.get_model_version_by_alias("wine", "champion").version == "2"
        assert registry.get_model_version_by_alias("wine", "champion", at=meanwhile).version == "1"


def test_a_standby_is_read_only(postgres_cluster, address):
    """A database that takes no writes is read as ever, and a write is refused in a sentence that says why."""
    name = database_of(address)
    postgres_cluster.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    with connect(address) as registry:
        assert registry.search_registered_models() == []
        with pytest.raises(Unavailable, match="read-only"):
            registry.create_registered_model("wine")


def test_unknown_database(postgres_cluster):
    """A database that is not there is Unavailable, named without SQL."""
    with pytest.raises(Unavailable, match="nowhere"):
        connect(postgres_cluster.url("nowhere"))
