"""Experiments, on every implementation of `Tracking`."""

from __future__ import annotations

import pytest

from registry.errors import AlreadyExists, InvalidParameter, NotFound


@pytest.fixture
def tracking(registry):
    """The tracking side of an empty registry."""
    return registry.tracking


def test_default_experiment(tracking):
    """Experiment 0 is there from the start, for clients send it without asking."""
    found = tracking.get_experiment("0")

    assert (found.experiment_id, found.name, found.lifecycle_stage) == ("0", "Default", "active")
    assert found.artifact_location == "mlflow-artifacts:/0"
    assert tracking.get_experiment_by_name("Default") == found


def test_create(tracking):
    """A new experiment has an id of its own, its tags, and a place named for its id."""
    made = tracking.create_experiment("wine", tags={"team": "a/b", "empty": ""})

    found = tracking.get_experiment(made)
    assert made.isdecimal()
    assert made != "0"
    assert (found.experiment_id, found.name, found.tags) == (made, "wine", {"team": "a/b", "empty": ""})
    assert found.artifact_location == f"mlflow-artifacts:/{made}"
    assert found.creation_time == found.last_update_time > 0
    assert tracking.get_experiment_by_name("wine") == found


def test_ids_are_not_used_again(tracking):
    """Every experiment has another id, and runs belong to the one they were made in."""
    first, second = tracking.create_experiment("a"), tracking.create_experiment("b")

    run = tracking.create_run(second)

    assert len({"0", first, second}) == 3
    assert run.experiment_id == second
    assert run.artifact_uri == f"mlflow-artifacts:/{second}/{run.run_id}/artifacts"


def test_names_are_taken_once(tracking):
    """A name is taken by one experiment, deleted ones included."""
    made = tracking.create_experiment("wine")
    other = tracking.create_experiment("beer")
    tracking.delete_experiment(other)

    for name in ("wine", "beer", "Default"):
        with pytest.raises(AlreadyExists):
            tracking.create_experiment(name)
    with pytest.raises(AlreadyExists):
        tracking.rename_experiment(made, "beer")
    tracking.rename_experiment(made, "wine")


def test_rename(tracking):
    """A new name replaces the old one, which is free again."""
    made = tracking.create_experiment("wine")

    tracking.rename_experiment(made, "beer")

    assert tracking.get_experiment(made).name == "beer"
    with pytest.raises(NotFound):
        tracking.get_experiment_by_name("wine")
    assert tracking.create_experiment("wine") != made


def test_delete_and_restore(tracking):
    """A deleted experiment can still be read, takes nothing new, and comes back with its runs."""
    made = tracking.create_experiment("wine")
    run = tracking.create_run(made)

    tracking.delete_experiment(made)

    assert tracking.get_experiment(made).lifecycle_stage == "deleted"
    assert tracking.get_experiment_by_name("wine").experiment_id == made
    assert tracking.get_run(run.run_id).lifecycle_stage == "deleted"
    for refused in (
        lambda: tracking.create_run(made),
        lambda: tracking.create_logged_model("model", experiment_id=made),
        lambda: tracking.set_experiment_tag(made, "a", "b"),
        lambda: tracking.log_batch(run.run_id, tags={"a": "b"}),
    ):
        with pytest.raises(InvalidParameter, match="must be in the 'active' state"):
            refused()
    with pytest.raises(NotFound):
        tracking.delete_experiment(made)

    tracking.restore_experiment(made)

    assert tracking.get_experiment(made).lifecycle_stage == "active"
    assert tracking.get_run(run.run_id).lifecycle_stage == "active"
    with pytest.raises(NotFound):
        tracking.restore_experiment(made)


def test_tags(tracking):
    """A tag is set, replaced and deleted; one that is not there cannot be deleted."""
    made = tracking.create_experiment("wine")

    tracking.set_experiment_tag(made, "k", "1")
    tracking.set_experiment_tag(made, "k", "2")
    tracking.set_experiment_tag(made, "other", "x")
    assert tracking.get_experiment(made).tags == {"k": "2", "other": "x"}
    tracking.delete_experiment_tag(made, "k")
    assert tracking.get_experiment(made).tags == {"other": "x"}
    with pytest.raises(NotFound):
        tracking.delete_experiment_tag(made, "k")


@pytest.mark.parametrize("experiment_id", ["999", "123456789012345678"])
def test_unknown(tracking, experiment_id):
    """What names no experiment is not found."""
    for asked in (
        lambda: tracking.get_experiment(experiment_id),
        lambda: tracking.rename_experiment(experiment_id, "x"),
        lambda: tracking.delete_experiment(experiment_id),
        lambda: tracking.restore_experiment(experiment_id),
        lambda: tracking.set_experiment_tag(experiment_id, "a", "b"),
        lambda: tracking.create_run(experiment_id),
        lambda: tracking.create_logged_model("model", experiment_id=experiment_id),
    ):
        with pytest.raises(NotFound):
            asked()


