"""Logged models, on every implementation of `Tracking`."""

from __future__ import annotations

import re

import pytest

from registry.errors import InvalidParameter, NotFound
from registry.tracking import Metric

READY = "LOGGED_MODEL_READY"
UNKNOWN = "m-" + "0" * 32


@pytest.fixture
def tracking(registry):
    """The tracking side of an empty registry."""
    return registry.tracking


def test_create(tracking):
    """A new logged model is pending, lies in its run's experiment, and keeps what was said of it."""
    experiment_id = tracking.create_experiment("wine")
    run_id = tracking.create_run(experiment_id).run_id

    made = tracking.create_logged_model("model", run_id, {"k": "v"}, params={"depth": "2"}, model_type="sklearn")

    assert re.fullmatch("m-[0-9a-f]{32}", made.model_id)
    assert (made.name, made.source_run_id, made.experiment_id) == ("model", run_id, experiment_id)
    assert made.artifact_uri == f"mlflow-artifacts:/{experiment_id}/models/{made.model_id}/artifacts"
    assert (made.status, made.model_type, made.tags, made.params) == (
        "LOGGED_MODEL_PENDING",
        "sklearn",
        {"k": "v"},
        {"depth": "2"},
    )
    assert made.creation_timestamp == made.last_updated_timestamp > 0
    assert tracking.get_logged_model(made.model_id) == made


def test_experiment(tracking):
    """Without a run it lies in the default experiment; a named experiment wins."""
    other = tracking.create_experiment("other")
    run_id = tracking.create_run().run_id

    assert tracking.create_logged_model("a").experiment_id == "0"
    assert tracking.create_logged_model("a", run_id).experiment_id == "0"
    assert tracking.create_logged_model("a", run_id, experiment_id=other).experiment_id == other


def test_name_is_made_up(tracking):
    """Without a name it is given one."""
    assert re.fullmatch(r"[a-z]+-[a-z]+-\d+", tracking.create_logged_model(None).name)


@pytest.mark.parametrize("name", [" ", "a/b", "a:b", "a.b", "a%b", 'a"b', "a'b", "x" * 257, "a\0b"])
def test_impossible_names(tracking, name):
    """A name with a character that a reference gives a meaning is refused."""
    with pytest.raises(InvalidParameter):
        tracking.create_logged_model(name)
    assert tracking.search_logged_models(["0"]) == []


def test_finalize(tracking):
    """It ends as ready or failed, and can be tried again."""
    made = tracking.create_logged_model("model")

    failed = tracking.finalize_logged_model(made.model_id, "LOGGED_MODEL_UPLOAD_FAILED")
    ready = tracking.finalize_logged_model(made.model_id)

    assert (failed.status, ready.status) == ("LOGGED_MODEL_UPLOAD_FAILED", READY)
    assert ready.last_updated_timestamp >= made.last_updated_timestamp
    for status in ("LOGGED_MODEL_PENDING", "READY", ""):
        with pytest.raises(InvalidParameter):
            tracking.finalize_logged_model(made.model_id, status)


def test_tags_and_params(tracking):
    """Tags are replaced and deleted; params are only added."""
    model_id = tracking.create_logged_model("model", tags={"a": "1"}, params={"p": "1"}).model_id

    tracking.set_logged_model_tags(model_id, {"a": "2", "b": "3"})
    tracking.set_logged_model_tags(model_id, {})
    tracking.delete_logged_model_tag(model_id, "b")
    tracking.log_logged_model_params(model_id, {"p": "1", "q": "2"})

    found = tracking.get_logged_model(model_id)
    assert (found.tags, found.params) == ({"a": "2"}, {"p": "1", "q": "2"})
    with pytest.raises(NotFound):
        tracking.delete_logged_model_tag(model_id, "b")
    with pytest.raises(InvalidParameter, match="p"):
        tracking.log_logged_model_params(model_id, {"p": "9", "r": "1"})
    assert tracking.get_logged_model(model_id).params == {"p": "1", "q": "2"}


def test_delete(registry, tracking, make_version):
    """A deleted one is not found again, and versions that were made from it stay as they are."""
    registry.create_registered_model("wine")
    version = make_version()
    (logged,) = tracking.search_logged_models(["0"])

    tracking.delete_logged_model(logged.model_id)

    for asked in (
        lambda: tracking.get_logged_model(logged.model_id),
        lambda: tracking.delete_logged_model(logged.model_id),
        lambda: tracking.finalize_logged_model(logged.model_id),
        lambda: tracking.set_logged_model_tags(logged.model_id, {"a": "b"}),
        lambda: registry.create_model_version("wine", f"models:/{logged.model_id}"),
    ):
        with pytest.raises(NotFound):
            asked()
    assert tracking.search_logged_models(["0"]) == []
    assert registry.get_model_version("wine", 1).digest == version.digest


@pytest.mark.parametrize("model_id", ["", "model", "m-1", "M-" + "0" * 32, UNKNOWN.upper(), UNKNOWN + "\n"])
def test_impossible_ids(tracking, model_id):
    """An id that can be none is refused; one that names nothing is not found."""
    with pytest.raises(InvalidParameter):
        tracking.get_logged_model(model_id)
    with pytest.raises(NotFound):
        tracking.get_logged_model(UNKNOWN)


