"""A run's page, its metrics, and the page of a logged model."""

from __future__ import annotations

import math

import pytest

from registry.tracking import Metric, ModelLink

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def run(registry):
    """A run with params, metrics, tags and artifacts."""
    made = registry.tracking.create_run(run_name="ridge", start_time=1_000)
    metrics = [Metric("loss", 10.0 / (step + 1), 1_000 + step, step) for step in range(20)]
    registry.tracking.log_batch(made.run_id, [*metrics, Metric("r2", 0.5, 1_000)], {"alpha": "1"}, {"team": "risk"})
    return registry.tracking.get_run(made.run_id)


@pytest.fixture
def put(registry, run):
    """Writes an artifact of the run."""

    def write(path: str, content: bytes) -> None:
        folder = run.artifact_uri.removeprefix("mlflow-artifacts:/")
        with registry.artifacts.create(f"{folder}/{path}") as upload:
            upload.write(content)

    return write


@pytest.fixture
def logged(registry, run):
    """A model that the run logged as a 3.x client does: outside of the run's folder."""
    model = registry.tracking.create_logged_model("model", run.run_id)
    folder = model.artifact_uri.removeprefix("mlflow-artifacts:/")
    with registry.artifacts.create(f"{folder}/MLmodel") as upload:
        upload.write(b"flavors: {}\n")
    registry.tracking.finalize_logged_model(model.model_id)
    registry.tracking.log_outputs(run.run_id, [ModelLink(model.model_id)])
    return model


def test_page(reader, run):
    """It has the params, the metrics with their latest values and a chart of those with a history, and the tags."""
    page = reader.open(f"/runs/{run.run_id}")

    assert page.text("h1") == "Run ridge"
    assert page.texts("[aria-labelledby=params-title] tbody tr") == ["alpha 1"]
    assert page.texts("[aria-labelledby=metrics-title] tbody tr") == ["loss 0.5 19", "r2 0.5 0"]
    assert page.texts(".chart-title") == ["loss"]
    assert page.has("svg[aria-label='loss from 0.5 to 10'] polyline")
    assert page.text("[aria-labelledby=tags-title] li") == "team : risk"


def test_metric(reader, run):
    """A metric's page has its history as numbers and as points for the chart."""
    page = reader.open(f"/runs/{run.run_id}/metrics?key=loss")

    assert len(page.texts("tbody tr")) == 20
    assert page.attribute("[data-line]", "data-line").startswith('{"label":"loss","unit":"step","x":[0.0,1.0')


@pytest.mark.parametrize(
    "values", [[math.nan, math.inf, 1.0], [math.nan, math.nan], [1e308, -1e308], [5.0, 5.0], [1.0]]
)
def test_strange_metrics(reader, registry, run, values):
    """Values that no axis has, that are all one, or as far apart as can be, have a page too."""
    metrics = [Metric("odd", value, 1_000, step) for step, value in enumerate(values)]
    registry.tracking.log_batch(run.run_id, metrics)

    assert reader.open(f"/runs/{run.run_id}").status == 200
    page = reader.open(f"/runs/{run.run_id}/metrics?key=odd")
    assert page.status == 200
    assert "nan" not in page.attribute("[data-line]", "data-line").lower()


def test_no_such_metric(reader, run):
    """A metric that the run has not is told."""
    assert reader.open(f"/runs/{run.run_id}/metrics?key=none").status == 404


def test_long_history(reader, registry, run):
    """A long history is thinned, and its highest peak is kept."""
    metrics = [Metric("long", 100.0 if step == 1234 else 0.0, 1_000, step) for step in range(5_000)]
    for start in range(0, 5_000, 1_000):
        registry.tracking.log_batch(run.run_id, metrics[start : start + 1_000])

    page = reader.open(f"/runs/{run.run_id}/metrics?key=long")

    assert page.attribute(".plot svg", "aria-label") == "long from 0 to 100"
    assert len(page.response.content) < 100_000


@pytest.mark.parametrize(
    ("path", "content", "shown"),
    [
        ("notes.txt", "größer\nals".encode(), "pre"),
        ("MLmodel", b"flavors: {}", "pre"),
        ("weights.csv", b"feature,weight\nbmi,519.8\n", "table"),
        ("plots/a.png", PNG, "img"),
        ("photo.jpg", b"\xff\xd8\xff\xe0", "img"),
        ("weights.bin", bytes(range(256)), ".muted"),
        ("page.html", b"<h1>no</h1><script>alert(1)</script>", "pre"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "pre"),
        ("really.png", b"<script>alert(1)</script>", "pre"),
        ("empty", b"", "pre"),
        ("cut.txt", "ü".encode() * 40_000, "pre"),
        ("one.csv", b"just text\n", "pre"),
        ("quote.csv", b'a,"b\nc', "table"),
    ],
)
def test_preview(reader, run, put, path, content, shown):
    """A file is shown as text, as a table, as an image or not at all, and never as a page."""
    put(path, content)

    page = reader.open(f"/runs/{run.run_id}", params={"path": path})

    assert page.has(f".preview {shown}")
    assert not page.has("main h1 + script, .preview script, .preview svg, .preview h1")
    assert page.text(".tree [aria-current]") == path.rpartition("/")[2]


