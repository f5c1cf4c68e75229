"""One version's page: what it shows, promoting it, deleting it."""

from __future__ import annotations

import json

import pytest

SIGNATURE = {
    "inputs": [{"name": "age", "type": "double"}, {"name": "city", "type": "string", "required": False}],
    "outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}],
    "params": [{"name": "top", "type": "long", "default": 3}],
}
MLMODEL = json.dumps(
    {
        "flavors": {"sklearn": {}, "python_function": {}},
        "signature": {part: json.dumps(columns) for part, columns in SIGNATURE.items()},
        "mlflow_version": "3.17.2",
    }
)


@pytest.fixture
def registry(sqlite_registry, make_version):
    """A model named wine with two versions, of which the first has a signature."""
    sqlite_registry.create_registered_model("wine")
    first = make_version(content=MLMODEL)
    folder = sqlite_registry.tracking.get_logged_model(first.model_id).artifact_uri.removeprefix("mlflow-artifacts:/")
    for path, content in {
        "requirements.txt": b"scikit-learn==1.9.1\n# a comment\nnumpy\n",
        "serving_input_example.json": b'{"inputs": [1]}',
        "notes/readme.txt": "größer".encode(),
    }.items():
        with sqlite_registry.artifacts.create(f"{folder}/{path}") as upload:
            upload.write(content)
    make_version()
    return sqlite_registry


def definitions(page):
    return dict(zip(page.texts("dt"), page.texts("dd"), strict=True))


def test_page(reader, registry):
    """It says what the version is: signature, requirements, digest, size and how it was logged."""
    page = reader.open("/models/wine/versions/1")

    assert page.text("h1") == "wine , version 1"
    about = definitions(page)
    assert about["Flavors"] == "python_function, sklearn"
    assert about["Logged by"] == "mlflow 3.17.2"
    assert about["Digest"] == registry.get_model_version("wine", 1).digest
    rows = page.texts("[aria-labelledby=signature-title] tbody tr")
    assert rows == ["age double", "city string optional", "0 tensor float64 shape [-1]", "top long default 3"]
    assert page.text("[aria-labelledby=requirements-title] pre") == "scikit-learn==1.9.1 numpy"


def test_how_to_use(reader, registry):
    """Commands to paste name the version by its alias where it has one, and the gateway that serves it."""
    commands = " ".join(reader.open("/models/wine/versions/1").texts(".command"))
    assert "registry.load_model('models:/wine/1', client=client)" in commands
    assert "turnout serve -m models:/wine/1 --registry-uri http://127.0.0.1" in commands
    registry.set_registered_model_alias("wine", "champion", 1)
    version = {"version": "1", "role": "primary", "state": "ready"}
    endpoint = {"name": "cellar", "model": "wine", "alias": "champion", "versions": [version]}
    report = {"address": "http://gateway:8080", "endpoints": [endpoint]}
    reader.client.put("/api/turnout/v1/gateways/gw-1", json=report).raise_for_status()

    page = reader.open("/models/wine/versions/1")

    assert "mlflow.pyfunc.load_model('models:/wine@champion')" in page.texts(".command")[1]
    assert page.texts(".command")[-1] == (
        "curl http://gateway:8080/endpoints/cellar/invocations -H 'Content-Type: application/json' "
        """-d '{"inputs": [1]}'"""
    )
    assert "at endpoint cellar of gateway gw-1" in page.text(".serving")


def test_files(reader):
    """Its files are a tree, and the one that is chosen is shown."""
    page = reader.open("/models/wine/versions/1?path=notes/readme.txt")

    assert page.texts(".tree a") == [
        "MLmodel",
        "notes /",
        "readme.txt",
        "requirements.txt",
        "serving_input_example.json",
    ]
    assert page.text(".tree [aria-current]") == "readme.txt"
    assert page.text(".preview pre") == "größer"
    download = reader.client.get(page.attribute(".preview a[download]", "href"))
    assert download.content == "größer".encode()
    assert download.headers["content-disposition"].startswith("attachment")