@pytest.fixture
def three(tracking):
    """Three logged models: a and b of one run with metrics, c without anything."""
    run_id = tracking.create_run().run_id
    made = {}
    for number, name in enumerate("ab", 1):
        made[name] = tracking.create_logged_model(name, run_id, {"team": name * 2}, params={"depth": str(number)})
        metrics = [
            Metric("acc", number / 10, 1, 0, made[name].model_id, "wine.csv", "d1"),
            Metric("acc", 1 - number / 10, 2, 1, made[name].model_id, "beer.csv", "d2"),
        ]
        tracking.log_batch(run_id, metrics)
    tracking.finalize_logged_model(made["a"].model_id)
    made["c"] = tracking.create_logged_model("c", model_type="keras")
    return made


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "a b c"),
        ("name = 'a'", "a"),
        ("name IN ('a', 'c') AND name != 'c'", "a"),
        ("name ILIKE 'B%'", "b"),
        ("attributes.name LIKE 'B%'", ""),
        ("status = 'LOGGED_MODEL_READY'", "a"),
        ("model_type = 'keras'", "c"),
        ("source_run_id LIKE '%'", "a b"),
        ("tags.team = 'aa'", "a"),
        ("tags.`team` LIKE '%b'", "b"),
        ("params.depth IN ('1', '3')", "a"),
        ("params.depth != '1'", "b"),
        ("metrics.acc > 0.85", "a"),
        ("metrics.acc = 0.2", "b"),
        ("metrics.acc > 0 AND params.depth = '2'", "b"),
        ("creation_timestamp > 1664067852747", "a b c"),
        ("last_updated_timestamp_ms < 1000", ""),
    ],
)
@pytest.mark.usefixtures("three")
def test_filters(tracking, text, names):
    """A filter finds exactly the models for which all of its comparisons hold."""
    found = tracking.search_logged_models(["0"], text, order_by=[{"field_name": "name"}])

    assert [each.name for each in found] == names.split()


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ({"field_name": "name", "ascending": False}, "c b a"),
        ({"field_name": "creation_timestamp", "ascending": True}, "a b c"),
        ({"field_name": "model_type", "ascending": True}, "c b a"),
        ({"field_name": "metrics.acc", "ascending": False}, "a b c"),
        ({"field_name": "metrics.acc", "ascending": False, "dataset_name": "wine.csv"}, "b a c"),
        ({"field_name": "metrics.acc", "dataset_name": "wine.csv", "dataset_digest": "other"}, "c b a"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("three")
def test_orders(tracking, order, names):
    """Models come in the order asked for, by the latest value of a metric, those without one last."""
    newest = {"field_name": "name", "ascending": False}
    orders = [order] if order["field_name"] == "name" else [order, newest]

    assert [each.name for each in tracking.search_logged_models(["0"], order_by=orders)] == names.split()


def test_datasets(tracking, three):
    """With datasets, only what was measured on one of them counts."""

    def names(text, *datasets):
        found = tracking.search_logged_models(
            ["0"], text, order_by=[{"field_name": "name"}], datasets=[dict(each) for each in datasets]
        )
        return "".join(each.name for each in found)

    wine, beer = {"dataset_name": "wine.csv"}, {"dataset_name": "beer.csv", "dataset_digest": "d2"}
    assert names(None, wine) == "ab"
    assert names(None, {"dataset_name": "beer.csv", "dataset_digest": "other"}) == ""
    assert names("metrics.acc > 0.85", wine) == ""
    assert names("metrics.acc > 0.85", wine, beer) == "a"
    assert three["a"].name == "a"


@pytest.mark.usefixtures("three")
def test_pages_and_experiments(tracking):
    """Pages hold each model once; other experiments hold none of them."""
    found, token = [], None
    while True:
        page = tracking.search_logged_models(["0", "0"], max_results=2, page_token=token)
        found += [each.name for each in page]
        token = page.token
        if token is None:
            break

    assert sorted(found) == ["a", "b", "c"]
    assert tracking.search_logged_models([tracking.create_experiment("other")]) == []
    assert tracking.search_logged_models([]) == []


@pytest.mark.parametrize(
    "options",
    [
        {"filter_string": "color = 'a'"},
        {"filter_string": "name > 'a'"},
        {"filter_string": "metrics.acc LIKE 'a'"},
        {"filter_string": "tags.a IS NULL"},
        {"filter_string": "name = 'a' OR name = 'b'"},
        {"filter_string": "creation_timestamp = 'x'"},
        {"order_by": [{"field_name": "color"}]},
        {"order_by": [{"field_name": "params.a"}]},
        {"order_by": [{"ascending": True}]},
        {"order_by": [{"field_name": "name", "ascending": "yes"}]},
        {"order_by": [{"field_name": "name"}] * 11},
        {"datasets": [{}]},
        {"datasets": [{"dataset_name": 1}]},
        {"max_results": 0},
        {"page_token": "nonsense"},
        {"experiment_ids": ["x"]},
    ],
    ids=str,
)
def test_impossible_searches(tracking, options):
    """A search that cannot be understood is refused."""
    with pytest.raises(InvalidParameter):
        tracking.search_logged_models(**({"experiment_ids": ["0"]} | options))
