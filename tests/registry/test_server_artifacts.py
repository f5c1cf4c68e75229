"""The artifact proxy on a real socket: files go in and out byte for byte, and nothing else does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from registry.errors import NotFound
from tests.registry.proxying import PREFIX, Proxy, error_of
from tests.registry.serving import served

AJAX = "/ajax-api/2.0/mlflow-artifacts"

ESCAPES = [
    "../x",
    "%2e%2e/x",
    "a/%2e%2e/%2e%2e/x",
    "%252e%252e/x",
    "%25252e%25252e/x",
    "/etc/x",
    "%2fetc/x",
    "a%2fb",
    "a//b",
    "a/./b",
    "a/",
    "",
    "a%5cb",
    "..%5c..%5cx",
    "a%00b",
    "a%0a",
    "a%23b",
    "%ff",
    "%c0%ae%c0%ae/x",
    "x" * 256,
    ".turnout-x",
    "C:%5cx",
]
ODD_NAMES = ["a b", "%41", "%2541", "a+b", "é€😀", "...", "a;b=c&d?e", "*[]{}^|<>`'\"", "x" * 255, "a:b", "~"]


@pytest.fixture
def proxy(sqlite_registry):
    """A server on an empty registry."""
    with served(sqlite_registry) as address:
        yield Proxy(address, sqlite_registry, Path(sqlite_registry.artifacts.root))


@pytest.fixture
def version(proxy, tmp_path):
    """A registered version; the path of its files in the store."""
    (tmp_path / "m" / "deep").mkdir(parents=True)
    (tmp_path / "m" / "MLmodel").write_text("flavors: {}\n")
    (tmp_path / "m" / "deep" / "data.bin").write_bytes(b"data")
    logged = proxy.registry.tracking.create_logged_model("model")
    place = logged.artifact_uri.removeprefix("mlflow-artifacts:/")
    proxy.registry.artifacts.write_directory(tmp_path / "m", place)
    proxy.registry.tracking.finalize_logged_model(logged.model_id)
    proxy.registry.create_registered_model("wine")
    proxy.registry.create_model_version("wine", logged.model_uri)
    return place


@pytest.mark.parametrize("prefix", [PREFIX, AJAX])
def test_file_there_and_back(proxy, prefix):
    """A file is uploaded, listed, downloaded and deleted below both prefixes."""
    data = os.urandom(3_000_001)
    target = f"{prefix}/artifacts/0/run/artifacts/deep/model.bin"

    assert proxy.call("PUT", target, data).status == 200
    listed = proxy.call("GET", f"{prefix}/artifacts?path=0%2Frun%2Fartifacts%2Fdeep")
    found = proxy.call("GET", target)

    assert listed.json == {"files": [{"path": "model.bin", "is_dir": False, "file_size": 3_000_001}]}
    assert (found.status, found.body) == (200, data)
    assert proxy.call("DELETE", target).json == {}
    assert proxy.call("DELETE", target).json == {}
    assert error_of(proxy.call("GET", target)) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_file_is_never_shown_as_a_page(proxy):
    """Whatever a file's name and bytes are, a browser saves it and runs nothing of it."""
    proxy.file("PUT", "a/%22x%C3%A9.html", b"<script>1</script>")

    headers = proxy.file("GET", "a/%22x%C3%A9.html").headers

    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == "attachment; filename*=UTF-8''%22x%C3%A9.html"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"] == "sandbox"


def test_listing(proxy):
    """A folder tells base names, folders without a size; the root can be listed; a file or no folder tells nothing."""
    for path in ("0/a/file", "0/b"):
        proxy.file("PUT", path, b"abc")

    assert proxy.listed("0") == {
        "files": [{"path": "a", "is_dir": True}, {"path": "b", "is_dir": False, "file_size": 3}]
    }
    assert proxy.listed("0/") == proxy.listed("0")
    assert proxy.call("GET", f"{PREFIX}/artifacts").json == {"files": [{"path": "0", "is_dir": True}]}
    assert proxy.listed("0/b") == proxy.listed("nope") == {}


def test_empty_file(proxy):
    """A body that is chunked and has no chunk is an empty file, and so is one of length 0."""
    assert proxy.file("PUT", "a/chunked", iter([])).status == 200
    assert proxy.file("PUT", "a/length", b"").status == 200

    assert [each["file_size"] for each in proxy.listed("a")["files"]] == [0, 0]
    assert proxy.file("GET", "a/chunked").body == b""


