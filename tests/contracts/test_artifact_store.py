"""What every artifact store promises: a directory of this machine, and a bucket of an object store."""

from __future__ import annotations

import itertools
from hashlib import sha256

import pytest

from registry.artifacts import Entry, FileDigest
from registry.errors import AlreadyExists, InvalidParameter, NotFound
from registry.stores import open_store
from tests.gcs import server as gcs
from tests.s3.server import make_bucket, s3_server, settings

NUMBERS = itertools.count(1)
ESCAPES = ["", "..", "/etc", "a/../b", "a//b", "a/", "a\\b", "%2e%2e/x", "%252e%252e/x", "a\0b", "a#b", "x" * 256]
ODD_NAMES = ["a b", "%41", "a+b", "é€😀", "...", "a;b=c&d?e", "~", "*[]{}^|<>`'\"", "-", "x" * 255, "ä" * 127]


@pytest.fixture(scope="session")
def s3_address(tmp_path_factory):
    """The address of an S3 server."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="session")
def gcs_address():
    """The address of a server that speaks as Google Cloud Storage does."""
    with gcs.gcs_server() as address:
        yield address


@pytest.fixture(params=["local", "s3", "gs"])
def store(request, tmp_path, monkeypatch):
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "root"))
    bucket = f"bucket{next(NUMBERS)}"
    if request.param == "gs":
        for name, value in gcs.settings(request.getfixturevalue("gcs_address")).items():
            monkeypatch.setenv(name, value)
        return open_store(f"gs://{bucket}/some/prefix")
    address = request.getfixturevalue("s3_address")
    for name, value in settings(address).items():
        monkeypatch.setenv(name, value)
    make_bucket(address, bucket)
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture
def model(tmp_path):
    """A directory with files in two levels, one of them empty and one of several parts."""
    folder = tmp_path / "model"
    (folder / "code" / "deep").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "code" / "deep" / "é %41+b.py").write_bytes(b"x" * 20_000_000)
    (folder / "code" / "empty").write_bytes(b"")
    return folder


def put(store, path, data):
    """Store one file."""
    with store.create(path) as upload:
        upload.write(data)


def fail(store, path, size):
    """Begin to store a file, and stop."""
    with store.create(path) as upload:
        upload.write(b"x" * size)
        raise ZeroDivisionError


def content(store, path):
    """The bytes of one file."""
    return b"".join(store.read(path))


def test_directory_there_and_back(store, model):
    """A directory is read back byte for byte, and its manifest names every file."""
    written = store.write_directory(model, "models/m-1/artifacts")

    assert store.list_files("models/m-1/artifacts") == [
        ("MLmodel", 12),
        ("code/deep/é %41+b.py", 20_000_000),
        ("code/empty", 0),
    ]
    assert written.files[0] == FileDigest("MLmodel", 12, sha256(b"flavors: {}\n").hexdigest())
    assert store.manifest("models/m-1/artifacts") == written
    assert content(store, "models/m-1/artifacts/code/deep/é %41+b.py") == b"x" * 20_000_000
    with store.open("models/m-1/artifacts/MLmodel") as file:
        assert (file.read(5), file.read(), file.read()) == (b"flavo", b"rs: {}\n", b"")
    assert store.list_files("models") == [(f"m-1/artifacts/{each.path}", each.size) for each in written.files]


def test_files_below_a_prefix_are_whole_parts(store):
    """`a/b` does not hold what lies at `a/bc`."""
    put(store, "a/bc/file", b"1")

    assert store.list_files("a/b") == []
    assert store.list_folder("a/b") == []
    store.delete("a/b")
    assert content(store, "a/bc/file") == b"1"


def test_list_folder(store):
    """A folder tells its files with their sizes and its folders; a file or no folder tells nothing."""
    for path in ("b/file", "b/deep/x", "b/deep/y", "a"):
        put(store, path, b"abc")

    assert store.list_folder("") == [Entry("a", False, 3), Entry("b", True)]
    assert store.list_folder("b") == [Entry("deep", True), Entry("file", False, 3)]
    assert store.list_folder("a") == store.list_folder("b/file") == store.list_folder("c") == []


@pytest.mark.parametrize("pieces", [[], [b""], [b"abc"], [b"a" * 3_000_000] * 7], ids=["none", "empty", "one", "many"])
def test_upload(store, pieces):
    """What is written in pieces is one file, also when there is no piece."""
    with store.create("folder/file") as upload:
        for piece in pieces:
            upload.write(piece)

    assert content(store, "folder/file") == b"".join(pieces)
    assert store.size("folder/file") == len(b"".join(pieces))


def test_upload_is_visible_only_when_complete(store):
    """While a file arrives its name shows what was there before, and afterwards the new bytes."""
    put(store, "file", b"old")

    with store.create("file") as upload, store.create("other") as another:
        upload.write(b"n" * 9_000_000)
        another.write(b"ew")
        assert content(store, "file") == b"old"
        assert store.list_files("") == [("file", 3)]

    assert store.size("file") == 9_000_000
    assert content(store, "other") == b"ew"


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_tf151_upload_that_fails_leaves_nothing(store, size):
    """A file whose writer fails is never seen, and what had its name stays."""
    put(store, "kept", b"old")

    for path in ("kept", "new/file"):
        with pytest.raises(ZeroDivisionError):
            fail(store, path, size)

    assert store.list_files("") == [("kept", 3)]
    assert content(store, "kept") == b"old"


def test_parts_of_a_file(store):
    """A file is read from anywhere to anywhere, and its tag changes with its bytes."""
    data = bytes(range(256)) * 10_000
    put(store, "file", data)

    assert b"".join(store.read("file", start=2_000_000)) == data[2_000_000:]
    assert b"".join(store.read("file", start=len(data))) == b""
    assert max(map(len, store.read("file", 1000))) <= 1_000_000
    with store.opened("file") as file:
        assert file.size == len(data)
        assert b"".join(file.read(5, 1_500_000)) == data[5:1_500_000]
        assert b"".join(file.read(7, 7)) == b""
        before = file.etag
    with store.opened("file") as file:
        assert file.etag == before
    put(store, "file", data[::-1])
    with store.opened("file") as file:
        assert file.etag != before


def test_delete(store):
    """A file or a folder goes, its neighbours stay, and what is absent stays absent."""
    for path in ("a/1", "a/b/2", "a/b/3", "a/bc"):
        put(store, path, b"x")

    store.delete("a/b")
    store.delete("a/1")
    store.delete("a/1")
    store.delete("never/there")

    assert store.list_files("") == [("a/bc", 1)]


def test_missing(store):
    """What is not there is `NotFound`, or nothing in a list; a folder is no file."""
    put(store, "folder/file", b"x")

    for path in ("nope", "folder", "folder/nope", "folder/file/below"):
        with pytest.raises(NotFound):
            store.size(path)
        with pytest.raises(NotFound):
            list(store.read(path))
        with pytest.raises(NotFound), store.open(path):
            pass
    with pytest.raises(NotFound):
        store.manifest("folder/file")
    assert store.list_files("nope") == store.list_files("folder/file") == []


def test_nothing_is_written_over(store, model):
    """A directory is never written to a place where there is something."""
    put(store, "taken/file", b"old")

    for prefix in ("taken", "taken/file"):
        with pytest.raises(AlreadyExists):
            store.write_directory(model, prefix)

    assert store.list_files("") == [("taken/file", 3)]


def test_refused_directory_leaves_nothing(store, model, tmp_path):
    """A directory with a link, without files, or with a name that no path may have, is refused as a whole."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "a#b").write_text("x")
    (model / "zlink").symlink_to("/etc/hostname")

    for source in (model, tmp_path / "empty", tmp_path / "odd", tmp_path / "nope"):
        with pytest.raises(InvalidParameter):
            store.write_directory(source, "m")

    assert store.list_files("") == []


@pytest.mark.parametrize("path", ESCAPES)
def test_tf011_to_tf013_escapes(store, path):
    """A path that could leave the root is refused by everything that takes one."""
    calls = [
        store.size,
        store.delete,
        store.manifest,
        lambda each: list(store.read(each)),
        lambda each: put(store, each, b""),
    ]
    if path:
        calls += [store.list_files, store.list_folder]

    for call in calls:
        with pytest.raises(InvalidParameter):
            call(path)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_tf018_odd_names(store, name):
    """A name that is only odd is kept byte for byte."""
    put(store, f"{name}/{name}", b"x")

    assert content(store, f"{name}/{name}") == b"x"
    assert store.list_folder("") == [Entry(name, True)]
    assert store.list_folder(name) == [Entry(name, False, 1)]
    assert store.list_files(name) == [(name, 1)]
    store.delete(name)
    assert store.list_files("") == []
