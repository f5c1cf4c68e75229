"""One model's page: what it shows, and what is changed on it."""

from __future__ import annotations

import pytest


@pytest.fixture
def registry(sqlite_registry, make_version):
    """A model named wine with three versions, whose champion went from 1 to 2."""
    sqlite_registry.create_registered_model("wine", tags={"team": "risk"}, description="Of *Alba*.")
    for _ in range(3):
        make_version()
    for number in (1, 2):
        sqlite_registry.set_registered_model_alias("wine", "champion", number, reason=f"because of {number}")
    return sqlite_registry


@pytest.fixture
def gateway(reader):
    """A gateway has reported that its endpoint follows wine@champion."""
    version = {"version": "2", "role": "primary", "state": "ready"}
    endpoint = {"name": "cellar", "model": "wine", "alias": "champion", "versions": [version]}
    report = {"address": "http://127.0.0.1:8080", "endpoints": [endpoint]}
    reader.client.put("/api/turnout/v1/gateways/gw-1", json=report).raise_for_status()


def versions(page):
    return page.texts("#versions tbody th a")


def test_page(reader):
    """It has the description, the tags, the versions with their aliases, and where the alias has pointed."""
    page = reader.open("/models/wine")

    assert page.text("#description em") == "Alba"
    assert page.text("#tags li").startswith("team : risk")
    assert versions(page) == ["Version 3", "Version 2", "Version 1"]
    assert page.texts("#version-2 .alias") == ["@champion"]
    assert "because of 2" in page.texts(".timeline li")[0]
    assert "set to version 1" in page.texts(".timeline li")[1]


def test_no_such_model(reader):
    """A model that is not there is told on a page that leads back."""
    page = reader.open("/models/beer")

    assert page.status == 404
    assert "beer" in page.text(".error")
    assert page.has("main a[href='/']")


def test_many_versions(reader, make_version):
    """Versions come on pages, newest first."""
    for _ in range(25):
        make_version()

    first = reader.open("/models/wine")
    second = reader.open(first.attribute("a[rel=next]", "href"))

    assert versions(first)[0] == "Version 28"
    assert versions(second) == ["Version 3", "Version 2", "Version 1"]


def test_edit_description(reader, registry):
    """The description is edited in place, and keeps its lines."""
    page = reader.open("/models/wine?edit=description")
    assert page.text("#description textarea") == "Of *Alba*."

    page = reader.send(page, "#description form", {"description": "First.\r\n\r\nSecond."})

    assert registry.get_registered_model("wine").description == "First.\n\nSecond."
    assert page.texts("#description p") == ["First.", "Second."]


def test_description_too_long(reader, registry):
    """What is refused stays in the form, with the reason beside it."""
    page = reader.post("/models/wine/description", {"description": "x" * 100_001})

    assert page.status == 400
    assert "100000" in page.text("#description .error")
    assert len(page.text("#description textarea")) == 100_001
    assert registry.get_registered_model("wine").description == "Of *Alba*."


def test_set_tag(reader, registry):
    """A tag is added, and one that is there is changed."""
    page = reader.send(reader.open("/models/wine?edit=tag"), "#tags form", {"key": "tier", "value": "1"})
    assert page.text(".notice") == "Tag “tier” is set."
    page = reader.open("/models/wine?edit=tag&key=team")
    assert page.text("#tag-value") == "risk"

    reader.send(page, "#tags form", {"value": "fraud"})

    assert registry.get_registered_model("wine").tags == {"tier": "1", "team": "fraud"}


def test_add_tag_that_is_there(reader, registry):
    """Adding a tag that is there already says what it holds; sent again, it is replaced."""
    page = reader.send(reader.open("/models/wine?edit=tag"), "#tags form", {"key": "team", "value": "fraud"})
    assert page.status == 400
    assert "with the value 'risk'" in page.text("#tags .error")
    assert registry.get_registered_model("wine").tags == {"team": "risk"}

    reader.send(page, "#tags form")

    assert registry.get_registered_model("wine").tags == {"team": "fraud"}


