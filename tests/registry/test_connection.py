"""`connect`: which address is used, which are refused, and what is made."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from registry.connection import connect, find_uri
from registry.errors import InvalidParameter, InvalidUri, Unavailable


def test_lookup_order():
    """Ours comes first, then MLflow's two, then a file in the working directory; empty ones do not count."""
    environment = {"MLFLOW_TRACKING_URI": "c"}
    assert find_uri({}) == "sqlite:///turnout.db"
    assert find_uri(environment) == "c"
    assert find_uri(environment | {"MLFLOW_REGISTRY_URI": "b"}) == "b"
    assert find_uri(environment | {"MLFLOW_REGISTRY_URI": "b", "TURNOUT_REGISTRY_URI": "a"}) == "a"
    assert find_uri(environment | {"TURNOUT_REGISTRY_URI": ""}) == "c"


def test_environment_names_the_registry(tmp_path, monkeypatch):
    """Without an address the environment's is opened."""
    monkeypatch.setenv("TURNOUT_REGISTRY_URI", f"sqlite:///{tmp_path}/r.db")

    with connect() as registry:
        assert registry.uri == f"sqlite:///{tmp_path}/r.db"


def test_relative_path_is_fixed_at_opening(tmp_path, monkeypatch):
    """A relative path means the folder at the time of opening."""
    monkeypatch.chdir(tmp_path)

    with connect("sqlite:///r.db") as registry:
        monkeypatch.chdir("/")
        assert registry.search_registered_models() == []
        assert registry.uri == f"sqlite:///{tmp_path}/r.db"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("databricks", "Databricks"),
        ("databricks://profile", "Databricks"),
        ("databricks-uc", "Databricks"),
        ("uc:http://host", "Databricks"),
        ("file:///tmp/mlruns", "path"),
        ("./mlruns", "path"),
        ("/tmp/x", "path"),
        ("", "path"),
        ("mysql://root:secret@host/db", "mysql"),
        ("sqlite:////tmp", "is a folder"),
        ("sqlite://", "sqlite:///turnout.db"),
        ("sqlite:///", "sqlite:///turnout.db"),
        ("sqlite:///:memory:", "sqlite:///turnout.db"),
        ("sqlite:///x.db?mode=ro", "sqlite:///turnout.db"),
        ("postgresql+asyncpg://u:secret@h/d", "psycopg"),
        (3, "string"),
    ],
)
def test_refused_addresses(uri, said):
    """An address that names no database of ours is refused in a sentence without its password."""
    with pytest.raises(InvalidUri, match=said) as caught:
        connect(uri)

    assert "secret" not in str(caught.value)


def test_create_false_never_creates(tmp_path):
    """A missing file is Unavailable, and stays missing, when it must not be created."""
    with pytest.raises(Unavailable, match=r"no registry.*`turnout register` makes one"):
        connect(f"sqlite:///{tmp_path}/r.db", create=False)

    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path):
    """A file in a folder that is not there cannot be created, and the message says so."""
    with pytest.raises(Unavailable, match="no folder"):
        connect(f"sqlite:///{tmp_path}/none/r.db")


def test_password_is_never_shown():
    """Neither an error nor the address shows a password."""
    with pytest.raises(Unavailable) as caught:
        connect("postgresql://ana:secret@127.0.0.1:9/db")

    assert "secret" not in str(caught.value)
    assert "ana" in str(caught.value)


def test_opening_sqlite_imports_no_alembic_and_no_psycopg(sqlite_registry):
    """Opening an up-to-date file imports neither the migrations' library nor another database's driver."""
    program = (
        "import sys; from registry.connection import connect; connect(sys.argv[1]).close(); "
        "sys.exit(any(name in sys.modules for name in ('alembic', 'psycopg')))"
    )

    done = subprocess.run([sys.executable, "-c", program, sqlite_registry.uri], check=False)

    assert done.returncode == 0


