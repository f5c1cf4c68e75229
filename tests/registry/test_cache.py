"""The cache of verified copies: what is in it is what was registered, whoever else writes into it."""

from __future__ import annotations

import multiprocessing
import os
import stat
from contextlib import ExitStack
from pathlib import Path

import pytest

from registry import cached_model, fetch_model, register_model, snapshot_directory
from registry.errors import CorruptModel, InvalidModel, InvalidParameter, NotFound
from registry.models.cache import _incoming
from registry.models.integrity import compute_manifest


@pytest.fixture
def directory(tmp_path):
    root = tmp_path / "given"
    (root / "code").mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {python_function: {}}")
    (root / "code" / "x.py").write_text("x = 1")
    return root


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def version(sqlite_registry, directory):
    return register_model(directory, "wine", client=sqlite_registry)


def stored(registry, name):
    (file,) = Path(registry.artifacts.root).rglob(name)
    return file


def test_a_version_is_copied_under_its_digest(sqlite_registry, version, cache):
    """Private to us, complete, and found again by its digest."""
    path = fetch_model(version, cache, sqlite_registry)

    assert path == cache / version.digest.removeprefix("sha256:")
    assert compute_manifest(path).digest == version.digest
    assert cached_model(cache, version.digest) == path
    for each in [cache, path, *path.rglob("*")]:
        assert stat.S_IMODE(each.stat().st_mode) == (0o700 if each.is_dir() else 0o600)
    assert [each.name for each in cache.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["MLmodel", "x.py"])
def test_changed_files_of_the_registry_are_refused(sqlite_registry, version, cache, name):
    """One altered byte, and nothing enters the cache."""
    stored(sqlite_registry, name).write_text("y = 2")

    with pytest.raises(CorruptModel, match=f"changed: .*{name}"):
        fetch_model(version, cache, sqlite_registry)

    assert list(cache.iterdir()) == []


def test_added_and_removed_files_are_refused(sqlite_registry, version, cache):
    """The manifest is the complete set."""
    stored(sqlite_registry, "x.py").rename(stored(sqlite_registry, "MLmodel").with_name("extra.py"))

    with pytest.raises(CorruptModel, match=r"added: extra.py; removed: code/x.py"):
        fetch_model(version, cache, sqlite_registry)


def test_files_that_are_gone_are_not_found(sqlite_registry, version, cache):
    """The sentence says where they should be."""
    for name in ("MLmodel", "x.py"):
        stored(sqlite_registry, name).unlink()

    with pytest.raises(NotFound, match="has no files"):
        fetch_model(version, cache, sqlite_registry)


def test_a_spoilt_entry_is_replaced(sqlite_registry, version, cache):
    """Each use verifies; the registry's files mend what changed."""
    path = fetch_model(version, cache, sqlite_registry)
    (path / "code" / "x.py").write_text("evil = 1")

    with pytest.raises(CorruptModel, match="has changed"):
        cached_model(cache, version.digest)
    assert fetch_model(version, cache, sqlite_registry) == path

    assert (path / "code" / "x.py").read_text() == "x = 1"
    assert [each.name for each in cache.iterdir()] == [path.name]


def test_an_intact_entry_needs_no_files_of_the_registry(sqlite_registry, version, cache):
    """A promotion by copy, or a second start, downloads nothing."""
    path = fetch_model(version, cache, sqlite_registry)
    stored(sqlite_registry, "MLmodel").unlink()

    assert fetch_model(version, cache, sqlite_registry) == path


@pytest.mark.parametrize("digest", ["sha256:../../x", "md5:00", "sha256:" + "A" * 64, ""])
def test_a_digest_names_no_other_place(cache, digest):
    """Only 64 hex digits make a path."""
    with pytest.raises(InvalidParameter, match="no digest"):
        cached_model(cache, digest)


def test_an_unknown_digest_is_not_found(cache):
    """The sentence names the cache."""
    with pytest.raises(NotFound, match="holds no model"):
        cached_model(cache, "sha256:" + "0" * 64)


def test_a_directory_is_copied_the_same_way(directory, cache):
    """A snapshot does not follow later changes of the directory."""
    path, digest = snapshot_directory(directory, cache)
    (directory / "code" / "x.py").write_text("x = 2")

    assert (path / "code" / "x.py").read_text() == "x = 1"
    assert path.name == digest.removeprefix("sha256:")
    assert snapshot_directory(directory, cache)[1] != digest


def test_links_are_not_copied(directory, cache):
    """A directory with a link is refused, and nothing stays in the cache."""
    (directory / "link").symlink_to("/etc/passwd")

    with pytest.raises(InvalidModel, match="'link'"):
        snapshot_directory(directory, cache)

    assert list(cache.iterdir()) == []


def test_abandoned_copies_are_removed(directory, cache):
    """What a killed process left a day ago goes; what another one is writing stays."""
    for name in (".incoming-old", ".evicted-old", ".incoming-new"):
        (cache / name).mkdir(parents=True)
    for name in (".incoming-old", ".evicted-old"):
        os.utime(cache / name, (0, 0))

    path, _ = snapshot_directory(directory, cache)

    assert {each.name for each in cache.iterdir()} == {".incoming-new", path.name}


def take_snapshots(directory, cache, start):
    start.wait()
    for _ in range(20):
        path, digest = snapshot_directory(directory, cache)
        assert cached_model(cache, digest) == path


def test_processes_may_add_the_same_entry_at_once(directory, cache):
    """Whoever is slower takes what is there."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    workers = [context.Process(target=take_snapshots, args=(directory, cache, start)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1


def test_a_copy_that_is_done_takes_none_with_it_that_has_begun(cache):
    """Once it has its entry's name, another process may be at work under the name that it had."""
    name = "0" * 64

    with ExitStack() as another:
        with _incoming(cache, name) as done:
            done.rename(cache / name)
            begun = another.enter_context(_incoming(cache, name))

        assert begun.is_dir()
