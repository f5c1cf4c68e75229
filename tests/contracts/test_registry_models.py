"""Registered models, on every implementation of `Registry`."""

from __future__ import annotations

import pytest

from registry.errors import AlreadyExists, InvalidParameter, NotFound


def test_create_and_get(registry):
    """A new model has what it was given, equal times, and nothing else."""
    made = registry.create_registered_model("wine", {"team": "cellar", "year": 2026}, "red and white")

    assert registry.get_registered_model("wine") == made
    assert (made.name, made.description) == ("wine", "red and white")
    assert made.tags == {"team": "cellar", "year": "2026"}
    assert made.creation_timestamp == made.last_updated_timestamp
    assert (list(made.latest_versions), dict(made.aliases)) == ([], {})
    assert dict(made)["name"] == "wine"


def test_create_taken_name(registry):
    """A taken name is refused, and the model that has it stays as it is."""
    made = registry.create_registered_model("wine")

    with pytest.raises(AlreadyExists):
        registry.create_registered_model("wine", description="another")

    assert registry.get_registered_model("wine") == made


def test_names_are_case_sensitive(registry):
    """`wine` and `Wine` are two models."""
    registry.create_registered_model("wine")
    registry.create_registered_model("Wine")

    assert [each.name for each in registry.search_registered_models()] == ["Wine", "wine"]


@pytest.mark.parametrize(
    "name", ["a b", "é", "模型", "a%b?c#d&e=f", "m@n", "..a", "x" * 256, "a\\b", "'; DROP TABLE x --"]
)
def test_awkward_names_work(registry, name):
    """A name may hold whatever can be seen, except '/' and ':'."""
    registry.create_registered_model(name)

    assert registry.get_registered_model(name).name == name
    assert [each.name for each in registry.search_registered_models()] == [name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "  ",
        "a/b",
        "a:b",
        ".",
        "..",
        " a",
        "a ",
        "a\n",
        "a\0b",
        "a\x1bb",
        "a\u202eb",
        "\u200fa",
        "a\u200bb",
        "e\u0301",
        "a\ue000",
        "a\U000e0fff",
        "a\U0003fff0",
        "\u2800",
        "a\u3164b",
        "\u115f",
        "\u1160",
        "\uffa0",
        "a\u034f",
        "a\ufe0f",
        "a\U000e0100",
        "a\u180b",
        "a\u17b4",
        "x" * 257,
        "\ud800",
        None,
        3,
        ["a"],
    ],
)
def test_tf072_bad_names(registry, name):
    """A name with something invisible, too long, or of another type is refused by every method."""
    before = registry.cursor()

    for call in (
        registry.create_registered_model,
        registry.get_registered_model,
        registry.delete_registered_model,
        lambda each: registry.rename_registered_model("wine", each),
        lambda each: registry.get_model_version(each, "1"),
    ):
        with pytest.raises(InvalidParameter):
            call(name)

    assert registry.cursor() == before


def test_unknown_model(registry):
    """Every method that names a model says NotFound when there is none."""
    for call in (
        lambda: registry.get_registered_model("no"),
        lambda: registry.rename_registered_model("no", "yes"),
        lambda: registry.update_registered_model("no", "text"),
        lambda: registry.delete_registered_model("no"),
        lambda: registry.get_latest_versions("no"),
        lambda: registry.set_registered_model_tag("no", "a", "b"),
        lambda: registry.delete_registered_model_tag("no", "a"),
        lambda: registry.get_model_version_by_alias("no", "champion"),
        lambda: registry.get_model_version_by_alias("no", "latest"),
        lambda: registry.set_registered_model_alias("no", "champion", 1),
        lambda: registry.delete_registered_model_alias("no", "champion"),
        lambda: registry.get_alias_history("no", "champion"),
        lambda: registry.rollback_alias("no", "champion"),
        lambda: registry.resolve("models:/no/latest"),
    ):
        with pytest.raises(NotFound, match="no"):
            call()


def test_rename_takes_everything_along(registry, make_version):
    """Versions, tags, aliases and history follow a rename; the old name is free."""
    registry.create_registered_model("wine", {"a": "b"})
    version = make_version()
    registry.set_registered_model_alias("wine", "champion", 1)

    renamed = registry.rename_registered_model("wine", "grape")

    assert (renamed.name, renamed.tags, renamed.aliases) == ("grape", {"a": "b"}, {"champion": "1"})
    moved = registry.get_model_version("grape", 1)
    assert (moved.name, moved.source, moved.creation_timestamp) == ("grape", version.source, version.creation_timestamp)
    assert moved.last_updated_timestamp == renamed.last_updated_timestamp
    assert len(registry.get_alias_history("grape", "champion")) == 1
    with pytest.raises(NotFound):
        registry.get_registered_model("wine")
    assert registry.create_registered_model("wine").tags == {}


def test_rename_to_a_taken_name(registry):
    """Renaming onto another model is refused and moves nothing."""
    registry.create_registered_model("wine")
    registry.create_registered_model("grape")

    with pytest.raises(AlreadyExists):
        registry.rename_registered_model("wine", "grape")

    assert {each.name for each in registry.search_registered_models()} == {"grape", "wine"}


def test_rename_to_its_own_name(registry):
    """A model may keep its name: nothing but its time changes, as in MLflow."""
    made = registry.create_registered_model("wine", {"a": "b"}, "text")

    renamed = registry.rename_registered_model("wine", "wine")

    assert (renamed.name, renamed.tags, renamed.description) == ("wine", {"a": "b"}, "text")
    assert renamed.last_updated_timestamp >= made.last_updated_timestamp


