"""The local artifact store: what is written is read back, and nothing outside of its root is touched."""

from __future__ import annotations

import os
import stat
import time
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.artifacts import FileDigest, Manifest, check_path
from registry.errors import AlreadyExists, InvalidParameter, NotFound
from registry.stores.local import LocalArtifacts

ESCAPES = [
    "",
    "..",
    ".",
    "/",
    "/etc",
    "../x",
    "a/../b",
    "a/./b",
    "a//b",
    "a/",
    "a\\b",
    "\\\\host\\x",
    "%2e%2e/x",
    "a/%2e%2e/x",
    "%252e%252e/x",
    "%25252e%25252e/x",
    "%2fetc",
    "a%5cb",
    "a\0b",
    "a%00b",
    "a\nb",
    "a#b",
    "a\ud800",
    "x" * 256,
    "a/" * 1500 + "a",
    ".turnout-x/a",
    None,
    3,
]


@pytest.fixture
def store(tmp_path):
    """An empty store in a folder that is not there yet."""
    return LocalArtifacts(tmp_path / "root")


@pytest.fixture
def model(tmp_path):
    """A directory with files in two levels, one of them empty."""
    folder = tmp_path / "model"
    (folder / "code" / "deep").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code" / "deep" / "é %41+b.py").write_bytes(b"x" * 3_000_000)
    (folder / "code" / "empty").write_bytes(b"")
    return folder


def test_write_and_read(store, model):
    """A directory is read back byte for byte, and its manifest names every file."""
    written = store.write_directory(model, "models/m-1/artifacts")

    assert store.list_files("models/m-1/artifacts") == [
        ("MLmodel", 12),
        ("code/deep/é %41+b.py", 3_000_000),
        ("code/empty", 0),
    ]
    assert b"".join(store.read("models/m-1/artifacts/code/deep/é %41+b.py", 1000)) == b"x" * 3_000_000
    with store.open("models/m-1/artifacts/MLmodel") as file:
        assert file.read() == b"flavors: {}\n"
    assert store.manifest("models/m-1/artifacts") == written
    assert written.files[0] == FileDigest("MLmodel", 12, sha256(b"flavors: {}\n").hexdigest())
    assert store.list_files("models") == [(f"m-1/artifacts/{each.path}", each.size) for each in written.files]


def test_digest_depends_on_every_byte_and_path(store, model):
    """Two directories have one digest exactly when they hold the same files under the same paths."""
    first = store.write_directory(model, "a")
    assert store.write_directory(model, "b").digest == first.digest

    (model / "code" / "empty").rename(model / "code" / "void")

    assert store.write_directory(model, "c").digest != first.digest
    assert Manifest(tuple(reversed(first.files))).digest == first.digest


def test_modes(store, model, tmp_path):
    """Folders can be entered, and files be read, by their owner alone."""
    store.write_directory(model, "models/m-1")

    for folder, _, files in os.walk(tmp_path / "root"):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert all(stat.S_IMODE(os.stat(f"{folder}/{each}").st_mode) == 0o600 for each in files)


def test_nothing_is_written_over(store, model):
    """A place that has files is never written again."""
    before = store.write_directory(model, "a/b")
    (model / "MLmodel").write_text("other")

    for prefix in ("a/b", "a"):
        with pytest.raises(AlreadyExists):
            store.write_directory(model, prefix)
    with pytest.raises(InvalidParameter):
        store.write_directory(model, "a/b/MLmodel/c")

    assert store.manifest("a/b") == before


def test_tf151_refused_directory_leaves_nothing(store, model, tmp_path):
    """A directory with a link, without files, or that is none, is refused and nothing of it stays."""
    os.symlink("/etc/passwd", model / "zlink")
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "empty" / "pipe")
    for source in (model, tmp_path / "empty", tmp_path / "none", model / "MLmodel"):
        with pytest.raises(InvalidParameter):
            store.write_directory(source, "a")
    (model / "zlink").unlink()
    os.symlink("/etc", model / "code" / "linked")
    with pytest.raises(InvalidParameter, match="link"):
        store.write_directory(model, "a")

    assert store.list_files("") == []
    assert [each for each in os.listdir(tmp_path / "root") if each != "a"] == []


