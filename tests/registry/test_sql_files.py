"""Where artifacts may lie: directories and buckets, never an address with a password in it."""

from __future__ import annotations

import pytest

from registry.connection import connect
from registry.errors import InvalidParameter
from registry.sql.files import parse_destination


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/data/files", "/data/files"),
        ("file:///data/a%20b", "/data/a b"),
        ("file://localhost/data", "/data"),
        ("s3://bucket", "s3://bucket"),
        ("S3://bucket/a/b//", "s3://bucket/a/b"),
        ("gs://bucket/x", "gs://bucket/x"),
        ("az://container/x", "az://container/x"),
        ("abfss://box@account.dfs.core.windows.net/x", "abfss://box@account.dfs.core.windows.net/x"),
        ("https://account.blob.core.windows.net/box/x", "https://account.blob.core.windows.net/box/x"),
    ],
)
def test_destinations(given, kept):
    """A directory and the address of a bucket are kept in one form."""
    assert parse_destination(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        " ",
        "a\0b",
        "file://host/x",
        "ftp://host/x",
        "http://host/x",
        "memory:///x",
        "s3://",
        "s3:///x",
        "s3://bucket/a/../b",
        "s3://bucket/a//b",
        "s3://bucket/a?x=hunter2",
        "s3://bucket/a#hunter2",
        "s3://bucket/%2e%2e",
        "s3://key:hunter2@bucket/a",
        "https://user:hunter2@account.blob.core.windows.net/box",
        "az://box:hunter2@account/x",
        "abfss://box:hunter2@account.dfs.core.windows.net/x",
        "https://account.blob.core.windows.net/box?sig=hunter2",
    ],
)
def test_refused_destinations(given):
    """What is no place, or holds a password, is refused without repeating the password."""
    with pytest.raises(InvalidParameter) as caught:
        parse_destination(given)

    assert "hunter2" not in str(caught.value)


def test_destination_stays_once_there_is_a_run(tmp_path):
    """Runs know their place in the artifact root too, so it cannot be changed under them."""
    uri = f"sqlite:///{tmp_path}/r.db"
    connect(uri, artifacts_destination=str(tmp_path / "one")).close()
    with connect(uri, artifacts_destination=str(tmp_path / "two")) as registry:
        registry.tracking.create_run("0")

    with pytest.raises(InvalidParameter, match="two"):
        connect(uri, artifacts_destination="s3://bucket/x")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_protected_paths(kind, tmp_path, request):
    """A path is protected exactly if it lies at, above or below the files of a version, which are found by it."""
    uri = f"sqlite:///{tmp_path}/r.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")()
    with connect(uri, artifacts_destination=str(tmp_path / "files"), allowed_sources=["s3://b"]) as registry:
        run = registry.tracking.create_run("0")
        place = run.artifact_uri.removeprefix("mlflow-artifacts:/")
        with registry.artifacts.create(f"{place}/model/MLmodel") as upload:
            upload.write(b"flavors: {}\n")
        registry.create_registered_model("wine")
        registry.create_model_version("wine", "s3://b/" + "é" * 1_900)
        assert not registry.protects(f"{place}/model")

        registry.create_model_version("wine", f"{run.artifact_uri}/model", run_id=run.run_id)

        registry.copy_model_version("models:/wine/2", "prod")
        assert [(each.name, each.version) for each in registry.versions_at(f"{place}/model")] == [
            ("prod", "1"),
            ("wine", "2"),
        ]
        assert len(registry.versions_at(f"{place}/model", 1)) == 1
        assert registry.versions_at(place) == registry.versions_at(f"{place}/model/MLmodel") == []
        registry.delete_registered_model("prod")

        for path in (f"{place}/model", f"{place}/model/MLmodel", f"{place}/model/new/file", place, "0"):
            assert registry.protects(path), path
        for path in (f"{place}/model2", f"{place}/mode", f"{place}/mod%l", f"{place}/plot.png", "1", f"0/{place}"):
            assert not registry.protects(path), path
        registry.delete_model_version("wine", 2)
        assert not registry.protects(place)
