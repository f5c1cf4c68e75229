"""Where a version's files may come from, on every implementation of `Registry`."""

from __future__ import annotations

import re

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
    """A version takes its run from the logged model, which then lists the version."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("x")
    run_id = registry.tracking.create_run().run_id
    logged = registry.tracking.create_logged_model("model", run_id, {"k": "v"})
    registry.artifacts.write_directory(tmp_path / "m", f"0/models/{logged.model_id}/artifacts")
    registry.tracking.finalize_logged_model(logged.model_id)

    assert registry.create_model_version("wine", logged.model_uri).run_id == run_id
    with pytest.raises(InvalidParameter):
        registry.create_model_version("wine", logged.model_uri, run_id="other")
    assert registry.tracking.get_logged_model(logged.model_id).tags == {
        "k": "v",
        "mlflow.modelVersions": '[{"name": "wine", "version": 1}]',
    }


def test_artifact_source_of_a_run(registry, tmp_path):
    """Files below a run's own directory can be a source, with that run's id and no other."""
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("x")
    run, other = registry.tracking.create_run(), registry.tracking.create_run()
    source = f"{run.artifact_uri}/model"
    registry.artifacts.write_directory(tmp_path / "m", source.removeprefix("mlflow-artifacts:/"))

    made = registry.create_model_version("wine", source, run_id=run.run_id)

    assert (made.source, made.run_id) == (source, run.run_id)
    assert made.digest is not None
    for run_id in (other.run_id, "0" * 32, None, "artifacts", ""):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", source, run_id=run_id)
    for path in (f"{run.artifact_uri}/none", f"{run.artifact_uri}-evil/model", run.artifact_uri.rpartition("/")[0]):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", path, run_id=run.run_id)


@pytest.fixture
def write(registry, tmp_path):
    """Writes a small model directory with a content of its own below an artifact URI."""

    def write_files(uri, content):
        folder = tmp_path / content
        folder.mkdir()
        (folder / "MLmodel").write_text(content)
        return registry.artifacts.write_directory(folder, uri.removeprefix("mlflow-artifacts:/")).digest

    return write_files


def test_source_in_a_run(registry, write):
    """A path in a run is a source: its files are found in the run's artifacts, and the run is known from it."""
    run, other = registry.tracking.create_run(), registry.tracking.create_run()
    digest = write(f"{run.artifact_uri}/some dir/model", "one")

    made = registry.create_model_version("wine", f"runs:/{run.run_id}/some dir/model")

    assert (made.digest, made.run_id, made.model_id) == (digest, run.run_id, None)
    assert made.source == f"runs:/{run.run_id}/some dir/model"
    assert registry.get_model_version_download_uri("wine", 1) == f"{run.artifact_uri}/some dir/model"
    assert registry.create_model_version("wine", made.source, run_id=run.run_id).digest == digest
    for source, run_id in ((made.source, other.run_id), (f"runs:/{run.run_id}/none", None)):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", source, run_id=run_id)


# Not over HTTP: MLflow's JSON does not tell the model_id of a version whose source is runs:/.
@pytest.mark.parametrize("registry", ["sqlite", "postgresql"], indirect=True)
def test_source_logged_by_a_run(registry, write):
    """Where a run has no such files, its path names the newest ready model that the run logged under that name."""
    run = registry.tracking.create_run()
    digests = []
    for content in ("old", "new", "unready"):
        logged = registry.tracking.create_logged_model("model", run.run_id)
        digests.append(write(logged.artifact_uri, content))
        if content != "unready":
            newest = registry.tracking.finalize_logged_model(logged.model_id)
    source = f"runs:/{run.run_id}/model"

    made = registry.create_model_version("wine", source, run_id=run.run_id)
    assert (made.digest, made.run_id, made.model_id) == (digests[1], run.run_id, newest.model_id)
    assert registry.get_model_version_download_uri("wine", 1) == newest.artifact_uri
    assert registry.create_model_version("wine", source, model_id=newest.model_id).digest == digests[1]
    with pytest.raises(InvalidParameter):
        registry.create_model_version("wine", source, model_id=logged.model_id)

    of_run = write(f"{run.artifact_uri}/model", "run")
    assert registry.create_model_version("wine", source).digest == of_run


def test_versions_of_a_logged_model(registry, write):
    """A logged model lists every version that was made of it, and no copy of one."""
    logged = registry.tracking.create_logged_model("model")
    write(logged.artifact_uri, "one")
    registry.tracking.finalize_logged_model(logged.model_id)

    registry.create_model_version("wine", logged.model_uri, model_id=logged.model_id)
    registry.create_model_version("wine", logged.artifact_uri, model_id=logged.model_id)
    registry.copy_model_version("models:/wine/1", "copy")

    tags = registry.tracking.get_logged_model(logged.model_id).tags
    assert tags["mlflow.modelVersions"] == '[{"name": "wine", "version": 1}, {"name": "wine", "version": 2}]'


def test_files_of_another_model(registry, write):
    """A logged model's id does not open another one's files, nor does a run that did not log it."""
    run, other = registry.tracking.create_run(), registry.tracking.create_run()
    first, second = (registry.tracking.create_logged_model("model", run.run_id) for _ in range(2))
    write(first.artifact_uri, "one")

    made = registry.create_model_version("wine", first.artifact_uri, model_id=first.model_id)

    assert (made.run_id, made.model_id) == (run.run_id, first.model_id)
    for arguments in (
        {"model_id": second.model_id},
        {"model_id": first.model_id, "run_id": other.run_id},
        {"run_id": run.run_id},
        {},
    ):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", first.artifact_uri, **arguments)


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        (
            "mlruns/0/d16076a3ec534311817565e6527539c0/artifacts/sklearn-model",
            "runs:/d16076a3ec534311817565e6527539c0/sklearn-model",
        ),
        ("/home/ana/mlruns/0/abc/artifacts/a/b", "runs:/abc/a/b"),
        ("file:///home/ana/mlruns/12/abc/artifacts/model/", "runs:/abc/model"),
        (f"mlruns/0/models/m-{'1' * 32}/artifacts", f"models:/m-{'1' * 32}"),
        ("/home/ana/model", "turnout register"),
    ],
)
def test_advice_about_a_local_path(registry, source, advice):
    """A local path is refused with what to give instead, as far as it can be told from the path."""
    with pytest.raises(InvalidParameter, match=re.escape(advice)):
        registry.create_model_version("wine", source)


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
    "runs:/abc",
    "runs:/",
    "runs://host/abc/model",
    "mlflow-artifacts:/0/abc/artifacts/model",
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


# Not over HTTP: nobody can put a link into a server's artifact root over HTTP.
@pytest.mark.parametrize("registry", ["sqlite", "postgresql"], indirect=True)
def test_tf015_link_among_the_files(registry, tmp_path):
    """A version whose files hold a symbolic link is refused."""
    logged = registry.tracking.create_logged_model("model")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "MLmodel").write_text("x")
    registry.artifacts.write_directory(tmp_path / "m", f"0/models/{logged.model_id}/artifacts")
    (tmp_path / "artifacts" / "0" / "models" / logged.model_id / "artifacts" / "link").symlink_to("/etc/passwd")
    registry.tracking.finalize_logged_model(logged.model_id)

    with pytest.raises(InvalidParameter, match="link"):
        registry.create_model_version("wine", logged.model_uri)
