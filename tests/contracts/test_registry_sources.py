"""Where a version's files may come from, on every implementation of `Registry`."""

from __future__ import annotations

import pytest

from registry.errors import InvalidParameter, NotFound


@pytest.fixture(autouse=True)
def model(registry):
    """A model named wine."""
    return registry.create_registered_model("wine")


def test_logged_model_must_be_ready(registry):
    """No version is made of a logged model whose upload has not ended well."""
    logged = registry.tracking.create_logged_model("model")

    with pytest.raises(InvalidParameter, match="PENDING"):
        registry.create_model_version("wine", logged.model_uri)
    registry.tracking.finalize_logged_model(logged.model_id)
    with pytest.raises(InvalidParameter, match="no files"):
        registry.create_model_version("wine", logged.model_uri)
    registry.tracking.finalize_logged_model(logged.model_id, "LOGGED_MODEL_UPLOAD_FAILED")
    with pytest.raises(InvalidParameter, match="FAILED"):
        registry.create_model_version("wine", logged.model_uri)
    with pytest.raises(NotFound):
        registry.create_model_version("wine", f"models:/m-{'0' * 32}")
    assert registry.search_model_versions() == []


def test_run_of_a_logged_model(registry, tmp_path):
    """A version takes its run from the logged model."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("x")
    logged = registry.tracking.create_logged_model("model", "run7", {"k": "v"})
    registry.artifacts.write_directory(tmp_path / "m", f"models/{logged.model_id}/artifacts")
    registry.tracking.finalize_logged_model(logged.model_id)

    assert registry.create_model_version("wine", logged.model_uri).run_id == "run7"
    with pytest.raises(InvalidParameter):
        registry.create_model_version("wine", logged.model_uri, run_id="other")
    assert registry.tracking.get_logged_model(logged.model_id).tags == {"k": "v"}


def test_artifact_source_of_a_run(registry, tmp_path):
    """Files below a run's own directory can be a source, with that run's id and no other."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("x")
    registry.artifacts.write_directory(tmp_path / "m", "0/run1/artifacts/model")
    source = "mlflow-artifacts:/0/run1/artifacts/model"

    made = registry.create_model_version("wine", source, run_id="run1")

    assert (made.source, made.run_id) == (source, "run1")
    assert made.digest is not None
    for run_id in ("run2", None, "artifacts", ""):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", source, run_id=run_id)
    with pytest.raises(InvalidParameter):
        registry.create_model_version("wine", "mlflow-artifacts:/0/run1/artifacts/none", run_id="run1")


LOCAL = [
    "file:///etc",
    "/etc",
    "file:/etc",
    "FILE:///etc",
    "file://localhost/etc",
    "file:///%65tc",
    "../../etc",
    "./",
    "~/x",
    "mlruns/0/x",
    "C:\\x",
    "\\\\host\\share",
    "..\\..\\x",
    "",
    "x",
    "%66ile:/etc",
]
HIDING = [
    "mlflow-artifacts:/../../etc",
    "s3://b/a/../../c",
    "runs:/a/../../x",
    "models:/../x",
    "s3://b/./c",
    "mlflow-artifacts:/..%2f..%2fetc",
    "mlflow-artifacts:/%2e%2e/x",
    "mlflow-artifacts:/%252e%252e/x",
    "mlflow-artifacts:/%25252525252e%25252525252e/x",
    "mlflow-artifacts:/0/x?a=/../../etc",
    "mlflow-artifacts:/0/x#/../../etc",
    "http:///#/../../etc/",
    "mlflow-artifacts:/0/x;a",
    "mlflow-artifacts:/a\\b",
    "mlflow-artifacts:/a%5c..%5cx",
    "mlflow-artifacts://host/x",
    "mlflow-artifacts:////x",
    "mlflow-artifacts:/",
    "mlflow-artifacts:/a%00b",
    "mlflow-artifacts:/a\0b",
]
FOREIGN = [
    "dbfs:/etc",
    "x:/etc",
    "ftp://h/x",
    "http://127.0.0.1:9/x",
    "data:,x",
    "javascript:alert(1)",
    "hdfs://h/x",
    "s3://someone-elses-bucket/x",
    "gs://b/x",
    "models://host/wine/1",
    "runs:/abc/model",
    "dummy-source",
    "s3://" + "x" * 3000,
]


@pytest.mark.parametrize("source", LOCAL + HIDING + FOREIGN)
def test_tf001_to_tf008_sources(registry, source):
    """A source that is local, hides its place, or is not ours is refused, whatever comes with it."""
    before = registry.cursor()

    for arguments in ({}, {"run_id": "abc"}, {"tags": {"mlflow.prompt.is_prompt": "true"}}):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", source, **arguments)

    assert registry.cursor() == before
    assert registry.search_model_versions() == []


def test_prompts_have_no_files(registry):
    """A model that is tagged as a prompt takes versions without files, from which nothing can be made."""
    registry.create_registered_model("greeting", {"mlflow.prompt.is_prompt": "true"})

    made = registry.create_model_version("greeting", "dummy-source", tags={"mlflow.prompt.is_prompt": "true"})

    assert (made.source, made.digest) == ("dummy-source", None)
    with pytest.raises(InvalidParameter):
        registry.create_model_version("wine", "models:/greeting/1")
    with pytest.raises(InvalidParameter):
        registry.create_model_version("greeting", "/etc")


def test_tf015_link_among_the_files(registry, tmp_path):
    """A version whose files hold a symbolic link is refused."""
    logged = registry.tracking.create_logged_model("model")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("x")
    registry.artifacts.write_directory(tmp_path / "m", f"models/{logged.model_id}/artifacts")
    (tmp_path / "artifacts" / "models" / logged.model_id / "artifacts" / "link").symlink_to("/etc/passwd")
    registry.tracking.finalize_logged_model(logged.model_id)

    with pytest.raises(InvalidParameter, match="link"):
        registry.create_model_version("wine", logged.model_uri)