@pytest.mark.parametrize("key", ["", "a\nb", "../x", "turnout.digest", "x" * 300])
def test_set_tag_refused(reader, key):
    """A key that cannot be is told in the form, which keeps the value."""
    page = reader.post("/models/wine/tags", {"key": key, "value": "kept"})

    assert page.status == 400
    assert page.text("#tags .error")
    assert page.text("#tag-value") == "kept"


def test_delete_tag(reader, registry):
    """Deleting a tag asks first."""
    page = reader.open("/models/wine?edit=tag&key=team")
    page = reader.open(page.attribute("#tags form a[href*=delete]", "href"))
    assert "team" in page.text("h1")
    assert registry.get_registered_model("wine").tags

    page = reader.send(page, "main form")

    assert registry.get_registered_model("wine").tags == {}
    assert page.text(".notice") == "Tag “team” was deleted."


def test_set_alias(reader, registry):
    """An alias is set from the row of a version, with a reason that the history keeps."""
    page = reader.open("/models/wine?edit=alias-3")

    page = reader.send(page, "#version-3 form", {"alias": "challenger", "reason": "to be tried"})

    assert page.path.endswith("/models/wine?done=alias-set&what=challenger")
    assert page.texts("#version-3 .alias") == ["@challenger"]
    assert registry.get_alias_history("wine", "challenger")[0].reason == "to be tried"


def test_move_alias_that_is_served(reader, registry, gateway):
    """Moving what a gateway follows says what it deploys, and asks for a reason."""
    page = reader.send(reader.open("/models/wine?edit=alias-3"), "#version-3 form", {"alias": "champion"})

    assert page.status == 400
    error = page.text("#version-3 .error")
    assert "“cellar” of gateway gw-1 follows it" in error
    assert "from version 2 to version 3" in error
    assert page.attribute("#alias-name", "value") == "champion"
    assert registry.get_registered_model("wine").aliases["champion"] == "2"

    reader.send(page, "#version-3 form", {"reason": "retrained"})

    assert registry.get_registered_model("wine").aliases["champion"] == "3"
    assert registry.get_alias_history("wine", "champion")[0].reason == "retrained"


def test_alias_moved_meanwhile(reader, registry):
    """Whoever moved the alias after the page was opened is not overruled unseen; a second try goes through."""
    page = reader.open("/models/wine?edit=alias-3")
    registry.set_registered_model_alias("wine", "champion", 1)

    page = reader.send(page, "#version-3 form", {"alias": "champion"})

    assert page.status == 409
    assert "version 1" in page.text("#version-3 .error")
    reader.send(page, "#version-3 form", {})
    assert registry.get_registered_model("wine").aliases["champion"] == "3"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"alias": ""}, 400),
        ({"alias": "latest"}, 400),
        ({"alias": "v3"}, 400),
        ({"alias": "<b>"}, 400),
        ({"alias": "a", "version": "x"}, 400),
        ({"alias": "a", "version": "99"}, 404),
        ({"alias": "a", "reason": "x" * 2000}, 400),
    ],
)
def test_alias_refused(reader, registry, fields, status):
    """What cannot be set is refused on the model's page."""
    page = reader.post("/models/wine/aliases", {"version": "3", "seen_at": "nonsense"} | fields)

    assert page.status == status
    assert registry.get_registered_model("wine").aliases == {"champion": "2"}


def test_alias_that_differs_by_case(reader):
    """An alias beside one that differs only by case is set, and the page says that they are two."""
    page = reader.send(reader.open("/models/wine?edit=alias-3"), "#version-3 form", {"alias": "Champion"})

    assert "differs only by case" in page.text(".notice")


def test_delete_alias(reader, registry, gateway):
    """Deleting an alias asks first, naming who follows it."""
    page = reader.open("/models/wine/aliases/champion/delete")
    assert "Endpoint “cellar” of gateway gw-1 serves version 2" in page.text(".facts")

    page = reader.send(page, "main form", {"reason": "retired"})

    assert registry.get_registered_model("wine").aliases == {}
    assert "deleted, was version 2" in page.text(".timeline li")
    assert "retired" in page.text(".timeline li")