def test_missing(store, model):
    """Reading what is not there is NotFound; listing it is empty; a folder is no file."""
    assert store.list_files("none") == []
    with pytest.raises(NotFound):
        store.manifest("none")
    store.write_directory(model, "a")
    for path in ("none", "a", "a/code", "a/none/x", "a/MLmodel/x"):
        with pytest.raises(NotFound), store.open(path):
            pass
        with pytest.raises(NotFound):
            list(store.read(path))


@pytest.mark.parametrize("path", ESCAPES)
def test_tf011_to_tf013_escapes(store, model, tmp_path, path):
    """A path that could lead out of the root is refused by every method, and nothing is touched."""
    store.write_directory(model, "a")
    before = sorted(os.walk(tmp_path))

    for call in (
        lambda: list(store.read(path)),
        lambda: store.open(path).__enter__(),
        lambda: store.write_directory(model, path),
        lambda: store.delete(path),
        lambda: store.list_files(path) if path else check_path(path),
        lambda: store.manifest(path) if path else check_path(path),
    ):
        with pytest.raises(InvalidParameter):
            call()

    assert sorted(os.walk(tmp_path)) == before


def test_tf015_links_in_the_store(store, model, tmp_path):
    """A link in the store is never followed: not listed, not read, not written through, not digested."""
    store.write_directory(model, "a")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("s3cret")
    os.symlink(tmp_path / "secret", tmp_path / "root" / "a" / "folder")
    os.symlink(tmp_path / "secret" / "key", tmp_path / "root" / "a" / "file")
    os.symlink(tmp_path / "secret", tmp_path / "root" / "out")

    assert [path for path, _ in store.list_files("a")] == ["MLmodel", "code/deep/é %41+b.py", "code/empty"]
    assert store.list_files("out") == []
    for path in ("a/file", "a/folder/key", "out/key"):
        with pytest.raises(NotFound), store.open(path):
            pass
    with pytest.raises(InvalidParameter, match="link"):
        store.manifest("a")
    with pytest.raises(InvalidParameter):
        store.write_directory(model, "out/x")
    store.delete("out/key")
    store.delete("a/folder")
    assert (tmp_path / "secret" / "key").read_text() == "s3cret"


def test_delete(store, model):
    """Deleting removes a file or a folder; what is absent stays so."""
    store.write_directory(model, "a/b")

    store.delete("a/b/MLmodel")
    store.delete("a/b/none")
    store.delete("none/at/all")
    assert [path for path, _ in store.list_files("a/b")] == ["code/deep/é %41+b.py", "code/empty"]
    store.delete("a")

    assert store.list_files("") == []


def test_what_a_killed_writer_left_is_removed_a_day_later(store, model, tmp_path):
    """Half-written files stay as long as their writer may be at work, and go with a write a day later."""
    half = tmp_path / "root" / ".turnout-incoming-0123"
    store.write_directory(model, "a")
    half.mkdir()
    (half / "MLmodel").write_text("half")
    (tmp_path / "root" / ".turnout-trash-0123").write_text("a file")
    (tmp_path / "root" / ".turnout-mine").write_text("not of a writer")

    store.write_directory(model, "b")
    assert half.is_dir()
    LocalArtifacts(tmp_path / "root", clock=lambda: time.time() + 25 * 3600).write_directory(model, "c")

    assert sorted(os.listdir(tmp_path / "root")) == [".turnout-mine", "a", "b", "c"]


@given(st.text(max_size=30))
def test_any_path_stays_inside(text):
    """Any text is refused, or is a relative path whose parts are all names."""
    try:
        path = check_path(text)
    except InvalidParameter:
        return
    assert not {"", ".", ".."} & set(path.split("/"))