def test_preview_is_a_beginning(reader, run, put):
    """Of a long file its beginning is shown, and that it is one."""
    put("log.txt", b"line\n" * 1_000_000)

    page = reader.open(f"/runs/{run.run_id}?path=log.txt")

    assert "This is its beginning" in page.text(".preview")
    assert len(page.response.content) < 100_000


@pytest.mark.parametrize("path", ["../../x", "plots/../../x", "a\\b", "%2e%2e/%2e%2e/x", "nothing", "notes.txt/x"])
def test_paths_that_lead_nowhere(reader, run, put, path):
    """A path that leaves the run's folder, or names nothing in it, shows nothing."""
    put("notes.txt", b"x")

    page = reader.open(f"/runs/{run.run_id}", params={"path": path})

    assert page.status in (200, 400)
    assert not page.has(".preview pre")


def test_many_files(reader, run, put):
    """Of a folder with many files the first are shown, and the one that is chosen."""
    for number in range(210):
        put(f"f{number:03}.txt", b"x")

    page = reader.open(f"/runs/{run.run_id}?path=f205.txt")

    assert len(page.texts(".tree li")) == 202
    assert page.text(".tree [aria-current]") == "f205.txt"
    assert "and 9 more" in page.text(".tree")


def test_logged_model_in_the_tree(reader, registry, run, put, logged):
    """A model that lies outside of the run's folder stands in the tree by its name, and can be registered."""
    put("notes.txt", b"x")
    page = reader.open(f"/runs/{run.run_id}")
    assert page.texts(".tree a") == ["model /", "notes.txt"]

    page = reader.open(page.attribute(".tree a", "href"))

    assert page.texts(".tree a") == ["model /", "MLmodel", "notes.txt"]
    assert "not registered yet" in page.text(".model")
    assert page.attribute(".model a.button", "href") == f"/register?model={logged.model_id}"
    page = reader.open(f"/runs/{run.run_id}?model={logged.model_id}&path=MLmodel")
    assert page.text(".preview pre") == "flavors: {}"
    assert not page.has(".model")


def test_registered_folder_shows_its_version(reader, registry, run, put):
    """A folder that is registered, under whichever source, links to its version."""
    put("model/MLmodel", b"flavors: {}\n")
    registry.create_registered_model("wine")
    registry.create_model_version("wine", f"runs:/{run.run_id}/model")
    registry.create_model_version("wine", f"{run.artifact_uri}/model", run_id=run.run_id)

    page = reader.open(f"/runs/{run.run_id}?path=model")

    assert sorted(page.texts(".model p a")[:2]) == ["version 1 of wine", "version 2 of wine"]


def test_logged_model_page(reader, registry, run, logged):
    """A logged model has a page with its files and the versions that were made of it."""
    registry.create_registered_model("wine")
    registry.create_model_version("wine", logged.model_uri)

    page = reader.open(f"/logged-models/{logged.model_id}")

    assert page.text("h1") == "Logged model model"
    assert "version 1 of wine" in page.text(".model")
    assert page.texts(".tree a") == ["MLmodel"]


def test_model_that_is_not_ready(reader, registry):
    """A logged model whose files are not complete cannot be registered."""
    model = registry.tracking.create_logged_model("model")

    page = reader.open(f"/logged-models/{model.model_id}")

    assert "cannot be registered until" in page.text(".model")


@pytest.mark.parametrize(
    "path",
    [
        "/runs/none",
        f"/runs/{'0' * 32}",
        f"/logged-models/m-{'0' * 32}",
        "/logged-models/x",
        "/experiments/99",
        "/experiments/x",
    ],
)
def test_nothing_there(reader, path):
    """What is not there is told on a page."""
    page = reader.open(path)

    assert page.status in (400, 404)
    assert page.text(".error")


def test_note_is_markdown(reader, registry, run):
    """The description that MLflow keeps in a tag is rendered like any other."""
    registry.tracking.log_batch(run.run_id, tags={"mlflow.note.content": "*good* <script>x</script>"})

    page = reader.open(f"/runs/{run.run_id}")

    assert page.text(".prose em") == "good"
    assert not page.has(".prose script")


@pytest.mark.parametrize("history", ["{", "[1]", '[{"a": 1}]', "null", '[{"artifact_path": "model"}]'])
def test_history_of_models(reader, registry, run, history):
    """What a 2.x client said it logged is linked, where it can be read."""
    registry.tracking.log_batch(run.run_id, tags={"mlflow.log-model.history": history})

    assert reader.open(f"/runs/{run.run_id}").status == 200