def test_actor(tmp_path, monkeypatch):
    """The actor is who was given, else TURNOUT_ACTOR, else the login name."""
    uri = f"sqlite:///{tmp_path}/r.db"
    names = iter(["bo", "cy"])
    with connect(uri, actor=lambda: next(names)) as registry:
        registry.create_registered_model("greeting", {"mlflow.prompt.is_prompt": "true"})
        assert registry.create_model_version("greeting", "dummy-source").user_id == "cy"
    monkeypatch.setenv("TURNOUT_ACTOR", "robot")
    with connect(uri) as registry:
        assert registry.create_model_version("greeting", "dummy-source").user_id == "robot"
    monkeypatch.delenv("TURNOUT_ACTOR")
    monkeypatch.setenv("LOGNAME", "dee")
    with connect(uri) as registry:
        assert registry.create_model_version("greeting", "dummy-source").user_id == "dee"


def test_default_artifacts_lie_beside_the_file(sqlite_registry, tmp_path):
    """Without another wish the files lie in `artifacts/` beside the SQLite file."""
    assert sqlite_registry.artifacts.root == str(tmp_path / "artifacts")


def test_artifacts_destination_is_recorded(tmp_path):
    """Whoever opens the registry later finds the files where they were first put."""
    uri = f"sqlite:///{tmp_path}/r.db"
    with connect(uri, artifacts_destination=f"file://{tmp_path}/elsewhere") as registry:
        registry.tracking.create_logged_model("model")

    with connect(uri) as registry:
        assert registry.artifacts.root == str(tmp_path / "elsewhere")
    connect(uri, artifacts_destination=str(tmp_path / "elsewhere")).close()
    with pytest.raises(InvalidParameter, match="elsewhere"):
        connect(uri, artifacts_destination=str(tmp_path / "third"))
    for nowhere in ("s3://bucket/x", "file://host/x", " "):
        with pytest.raises(InvalidParameter):
            connect(uri, artifacts_destination=nowhere)


def test_a_moved_folder_still_works(tmp_path):
    """A folder that holds both the file and the artifacts can be moved as a whole."""
    (tmp_path / "old").mkdir()
    connect(f"sqlite:///{tmp_path}/old/r.db", artifacts_destination=f"{tmp_path}/old/files").close()

    os.rename(tmp_path / "old", tmp_path / "new")

    with connect(f"sqlite:///{tmp_path}/new/r.db") as registry:
        assert registry.artifacts.root == str(tmp_path / "new" / "files")


def test_postgresql_without_a_destination(postgres_url):
    """On PostgreSQL there is no default: the error, when files are needed, says what to pass."""
    with connect(postgres_url()) as registry, pytest.raises(InvalidParameter, match="--artifacts-destination"):
        _ = registry.artifacts


def test_allowed_sources_match_whole_segments(tmp_path):
    """An operator's places allow what lies below them, not what only begins with the same letters."""
    with connect(f"sqlite:///{tmp_path}/r.db", allowed_sources=["s3://ok/models"]) as registry:
        registry.create_registered_model("wine")
        made = registry.create_model_version("wine", "s3://ok/models/wine/1")

        assert registry.get_model_version_download_uri("wine", 1) == made.source == "s3://ok/models/wine/1"
        assert made.digest is None
        assert registry.get_model_version_manifest("wine", 1) is None
        assert registry.copy_model_version("models:/wine/1", "prod").digest is None
        for source in (
            "s3://ok/models-evil/x",
            "s3://ok/models/../x",
            "s3://ok/mod",
            "s3://other/models/x",
            "s3:///ok/models/x",
            "s3:/ok/models/x",
            "s3:ok/models/x",
            "s3://ok//models/x",
            "s3://ok@evil/models/x",
            "gs://ok/models/x",
        ):
            with pytest.raises(InvalidParameter):
                registry.create_model_version("wine", source)


@pytest.mark.parametrize("place", ["", "s3:", "s3://", "s3:///"])
def test_a_place_without_a_host_allows_nothing(tmp_path, place):
    """A scheme alone is no place: it would allow everything."""
    with connect(f"sqlite:///{tmp_path}/r.db", allowed_sources=[place]) as registry:
        registry.create_registered_model("wine")
        for source in ("s3://b/x", "s3:///x", "s3:x"):
            with pytest.raises(InvalidParameter):
                registry.create_model_version("wine", source)