@pytest.mark.parametrize("experiment_id", ["", "abc", "-1", "1.5", "0x1", "٣", "9" * 40, "1 ", "1;--"])
def test_impossible_ids(tracking, experiment_id):
    """An id that is no whole number is refused."""
    with pytest.raises(InvalidParameter):
        tracking.get_experiment(experiment_id)
    with pytest.raises(InvalidParameter):
        tracking.search_runs([experiment_id])


@pytest.mark.parametrize("name", ["", "  ", "x" * 501, "a\0b"])
def test_impossible_names(tracking, name):
    """A name that no database keeps, or nobody can read, is refused."""
    made = tracking.create_experiment("wine")

    with pytest.raises(InvalidParameter):
        tracking.create_experiment(name)
    with pytest.raises(InvalidParameter):
        tracking.rename_experiment(made, name)
    assert [each.name for each in tracking.search_experiments(order_by=["name"])] == ["Default", "wine"]


def test_own_location(tracking):
    """An experiment may choose its place in the registry's own store."""
    made = tracking.create_experiment("wine", "mlflow-artifacts:/teams/wine")

    run = tracking.create_run(made)
    logged = tracking.create_logged_model("model", run.run_id)

    assert run.artifact_uri == f"mlflow-artifacts:/teams/wine/{run.run_id}/artifacts"
    assert logged.artifact_uri == f"mlflow-artifacts:/teams/wine/models/{logged.model_id}/artifacts"


@pytest.mark.parametrize(
    "location",
    [
        "/etc",
        "file:///etc",
        "FILE:/etc",
        "mlruns/0",
        "../x",
        "C:\\x",
        "s3://bucket/x",
        "http:///#/../../etc/",
        "ftp://h/x",
        "runs:/abc/x",
        "models:/a/1",
        "mlflow-artifacts:/",
        "mlflow-artifacts://host/x",
        "mlflow-artifacts:/../x",
        "mlflow-artifacts:/a/%2e%2e/x",
        "mlflow-artifacts:/a/%252e%252e/x",
        "mlflow-artifacts:/a//b",
        "mlflow-artifacts:/a?b",
        "mlflow-artifacts:/a#b",
        "mlflow-artifacts:/a%5cb",
        "mlflow-artifacts:/a%20b",
        "mlflow-artifacts:/a\nb",
        "mlflow-artifacts:/" + "x" * 3000,
    ],
)
def test_tf019_location_chosen_by_the_caller(tracking, location):
    """A place outside of the registry's own store is refused, and nothing is made."""
    with pytest.raises(InvalidParameter):
        tracking.create_experiment("wine", location)
    assert len(tracking.search_experiments()) == 1


def test_search(tracking):
    """Experiments are found by name, times and tags, newest first, deleted ones when asked for."""
    ids = {name: tracking.create_experiment(name, tags={"team": name[0]}) for name in ("alpha", "beta", "Gamma")}
    tracking.delete_experiment(ids["beta"])

    def names(*arguments, **options):
        return [each.name for each in tracking.search_experiments(*arguments, **options)]

    assert names(order_by=["name"]) == ["Default", "Gamma", "alpha"]
    assert names("DELETED_ONLY") == ["beta"]
    assert names("ALL", order_by=["experiment_id DESC"]) == ["Gamma", "beta", "alpha", "Default"]
    assert names(filter_string="name = 'alpha'") == ["alpha"]
    assert names(filter_string="attribute.name ILIKE 'g%'") == ["Gamma"]
    assert names(filter_string="name LIKE 'g%'") == []
    assert names(filter_string="tags.team = 'a'") == ["alpha"]
    assert names("ALL", filter_string="tags.`team` != 'a'", order_by=["name ASC"]) == ["Gamma", "beta"]
    assert names(filter_string="tags.team IS NULL") == ["Default"]
    assert len(names("ALL", filter_string="creation_time > 0 AND last_update_time >= 1664067852747")) == 4
    assert names("ALL", filter_string="creation_time < 1000") == []


def test_search_by_pages(tracking):
    """Pages hold each experiment once, and the last one has no token."""
    made = [tracking.create_experiment(f"e{number}") for number in range(5)]
    found, token = [], None

    while True:
        page = tracking.search_experiments(max_results=2, page_token=token)
        found += [each.experiment_id for each in page]
        token = page.token
        if token is None:
            break

    assert sorted(found) == sorted(["0", *made])


@pytest.mark.parametrize(
    "options",
    [
        {"filter_string": "color = 'a'"},
        {"filter_string": "name > 'a'"},
        {"filter_string": "metrics.a > 1"},
        {"filter_string": "name = 'a' OR name = 'b'"},
        {"filter_string": "creation_time = 'x'"},
        {"order_by": ["color"]},
        {"order_by": ["tags.a"]},
        {"order_by": ["name", "name DESC"]},
        {"order_by": ["name sideways"]},
        {"view_type": "SOME"},
        {"max_results": 0},
        {"max_results": 10**6},
        {"page_token": "nonsense"},
    ],
)
def test_impossible_searches(tracking, options):
    """A search that cannot be understood is refused."""
    with pytest.raises(InvalidParameter):
        tracking.search_experiments(**options)
