"""The dialog that registers a model folder."""

from __future__ import annotations

import pytest


@pytest.fixture
def run(registry):
    """A run with a model's folder among its artifacts."""
    made = registry.tracking.create_run(run_name="ridge")
    folder = made.artifact_uri.removeprefix("mlflow-artifacts:/")
    for path in ("model/MLmodel", "model/weights.bin"):
        with registry.artifacts.create(f"{folder}/{path}") as upload:
            upload.write(b"flavors: {}\n")
    return made


@pytest.fixture
def dialog(reader, run):
    """The page that asks where the run's model shall be registered."""
    return reader.open(f"/register?run={run.run_id}&path=model")


def test_new_model(reader, registry, run, dialog):
    """A new model is made with the folder as its first version, and the version's page opens."""
    assert dialog.attribute("[name=kind][checked]", "value") == "new"

    page = reader.send(dialog, "main form", {"name": "wine", "description": "of *Alba*"})

    assert page.path == "/models/wine/versions/1?done=version-created&what=1"
    version = registry.get_model_version("wine", 1)
    assert (version.run_id, version.source) == (run.run_id, f"runs:/{run.run_id}/model")
    assert page.text("#description em") == "Alba"


def test_existing_model(reader, registry, run, make_version):
    """An existing model gets the folder as its next version; the dialog suggests the models there are."""
    registry.create_registered_model("wine")
    make_version()
    dialog = reader.open(f"/register?run={run.run_id}&path=model")
    assert dialog.attribute("[name=kind][checked]", "value") == "existing"
    assert dialog.attribute("datalist option", "value") == "wine"

    page = reader.send(dialog, "main form", {"name": "wine"})

    assert page.path.startswith("/models/wine/versions/2?")


def test_registered_already(reader, registry, run):
    """A folder that is registered says so, with links to its versions."""
    registry.create_registered_model("wine")
    registry.create_model_version("wine", f"runs:/{run.run_id}/model")

    page = reader.open(f"/register?run={run.run_id}&path=model")

    assert page.text(".warning a") == "version 1 of wine"


@pytest.mark.parametrize(
    ("kind", "name", "status", "says"),
    [
        ("new", "beer", 400, "exists already"),
        ("existing", "none", 404, "there is no registered model 'none'"),
        ("new", "a/b", 400, "cannot contain"),
        ("new", "", 400, "missing"),
        ("other", "wine", 400, "choose whether"),
    ],
)
def test_refused(reader, registry, run, kind, name, status, says):
    """What cannot be is told in the dialog, which keeps all that was typed; nothing is made."""
    registry.create_registered_model("beer")
    typed = {"run": run.run_id, "path": "model", "kind": kind, "name": name, "description": "kept"}

    page = reader.post("/register", typed)

    assert page.status == status
    assert says in page.text("main form .error")
    assert page.attribute("#model-field", "value") == name
    assert page.text("#description") == "kept"
    assert [each.name for each in registry.search_registered_models()] == ["beer"]
    assert registry.search_model_versions() == []


def test_folder_without_files(reader, registry, run):
    """A folder that is not there leaves no empty model behind."""
    page = reader.post("/register", {"run": run.run_id, "path": "nothing", "kind": "new", "name": "wine"})

    assert page.status == 400
    assert registry.search_registered_models() == []


@pytest.mark.parametrize(
    "query", ["", "?run=none&path=model", "?model=m-1", f"?model=m-{'0' * 32}", "?run=x", "?path=model"]
)
def test_nothing_to_register(reader, query):
    """An address that names no model is told on a page."""
    page = reader.open(f"/register{query}")

    assert page.status in (400, 404)
    assert page.text(".error")


@pytest.mark.parametrize("path", ["../x", "/etc", "model/../../x", "..%2f..%2fx", "a\\b"])
def test_paths_elsewhere(reader, registry, run, path):
    """No path leads out of the run's folder."""
    page = reader.post("/register", {"run": run.run_id, "path": path, "kind": "new", "name": "wine"})

    assert page.status == 400
    assert registry.search_registered_models() == []


@pytest.mark.parametrize(
    ("kind", "name", "says", "is_error"),
    [
        ("new", "wine", "It will be version 1 of a new model.", False),
        ("new", "beer", "exists already", True),
        ("new", "a/b", "cannot contain", True),
        ("existing", "beer", "It will be its first version.", False),
        ("existing", "wine", "no registered model", True),
        ("new", "", "", False),
    ],
)
def test_check_while_typing(reader, registry, kind, name, says, is_error):
    """What a name would mean is said beside the field."""
    registry.create_registered_model("beer")

    page = reader.open("/register/check", params={"kind": kind, "name": name})

    assert page.status == 200
    assert says in page.text("#name-check")
    assert page.has("#name-check.error") == is_error


def test_logged_model(reader, registry):
    """A logged model is registered under its own source."""
    model = registry.tracking.create_logged_model("model")
    with registry.artifacts.create(model.artifact_uri.removeprefix("mlflow-artifacts:/") + "/MLmodel") as upload:
        upload.write(b"flavors: {}\n")
    registry.tracking.finalize_logged_model(model.model_id)

    page = reader.send(reader.open(f"/register?model={model.model_id}"), "main form", {"name": "wine"})

    assert page.path.startswith("/models/wine/versions/1?")
    assert registry.get_model_version("wine", 1).model_id == model.model_id
