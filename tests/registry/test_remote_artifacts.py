"""Files through a server's artifact proxy: whole after any number of cuts, and nothing is fetched twice for nothing."""

from __future__ import annotations

import os
import random

import pytest

from registry.connection import connect
from registry.errors import AlreadyExists, CorruptModel, InvalidParameter, NotFound, RegistryError, Unavailable
from registry.models.cache import fetch_model
from registry.models.integrity import compute_manifest
from registry.remote import artifacts
from tests.registry.between import between, page

SIZE = 3_000_000
PREFIX = "mlflow-artifacts:/"


@pytest.fixture
def relay(our_server):
    with between(our_server) as relay:
        yield relay


@pytest.fixture
def client(relay, monkeypatch):
    """A client of our server through the relay, which soon tries again."""
    monkeypatch.setattr(artifacts, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(artifacts, "LONGEST_PAUSE_S", 0.02)
    with connect(relay.address, actor="ana") as client:
        yield client


@pytest.fixture
def content():
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def logged(client):
    """A logged model, and the path of its files."""
    logged = client.tracking.create_logged_model("model")
    return logged, logged.artifact_uri.removeprefix(PREFIX)


@pytest.fixture
def path(client, logged, content):
    """A large file in the store."""
    _, prefix = logged
    with client.artifacts.create(f"{prefix}/weights.bin") as file:
        file.write(content)
    return f"{prefix}/weights.bin"


@pytest.fixture
def version(client, logged, path):
    """A version with a large file and a small one."""
    model, prefix = logged
    with client.artifacts.create(f"{prefix}/MLmodel") as file:
        file.write(b"flavors: {}")
    client.tracking.finalize_logged_model(model.model_id)
    client.create_registered_model("wine")
    return client.create_model_version("wine", model.model_uri)


def test_a_reading_goes_on_after_cuts(relay, client, path, content):
    """After each cut only what is missing is sent again."""
    relay.cut_after(1_000_000, 700_000, 400_000)
    before = relay.bytes_down

    assert b"".join(client.artifacts.read(path)) == content
    assert relay.bytes_down - before < SIZE * 1.1


def test_a_reading_without_ranges_goes_on_after_a_cut(relay, client, path, content, monkeypatch):
    """Where the server tells no tag, as MLflow's, the beginning is read again and compared."""
    monkeypatch.setattr(artifacts, "_strong_tag", lambda download: None)
    relay.cut_after(1_000_000, 700_000, 2_000_000)

    assert b"".join(client.artifacts.read(path)) == content


@pytest.mark.parametrize("has_tags", [True, False])
def test_a_file_that_changes_while_it_is_read_is_refused(relay, client, path, content, monkeypatch, has_tags):
    """The end of another file is never put behind the beginning of the old one."""
    if not has_tags:
        monkeypatch.setattr(artifacts, "_strong_tag", lambda download: None)
    relay.cut_after(1_000_000)
    chunks = client.artifacts.read(path)
    next(chunks)
    with connect(relay.address) as other, other.artifacts.create(path) as file:
        file.write(bytes(reversed(content)))

    with pytest.raises(RegistryError, match="changed"):
        b"".join(chunks)


def test_a_reading_is_given_up_at_last(relay, client, path):
    """A server that stays away is Unavailable."""
    relay.answer(page("502 Bad Gateway"))

    with pytest.raises(Unavailable, match="502"):
        b"".join(client.artifacts.read(path))


@pytest.mark.parametrize("start", [0, 1, SIZE - 1, SIZE])
def test_a_reading_from_the_middle(client, path, content, start):
    """The bytes from any place on, none at the end."""
    assert b"".join(client.artifacts.read(path, start=start)) == content[start:]


def test_a_stream(client, path, content):
    """`open` gives a file that is read in pieces of any size."""
    with client.artifacts.open(path) as file:
        assert file.read(10) == content[:10]
        assert file.read() == content[10:]


def test_missing_files(client, logged):
    """A file that is not there is NotFound, and an empty folder is empty."""
    _, prefix = logged

    for ask in (client.artifacts.size, lambda path: list(client.artifacts.read(path))):
        with pytest.raises(NotFound):
            ask(f"{prefix}/none")
    assert client.artifacts.list_files(prefix) == []
    with pytest.raises(NotFound):
        client.artifacts.manifest(prefix)
    client.artifacts.delete(f"{prefix}/none")


def test_a_folder_goes_there_and_back(client, logged, tmp_path):
    """Odd names, empty files and folders in folders arrive as they were."""
    _, prefix = logged
    names = ["MLmodel", "a b.txt", "100%.txt", "%41.txt", "é/ü.bin", "+&=?;.txt", "deep/er/empty"]
    for name in names:
        file = tmp_path / "given" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode() if "empty" not in name else b"")

    manifest = client.artifacts.write_directory(tmp_path / "given", prefix)

    assert manifest == compute_manifest(tmp_path / "given") == client.artifacts.manifest(prefix)
    assert [path for path, _ in client.artifacts.list_files(prefix)] == sorted(names)
    assert client.artifacts.size(f"{prefix}/100%.txt") == len("100%.txt")
    with pytest.raises(AlreadyExists):
        client.artifacts.write_directory(tmp_path / "given", prefix)
    client.artifacts.delete(prefix)
    assert client.artifacts.list_files(prefix) == []