def test_roll_back(reader, registry):
    """Rolling back leads to the version that the question named, and the history says so."""
    page = reader.open("/models/wine/aliases/champion/rollback")

    assert "will point at version 1" in page.text(".facts")
    page = reader.send(page, "main form", {"reason": "worse"})

    assert registry.get_registered_model("wine").aliases == {"champion": "1"}
    assert page.text(".notice") == "Rolled back: the alias points at version “1”."
    assert "version 1 rolled back" in page.text(".timeline li")

    page = reader.open("/models/wine/aliases/champion/rollback")
    assert "no earlier version" in page.text(".facts")
    assert not page.has("main form")


def test_roll_back_a_deleted_alias(reader, registry):
    """An alias that was deleted comes back where it last pointed."""
    registry.delete_registered_model_alias("wine", "champion")

    page = reader.open("/models/wine/aliases/champion/rollback")
    assert page.text(".facts") == "It was deleted, and will point at version 2, the one before in its history."
    reader.send(page, "main form", {"reason": "a mistake"})

    assert registry.get_registered_model("wine").aliases == {"champion": "2"}
    assert "alias" in reader.open("/models/wine/aliases/never/rollback").text(".error")


def test_roll_back_moved_meanwhile(reader, registry):
    """A rollback is of the version that was seen."""
    page = reader.open("/models/wine/aliases/champion/rollback")
    registry.set_registered_model_alias("wine", "champion", 3)

    page = reader.send(page, "main form", {"reason": "worse"})

    assert page.status == 409
    assert page.attribute("#reason", "value") == "worse"
    assert registry.get_registered_model("wine").aliases == {"champion": "3"}


def test_history_of_another_alias(reader, registry):
    """The history of each alias is one link away."""
    registry.set_registered_model_alias("wine", "challenger", 3)

    page = reader.open("/models/wine?alias=challenger")

    assert page.texts(".timeline li")[0].startswith("set to version 3")
    assert page.has("#history a[href='/models/wine?alias=champion#history']")


def test_rename(reader, registry):
    """A model is renamed on its page."""
    page = reader.send(reader.open("/models/wine?edit=rename"), "#rename form", {"new_name": "vino"})

    assert page.path.startswith("/models/vino?")
    assert page.text("h1") == "vino"


def test_rename_refused(reader, registry):
    """A name that is taken is told beside the field."""
    registry.create_registered_model("beer")

    page = reader.send(reader.open("/models/wine?edit=rename"), "#rename form", {"new_name": "beer"})

    assert page.status == 400
    assert "beer" in page.text("#rename .error")
    assert page.attribute("#new-name", "value") == "beer"


def test_delete(reader, registry, gateway):
    """Deleting a model asks first, naming its versions, its aliases and who serves it."""
    page = reader.open("/models/wine/delete")
    facts = page.text(".facts")
    assert "3 versions" in facts
    assert "@champion" in facts
    assert "gateway gw-1 serves version 2" in facts

    page = reader.send(page, "main form")

    assert registry.search_registered_models() == []
    assert page.text(".notice") == "Model “wine” was deleted."


@pytest.mark.parametrize(
    "name", ["red wine? 100 % & größer#1", 'quo"te', "quo'te", "both\"'quotes", "..wine", "a+b", "<b>x<b>"]
)
def test_awkward_names(reader, registry, make_version, name):
    """Any name that can be has its page, its links and its forms."""
    registry.create_registered_model(name)
    make_version(name)
    listed = reader.open("/").document.css("#models tbody th a")
    address = next(each.attributes["href"] for each in listed if each.text() == name)

    page = reader.open(address)

    assert page.text("h1") == " ".join(name.split())
    assert versions(page) == ["Version 1"]
    page = reader.send(reader.open(f"{address}?edit=alias-1"), "#version-1 form", {"alias": "champion"})
    assert page.status == 200
    assert registry.get_registered_model(name).aliases == {"champion": "1"}


def test_compare(reader):
    """Two versions stand side by side, and what differs is marked."""
    page = reader.open("/models/wine/compare?a=1&b=2")

    assert page.texts("thead a") == ["Version 1", "Version 2"]
    assert "Aliases – @champion differs" in page.texts("tr.differs")


@pytest.mark.parametrize(("query", "status"), [("", 400), ("?a=1", 400), ("?a=1&b=99", 404), ("?a=x&b=1", 400)])
def test_compare_refused(reader, query, status):
    """What cannot be compared is told."""
    assert reader.open(f"/models/wine/compare{query}").status == status