@pytest.mark.parametrize("path", ["../../x", "/etc/passwd", "a//b", "%2e%2e/x", "..", "a\\b"])
def test_files_elsewhere(reader, path):
    """No path leads out of the version's folder."""
    assert reader.open("/models/wine/versions/1", params={"path": path}).status in (400, 200)
    assert not reader.open("/models/wine/versions/1", params={"path": path}).has(".preview pre")


def test_aliases_and_tags(reader, registry):
    """Aliases, tags and the description of a version are changed on its page."""
    address = "/models/wine/versions/1"
    page = reader.send(reader.open(f"{address}?edit=alias-1"), "#aliases form", {"alias": "champion"})
    assert page.path == f"{address}?done=alias-set&what=champion"
    assert page.texts("#aliases .alias") == ["@champion"]

    reader.send(reader.open(f"{address}?edit=tag"), "#tags form", {"key": "validated", "value": "yes"})
    reader.send(reader.open(f"{address}?edit=description"), "#description form", {"description": "of *2019*"})

    version = registry.get_model_version("wine", 1)
    assert version.description == "of *2019*"
    assert version.tags["validated"] == "yes"
    page = reader.open(f"{address}/tags/delete?key=validated")
    assert "version 1 of “wine”" in page.text("h1")
    reader.send(page, "main form")
    assert "validated" not in registry.get_model_version("wine", 1).tags


@pytest.mark.parametrize("target", ["prod.wine", "beer"])
def test_promote(reader, registry, target):
    """A version is copied to another model, which is made when it is not there."""
    registry.create_registered_model("beer")

    page = reader.send(reader.open("/models/wine/versions/1/promote"), "main form", {"target": target})

    assert page.path == f"/models/{target}/versions/1?done=version-created&what=1"
    assert registry.get_model_version(target, 1).source == "models:/wine/1"


def test_promote_refused(reader):
    """A name that cannot be is told beside the field, which keeps it."""
    page = reader.send(reader.open("/models/wine/versions/1/promote"), "main form", {"target": "a/b"})

    assert page.status == 400
    assert page.attribute("#model-field", "value") == "a/b"
    assert page.text(".error")


def test_suggested_names(reader, registry):
    """The list of models follows what is typed."""
    registry.create_registered_model("prod.wine")
    registry.create_registered_model("beer")

    assert [each.attributes["value"] for each in reader.open("/names?target=WIN").document.css("option")] == [
        "prod.wine",
        "wine",
    ]


def test_delete(reader, registry):
    """Deleting a version asks first, naming the aliases that go with it and the copies that stay."""
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.copy_model_version("models:/wine/1", "prod")

    page = reader.open("/models/wine/versions/1/delete")

    assert "@champion will be deleted with it" in page.text(".facts")
    assert "Versions of the same files stay: version 1 of “prod”." in page.text(".facts")
    page = reader.send(page, "main form")
    assert page.text(".notice") == "Version “1” was deleted."
    assert page.texts("#versions tbody th a") == ["Version 2"]


@pytest.mark.parametrize(("number", "status"), [("99", 404), ("x", 400), ("-1", 400), ("9" * 400, 400)])
def test_no_such_version(reader, number, status):
    """A version that is not there is told on a page."""
    page = reader.open(f"/models/wine/versions/{number}")

    assert page.status == status
    assert page.text(".error")


@pytest.mark.parametrize(
    "content", ["{{", "a: &a [*a]", "!!python/object:os.system {}", "flavors: 1", "", "\0", "x" * 2_000_000]
)
def test_strange_mlmodel(reader, make_version, content):
    """What cannot be read as an MLmodel is told where the signature would be."""
    make_version(content=content)

    page = reader.open("/models/wine/versions/3")

    assert page.status == 200
    assert "It cannot be shown" in page.text("[aria-labelledby=signature-title]")


def test_version_without_files(reader, registry):
    """A prompt has no files, and a page all the same."""
    registry.create_registered_model("greeting", tags={"mlflow.prompt.is_prompt": "true"})
    registry.create_model_version("greeting", "dummy-source")

    assert reader.open("/models/greeting/versions/1").status == 200