def test_upload_replaces(proxy):
    """A later upload takes the place of an earlier one as a whole, and a folder is not replaced."""
    proxy.file("PUT", "a/file", b"x" * 3_000_000)
    proxy.file("PUT", "a/file", b"new")

    assert proxy.file("GET", "a/file").body == b"new"
    assert error_of(proxy.file("PUT", "a", b"x")) == (400, "INVALID_PARAMETER_VALUE")
    assert error_of(proxy.file("PUT", "a/file/below", b"x")) == (400, "INVALID_PARAMETER_VALUE")
    assert proxy.files() == ["a/file"]


def test_folder_is_no_file(proxy):
    """A folder cannot be downloaded; it can be deleted with all that is in it."""
    proxy.file("PUT", "a/b/c", b"x")

    assert error_of(proxy.file("GET", "a/b")) == (400, "INVALID_PARAMETER_VALUE")
    assert proxy.file("DELETE", "a/b").status == 200
    assert proxy.files() == []


@pytest.mark.parametrize("path", ESCAPES)
def test_tf011_tf012_escapes(proxy, path):
    """A path that leaves the store, or could, is refused for reading, writing and deleting, and changes nothing."""
    proxy.file("PUT", "kept/file", b"x")

    for method, body in (("GET", None), ("PUT", b"evil"), ("DELETE", None), ("PUT", b"e" * 2_000_000)):
        assert error_of(proxy.file(method, path, body)) == (400, "INVALID_PARAMETER_VALUE"), method

    assert proxy.files() == ["kept/file"]
    assert sorted(each.name for each in proxy.root.parent.iterdir() if not each.name.startswith("registry.db")) == [
        "artifacts"
    ]


@pytest.mark.parametrize("path", ["..", "%2e%2e", "%252e%252e", "/etc", "/", "file:///etc", "a/../b", "a%5cb", "a%00"])
def test_tf013_listing_escapes(proxy, path):
    """No folder outside of the store is listed."""
    answer = proxy.call("GET", f"{PREFIX}/artifacts?path={path}")

    assert error_of(answer) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("action", ["create", "complete", "abort"])
@pytest.mark.parametrize("prefix", [PREFIX, AJAX])
def test_multipart_is_not_supported(proxy, prefix, action):
    """The client is told to upload as a whole, in the words that it looks for; its own file may lie anywhere."""
    body = json.dumps({"path": "/tmp/m odel#.pkl", "num_parts": 3})
    for target in (f"{prefix}/mpu/{action}/0/run/artifacts", f"{prefix}/mpu/{action}"):
        answer = proxy.call("POST", target, body)

        assert error_of(answer) == (501, "NOT_IMPLEMENTED")
        assert answer.json["message"].startswith(
            "Multipart upload is not supported for the current artifact repository"
        )
    presigned = proxy.call("GET", f"{prefix}/presigned/a/b")
    assert error_of(presigned) == (501, "NOT_IMPLEMENTED")


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("mpu/create/a/%2e%2e/b", "{}"),
        ("mpu/complete//etc", "{}"),
        ("mpu/abort/%252e%252e", "{}"),
        ("mpu/create/a", '{"path": "../../x"}'),
        ("mpu/create/a", '{"path": "%2e%2e/x"}'),
        ("mpu/create/a", '{"path": 1}'),
        ("mpu/create/a", "no json"),
        ("mpu/create/a", "[" * 100_000),
    ],
)
def test_tf014_multipart_escapes(proxy, target, body):
    """What an upload as a whole refuses is refused here too."""
    assert error_of(proxy.call("POST", f"{PREFIX}/{target}", body)) == (400, "INVALID_PARAMETER_VALUE")
    assert error_of(proxy.call("GET", f"{PREFIX}/presigned/a/%2e%2e/b")) == (400, "INVALID_PARAMETER_VALUE")