def test_a_databricks_job_is_ignored(registry):
    """`deployment_job_id` is taken, as MLflow's scripts pass it, and means nothing."""
    made = registry.create_registered_model("wine", deployment_job_id="7")
    updated = registry.update_registered_model("wine", "text", deployment_job_id="7")

    assert (made.deployment_job_id, updated.deployment_job_id, updated.description) == (None, None, "text")


def test_keys_are_those_of_mlflow(registry, make_version):
    """`dict()` of a model and of a version has the keys that MLflow 3's entities have."""
    registry.create_registered_model("wine")
    version = make_version()

    assert set(dict(registry.get_registered_model("wine"))) == {
        "aliases", "creation_timestamp", "deployment_job_id", "deployment_job_state", "description",
        "last_updated_timestamp", "latest_versions", "name", "tags", "workspace",
    }  # fmt: skip
    assert set(dict(version)) == {
        "aliases", "creation_timestamp", "current_stage", "deployment_job_state", "description",
        "last_updated_timestamp", "metrics", "model_id", "name", "params", "run_id", "run_link", "source", "status",
        "status_message", "tags", "user_id", "version", "workspace",
    }  # fmt: skip


def test_deleting_leaves_no_rows(registry, make_version):
    """A model of the same name begins anew: no version, tag, alias or history is left of the one before."""
    registry.create_registered_model("wine", {"a": "b"})
    make_version(tags={"k": "v"})
    registry.set_registered_model_alias("wine", "champion", 1)

    registry.delete_registered_model("wine")
    again = registry.create_registered_model("wine")

    assert (again.tags, again.aliases, list(again.latest_versions)) == ({}, {}, [])
    assert registry.search_model_versions("tags.k = 'v'") == []
    with pytest.raises(InvalidParameter, match="has: none"):
        registry.get_alias_history("wine", "champion")
    assert make_version().version == "1"


def test_update_description(registry):
    """A description is replaced, or cleared by none."""
    registry.create_registered_model("wine", description="old")

    assert registry.update_registered_model("wine", "new").description == "new"
    assert registry.update_registered_model("wine").description is None


def test_delete_frees_name_and_numbers(registry, make_version):
    """A model created again under a deleted name starts at version 1 with no tags, aliases or history."""
    registry.create_registered_model("wine", {"a": "b"})
    old = make_version()
    make_version()
    registry.set_registered_model_alias("wine", "champion", 1)

    registry.delete_registered_model("wine")
    with pytest.raises(NotFound):
        registry.get_model_version("wine", 1)
    again = registry.create_registered_model("wine")

    assert (again.tags, again.aliases, list(again.latest_versions)) == ({}, {}, [])
    new = make_version()
    assert new.version == "1"
    assert new.key != old.key
    with pytest.raises(InvalidParameter):
        registry.get_alias_history("wine", "champion")


def test_tags(registry):
    """Setting a tag overwrites, deleting an absent one does nothing, and neither moves the model's time."""
    made = registry.create_registered_model("wine")

    registry.set_registered_model_tag("wine", "team", "a")
    registry.set_registered_model_tag("wine", "team", 7)
    registry.set_registered_model_tag("wine", "a/b.c d:e-f_g", "")
    registry.delete_registered_model_tag("wine", "absent")

    found = registry.get_registered_model("wine")
    assert found.tags == {"team": "7", "a/b.c d:e-f_g": ""}
    assert found.last_updated_timestamp == made.last_updated_timestamp
    registry.delete_registered_model_tag("wine", "team")
    assert registry.get_registered_model("wine").tags == {"a/b.c d:e-f_g": ""}


@pytest.mark.parametrize("key", ["", "a\n", "a\0", "../a", "/a", "a//b", "a/../b", "a*", "k" * 251, None, 3])
def test_bad_tag_keys(registry, key):
    """A tag's key is made of MLflow's letters and leads nowhere."""
    registry.create_registered_model("wine")

    with pytest.raises(InvalidParameter):
        registry.set_registered_model_tag("wine", key, "x")
    with pytest.raises(InvalidParameter):
        registry.create_registered_model("grape", {key: "x"})


@pytest.mark.parametrize("value", ["a\0b", "\udfff", "x" * 100_001])
def test_tf071_bad_texts(registry, value):
    """A text that a database would change or that is too long is refused on both databases."""
    registry.create_registered_model("wine")

    for call in (
        lambda: registry.set_registered_model_tag("wine", "k", value),
        lambda: registry.update_registered_model("wine", value),
        lambda: registry.create_registered_model("grape", {"k": value}),
    ):
        with pytest.raises(InvalidParameter):
            call()

    assert registry.get_registered_model("wine").tags == {}


def test_tf071_too_many_tags(registry):
    """A model takes 1,000 tags and no more, at once or one by one."""
    with pytest.raises(InvalidParameter):
        registry.create_registered_model("wine", {str(each): "" for each in range(1001)})
    registry.create_registered_model("wine", {str(each): "" for each in range(1000)})

    with pytest.raises(InvalidParameter):
        registry.set_registered_model_tag("wine", "one more", "")

    registry.set_registered_model_tag("wine", "7", "changed")
    assert len(registry.get_registered_model("wine").tags) == 1000


def test_large_and_odd_values_come_back_unchanged(registry):
    """Values up to the limit, in any script and with any control character but NUL, are kept exactly."""
    text = "日本\u202e\x01\r\n\t'\"\\%_🍷" + "x" * 99_000

    registry.create_registered_model("wine", {"k": text}, text)

    found = registry.get_registered_model("wine")
    assert (found.description, found.tags) == (text, {"k": text})