def test_links_are_not_uploaded(client, logged, tmp_path):
    """A symbolic link in a folder is refused before anything is sent."""
    _, prefix = logged
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "MLmodel").write_text("x")
    os.symlink("/etc/hostname", tmp_path / "given" / "link")

    with pytest.raises(InvalidParameter, match="link"):
        client.artifacts.write_directory(tmp_path / "given", prefix)
    assert client.artifacts.list_files(prefix) == []


def test_an_upload_that_fails_leaves_nothing(client, logged):
    """What is being written when an error comes is not sent."""
    _, prefix = logged

    writing = client.artifacts.create(f"{prefix}/file")
    writing.__enter__().write(b"half")
    assert writing.__exit__(RuntimeError, RuntimeError(), None) is False

    assert client.artifacts.list_files(prefix) == []


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a\\b", "a#b", "%2e%2e/x", "a//b", ""])
def test_paths_that_leave_the_root_are_refused(client, path):
    """Before anything is sent."""
    with pytest.raises(InvalidParameter):
        b"".join(client.artifacts.read(path))


def test_a_model_is_fetched_through_cuts(relay, client, version, tmp_path):
    """What is in the cache is what was registered."""
    relay.cut_after(500, 600_000, 900_000)

    path = fetch_model(version, tmp_path / "cache", client)

    assert compute_manifest(path).digest == version.digest
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [path.name]


def test_a_fetch_that_failed_is_taken_up_again(relay, client, version, tmp_path, monkeypatch):
    """What arrived before the server went is not downloaded a second time."""
    monkeypatch.setattr(artifacts, "FRUITLESS_TRIES", 1)
    manifest = client.get_model_version_manifest("wine", 1)
    monkeypatch.setattr(client, "get_model_version_manifest", lambda *place: manifest)
    place = version.name, client.get_model_version_download_uri("wine", 1)
    monkeypatch.setattr(client, "get_model_version_download_uri", lambda *_: place[1])
    listing = client.artifacts.list_files(place[1].removeprefix(PREFIX))
    monkeypatch.setattr(client.artifacts, "list_files", lambda prefix: listing)
    relay.cut_after(SIZE - 1_000_000, 0, 0, 0, 0)
    with pytest.raises(Unavailable):
        fetch_model(version, tmp_path / "cache", client)
    relay.relay()
    before = relay.bytes_down

    path = fetch_model(version, tmp_path / "cache", client)

    assert compute_manifest(path).digest == version.digest
    assert relay.bytes_down - before < SIZE / 2
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [path.name]


def test_a_half_that_rotted_is_fetched_again(client, version, tmp_path):
    """What an earlier attempt left counts only if the whole then is what was registered."""
    folder = tmp_path / "cache" / f".partial-{version.digest.removeprefix('sha256:')}"
    folder.mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"rotten")
    (folder / "stranger.py").write_text("not of this model")

    path = fetch_model(version, tmp_path / "cache", client)

    assert compute_manifest(path).digest == version.digest


def test_files_that_differ_from_the_manifest_are_refused(client, version, tmp_path, monkeypatch):
    """A server that gives other bytes than were registered gets nothing into the cache."""
    monkeypatch.setattr(client.artifacts, "read", lambda *_: iter([b"other"]))

    with pytest.raises(CorruptModel):
        fetch_model(version, tmp_path / "cache", client)

    assert list((tmp_path / "cache").iterdir()) == []