def test_tf015_links(proxy, tmp_path):
    """A link in the store is neither listed, nor read, nor written through."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "file").write_text("secret")
    proxy.file("PUT", "a/file", b"x")
    (proxy.root / "a" / "link").symlink_to(tmp_path / "secret" / "file")
    (proxy.root / "a" / "folder").symlink_to(tmp_path / "secret")

    assert [each["path"] for each in proxy.listed("a")["files"]] == ["file"]
    assert proxy.listed("a/folder") == {}
    assert proxy.file("GET", "a/link").status == proxy.file("GET", "a/folder/file").status == 404
    assert error_of(proxy.file("PUT", "a/folder/file", b"evil")) == (400, "INVALID_PARAMETER_VALUE")
    proxy.file("DELETE", "a/folder/file")
    proxy.file("PUT", "a/link", b"mine")
    assert (tmp_path / "secret" / "file").read_text() == "secret"
    assert proxy.file("GET", "a/link").body == b"mine"


@pytest.mark.parametrize("name", ODD_NAMES)
def test_tf018_odd_names(proxy, name):
    """A name that is only odd is kept byte for byte, percent-encoded once."""
    path = f"{quote(name, safe='')}/{quote(name, safe='')}"

    assert proxy.file("PUT", path, b"x").status == 200

    assert proxy.file("GET", path).body == b"x"
    assert [each["path"] for each in proxy.listed(name)["files"]] == [name]
    assert proxy.files() == [f"{name}/{name}"]


def test_compressed_or_partial_uploads_are_refused(proxy):
    """Bytes that mean something else than the file are not stored as the file."""
    assert proxy.file("PUT", "a", b"x", Content_Encoding="gzip").status == 415
    assert proxy.file("PUT", "a", b"x", Content_Range="bytes 0-0/5").status == 400

    assert proxy.files() == []


@pytest.mark.parametrize(
    ("asked", "status", "first", "stop"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=5-", 206, 5, None),
        ("bytes=-7", 206, -7, None),
        ("bytes=10-1999999", 206, 10, 2_000_000),
        ("bytes=3-99999999", 206, 3, None),
        ("bytes=-99999999", 206, 0, None),
        ("BYTES=1-2", 206, 1, 3),
        ("bytes=0-1,5-6", 200, 0, None),
        ("bytes=5-2", 200, 0, None),
        ("bytes=-", 200, 0, None),
        ("lines=1-2", 200, 0, None),
        ("bytes=x-2", 200, 0, None),
    ],
)
def test_ranges(proxy, asked, status, first, stop):
    """One range is answered by just that; what is none, or several, by the whole file."""
    data = os.urandom(3_000_000)
    proxy.file("PUT", "a/file", data)

    answer = proxy.file("GET", "a/file", Range=asked)

    assert (answer.status, answer.body) == (status, data[first:stop])
    assert answer.headers["Accept-Ranges"] == "bytes"
    if status == 206:
        begin = data.index(answer.body)
        assert answer.headers["Content-Range"] == f"bytes {begin}-{begin + len(answer.body) - 1}/3000000"


def test_range_outside_of_the_file(proxy):
    """A range that begins behind the end is refused with the file's size."""
    proxy.file("PUT", "a/file", b"12345")

    for asked in ("bytes=5-", "bytes=5-9", "bytes=-0"):
        answer = proxy.file("GET", "a/file", Range=asked)
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */5")


def test_a_download_is_resumed_only_with_the_same_bytes(proxy):
    """The rest of a file comes with its tag; when the file was replaced meanwhile, the whole comes instead."""
    proxy.file("PUT", "a/file", b"old bytes")
    tag = proxy.file("GET", "a/file").headers["ETag"]
    assert tag.startswith('"')

    assert proxy.file("GET", "a/file", Range="bytes=4-", If_Range=tag).body == b"bytes"
    proxy.file("PUT", "a/file", b"NEW BYTES")
    answer = proxy.file("GET", "a/file", Range="bytes=4-", If_Range=tag)

    assert (answer.status, answer.body) == (200, b"NEW BYTES")
    assert answer.headers["ETag"] != tag


def test_head(proxy):
    """HEAD tells what GET would, without the bytes."""
    proxy.file("PUT", "a/file", b"x" * 2_000_000)

    answer, whole = proxy.file("HEAD", "a/file"), proxy.file("GET", "a/file")

    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "2000000")
    assert answer.headers["ETag"] == whole.headers["ETag"]
    assert proxy.file("HEAD", "a/nope").status == 404


