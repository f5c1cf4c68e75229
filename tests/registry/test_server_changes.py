"""The change feed over real sockets: long polls, event streams, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time

import httpx2
import psutil
import pytest

from registry.connection import connect
from registry.server import changes
from tests.registry.serving import served

SEEN_WITHIN_S = 0.1
MANY = 250


@pytest.fixture
def registry(sqlite_registry):
    """A registry with a model named wine."""
    sqlite_registry.create_registered_model("wine")
    return sqlite_registry


@pytest.fixture
def server():
    """What ends with the server: closed by the fixture, or by a test before."""
    with contextlib.ExitStack() as server:
        yield server


@pytest.fixture
def url(server, registry):
    return "http://{}:{}".format(*server.enter_context(served(registry)))


@pytest.fixture
def client(url):
    with httpx2.Client(base_url=url, timeout=60) as client:
        yield client


def poll(client, cursor=None, timeout=30):
    parameters = {"timeout": timeout} | ({"cursor": cursor} if cursor is not None else {})
    answer = client.get(changes.PATH, params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(lines):
    """The events of a stream as dictionaries of their fields; comments are {}."""
    event = {}
    for line in lines:
        if not line:
            yield event
            event = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            event[key] = value


@contextlib.contextmanager
def stream(client, **headers):
    with client.stream("GET", changes.PATH, headers={"accept": "text/event-stream"} | headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield events(answer.iter_lines())


def test_poll_without_a_cursor(client, registry):
    """Who has no cursor is given the current one at once."""
    assert poll(client) == {"cursor": registry.cursor(), "changes": [], "reset": False}


def test_poll_sees_a_change_within_100_ms(client, registry):
    """A poll that waits is answered when the change happens, with the change."""
    cursor = poll(client)["cursor"]
    committed = []

    def change():
        registry.set_registered_model_tag("wine", "a", "b")
        committed.append(time.monotonic())

    timer = threading.Timer(0.3, change)
    timer.start()
    found = poll(client, cursor)
    seen = time.monotonic()
    timer.join()

    assert found["changes"] == [{"kind": "tag", "name": "wine", "action": "set", "key": "a"}]
    assert found["cursor"] == registry.cursor()
    assert seen - committed[0] < SEEN_WITHIN_S


def test_poll_times_out(client):
    """A poll that nothing happens in gives the same cursor and no changes, at its timeout."""
    cursor = poll(client)["cursor"]
    began = time.monotonic()

    found = poll(client, cursor, timeout=0.5)

    assert found == {"cursor": cursor, "changes": [], "reset": False}
    assert 0.4 < time.monotonic() - began < 5


def test_poll_with_an_old_cursor(client, registry):
    """What happened before the poll is told at once."""
    cursor = poll(client)["cursor"]
    registry.create_registered_model("a")
    registry.create_registered_model("b")

    found = poll(client, cursor, timeout=0)

    assert [each["name"] for each in found["changes"]] == ["a", "b"]


@pytest.mark.parametrize("cursor", ["unknown", "a.1.b", "\n", "é" * 300])
def test_poll_with_an_unknown_cursor(client, registry, cursor):
    """A cursor that is not of this registry is answered at once with the current one, and says `reset`."""
    assert poll(client, cursor) == {"cursor": registry.cursor(), "changes": [], "reset": True}


def test_stream(client, registry):
    """A stream gives its place first, then each change as an event of its kind, with the cursor after it."""
    with stream(client) as found:
        assert next(found) == {"id": registry.cursor()}
        registry.create_registered_model("a")
        event = next(found)

        assert event["event"] == "model"
        assert event["id"] == registry.cursor()
        assert json.loads(event["data"]) == {"kind": "model", "name": "a", "action": "created"}


def test_stream_sees_a_change_within_100_ms(client, registry):
    """An event is there when the change is."""
    with stream(client) as found:
        next(found)
        registry.create_registered_model("a")
        committed = time.monotonic()
        next(found)

    assert time.monotonic() - committed < SEEN_WITHIN_S


def test_stream_is_resumed(client, registry):
    """`Last-Event-ID` gives what happened while nobody listened."""
    with stream(client) as found:
        place = next(found)["id"]
    registry.create_registered_model("a")
    registry.create_registered_model("b")

    with stream(client, **{"last-event-id": place}) as found:
        assert next(found) == {}
        resumed = [next(found), next(found)]

    assert [json.loads(each["data"])["name"] for each in resumed] == ["a", "b"]
    assert resumed[1]["id"] == registry.cursor()


def test_changes_made_together_share_a_cursor(client, registry, make_version):
    """The cursor comes with the last of them: a cut between two repeats the first, and never loses the second."""
    make_version()
    with stream(client, **{"last-event-id": registry.cursor()}) as found:
        next(found)
        registry.copy_model_version("models:/wine/1", "grape")
        first, second = next(found), next(found)

    assert [first["event"], second["event"]] == ["model", "version"]
    assert "id" not in first
    assert second["id"] == registry.cursor()


def test_stream_with_an_unknown_place(client, registry):
    """Who resumes from where the registry knows nothing of is told to look at everything, then goes on."""
    with stream(client, **{"last-event-id": "other.7.abc"}) as found:
        assert next(found) == {}
        assert next(found) == {"event": "reset", "id": registry.cursor(), "data": "{}"}
        registry.create_registered_model("a")
        assert next(found)["event"] == "model"


def test_stream_beats(client, monkeypatch):
    """While nothing happens, a comment shows that the stream lives."""
    monkeypatch.setattr(changes, "HEARTBEAT_S", 0.1)
    with stream(client) as found:
        next(found)
        assert [next(found), next(found)] == [{}, {}]


def test_many_listeners_cost_no_threads(url, registry):
    """Five hundred polls and streams at once hear of a change, on the threads that were there before."""

    async def listen():
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:
            cursor = (await client.get(changes.PATH)).json()["cursor"]
            await client.get(changes.PATH, params={"cursor": cursor, "timeout": 0})
            before = threads()
            async with asyncio.TaskGroup() as tasks:
                polls = [tasks.create_task(client.get(changes.PATH, params={"cursor": cursor})) for _ in range(MANY)]
                opened = asyncio.Semaphore(0)
                streams = [tasks.create_task(first_event(client, opened)) for _ in range(MANY)]
                for _ in range(MANY):
                    await opened.acquire()
                await all_connected(url, 2 * MANY)
                during = threads()
                began = time.monotonic()
                await asyncio.to_thread(registry.create_registered_model, "a")
            return before, during, polls, streams, time.monotonic() - began

    async def first_event(client, opened):
        async with client.stream("GET", changes.PATH, headers={"accept": "text/event-stream"}) as answer:
            lines = answer.aiter_lines()
            await anext(lines)
            opened.release()
            return [line async for line in take_until_data(lines)]

    async def take_until_data(lines):
        async for line in lines:
            yield line
            if line.startswith("data"):
                return

    before, during, polls, streams, took_s = asyncio.run(listen())

    assert all(each.result().json()["changes"][0]["name"] == "a" for each in polls)
    assert all(each.result()[-1].startswith("data") for each in streams)
    assert during <= before
    assert took_s < 10


def threads():
    return psutil.Process().num_threads()


async def all_connected(url, count):
    port = int(url.rpartition(":")[2])
    while sum(each.laddr.port == port for each in psutil.Process().net_connections("tcp")) < count:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)


def test_stop_ends_listeners(server, url, client):
    """A graceful stop is not held by those who listen: they are answered, with the cursor that they had."""
    cursor = poll(client)["cursor"]
    found = []
    polling = threading.Thread(target=lambda: found.append(poll(client, cursor)))
    with httpx2.Client(base_url=url, timeout=60) as other, stream(other) as heard:
        next(heard)
        polling.start()
        time.sleep(0.3)

        began = time.monotonic()
        server.close()
        took_s = time.monotonic() - began

        polling.join()
        assert not any(heard)
    assert found == [{"cursor": cursor, "changes": [], "reset": False}]
    assert took_s < 5


def test_old_cursor_after_a_restart(registry):
    """A new server on the same database goes on where the old one ended."""
    with served(registry) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}") as client:
        cursor = poll(client)["cursor"]
    registry.create_registered_model("a")

    with served(registry) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}") as client:
        found = poll(client, cursor)

    assert [each["name"] for each in found["changes"]] == ["a"]
    assert found["reset"] is False


def test_database_goes_away_and_comes_back(tmp_path, monkeypatch):
    """While the database is away a poll waits for it, and hears of the change that is made when it is back."""
    monkeypatch.setattr(changes, "WAIT_S", 0.2)
    path, away = tmp_path / "registry.db", tmp_path / "away"
    with (
        connect(f"sqlite:///{path}") as registry,
        served(registry) as (host, port),
        httpx2.Client(base_url=f"http://{host}:{port}", timeout=60) as client,
    ):
        cursor = poll(client)["cursor"]
        away.mkdir()
        for file in tmp_path.glob("registry.db*"):
            file.rename(away / file.name)
        assert client.get(changes.PATH, params={"cursor": "x", "timeout": 0.5}).status_code == 503
        threading.Timer(0.5, come_back, (away, tmp_path, path)).start()
        found = poll(client, cursor)

    assert [each["name"] for each in found["changes"]] == ["grape"]


def come_back(away, folder, path):
    for file in away.iterdir():
        file.rename(folder / file.name)
    with connect(f"sqlite:///{path}") as registry:
        registry.create_registered_model("grape")