def test_files_of_a_version_never_change(proxy, version):
    """At, above and below a registered version's folder nothing is written or deleted; beside it, it is."""
    before = proxy.files()
    above = version.split("/")[0]

    for method, path in [
        ("PUT", f"{version}/MLmodel"),
        ("PUT", f"{version}/new"),
        ("PUT", version),
        ("DELETE", f"{version}/deep/data.bin"),
        ("DELETE", version),
        ("DELETE", above),
    ]:
        assert error_of(proxy.file(method, path, b"x")) == (403, "PERMISSION_DENIED"), path

    assert proxy.files() == before
    assert proxy.file("PUT", f"{version}x/file", b"x").status == 200
    proxy.registry.delete_model_version("wine", "1")
    assert proxy.file("DELETE", version).status == 200


def test_file_of_a_version_that_is_made_during_the_upload(proxy, tmp_path):
    """A file that was begun before the version was made, and ends after it, is not added to it."""
    logged = proxy.registry.tracking.create_logged_model("model")
    place = logged.artifact_uri.removeprefix("mlflow-artifacts:/")
    proxy.file("PUT", f"{place}/MLmodel", b"flavors: {}\n")
    proxy.registry.tracking.finalize_logged_model(logged.model_id)
    proxy.registry.create_registered_model("wine")

    def pieces():
        yield b"x" * 2_000_000
        proxy.registry.create_model_version("wine", logged.model_uri)
        yield b"y"

    answer = proxy.file("PUT", f"{place}/late", pieces())

    assert error_of(answer) == (403, "PERMISSION_DENIED")
    assert proxy.files() == [f"{place}/MLmodel"]


def test_files_of_versions_and_runs_by_name(proxy, version):
    """One file of a version, or of a run, is found by the version's or run's name."""
    run = proxy.registry.tracking.create_run("0")
    proxy.file("PUT", f"{run.artifact_uri.removeprefix('mlflow-artifacts:/')}/plots/a.png", b"png")

    of_version = proxy.call("GET", "/model-versions/get-artifact?name=wine&version=1&path=deep%2Fdata.bin")
    of_run = proxy.call("GET", f"/get-artifact?run_id={run.run_id}&path=plots%2Fa.png")
    of_old_client = proxy.call("GET", f"/get-artifact?run_uuid={run.run_id}&path=plots%2Fa.png")

    assert (of_version.status, of_version.body) == (200, b"data")
    assert of_run.body == of_old_client.body == b"png"
    assert of_run.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a.png"


@pytest.mark.parametrize("path", ["../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "%252e%252e%252fx", ""])
def test_tf010_reading_through_a_version(proxy, version, path):
    """No file beside a version's own is read through it."""
    answer = proxy.call("GET", f"/model-versions/get-artifact?name=wine&version=1&path={path}")

    assert error_of(answer) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/model-versions/get-artifact?name=wine&version=2&path=MLmodel", 404),
        ("/model-versions/get-artifact?name=beer&version=1&path=MLmodel", 404),
        ("/model-versions/get-artifact?name=wine&version=1&path=nope", 404),
        ("/model-versions/get-artifact?name=wine&version=1&path=deep", 400),
        ("/model-versions/get-artifact?name=wine&version=x&path=MLmodel", 400),
        ("/model-versions/get-artifact?name=wine&path=MLmodel", 400),
        ("/model-versions/get-artifact?name=wine&name=x&version=1&path=MLmodel", 400),
        ("/get-artifact?run_id=nope&path=x", 404),
        ("/get-artifact?path=x", 400),
    ],
)
def test_names_without_files(proxy, version, target, status):
    """What does not exist is not found, and what names nothing is refused."""
    assert proxy.call("GET", target).status == status


def test_below_a_static_prefix(sqlite_registry):
    """Below a prefix the paths of files begin behind it."""
    with served(sqlite_registry, static_prefix="/registry") as address:
        proxy = Proxy(address, sqlite_registry, Path(sqlite_registry.artifacts.root))

        assert proxy.call("PUT", f"/registry{PREFIX}/artifacts/a/b%2525", b"x").status == 200
        assert proxy.call("PUT", f"{PREFIX}/artifacts/a/c", b"x").status == 404

        assert proxy.files() == ["a/b%25"]


def test_protects_knows_whole_parts(sqlite_registry, proxy, version):
    """What only begins with the same letters as a version's folder is not protected."""
    assert sqlite_registry.protects(f"{version}/MLmodel")
    assert sqlite_registry.protects(version.rpartition("/")[0])
    assert not sqlite_registry.protects(f"{version}2")
    assert not sqlite_registry.protects(f"{version.rpartition('/')[0]}/art")
    with pytest.raises(NotFound):
        proxy.registry.artifacts.size(f"{version}2")
