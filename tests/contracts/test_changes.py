"""The change log, on every implementation of `ServedRegistry`."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from registry.connection import connect


@pytest.fixture(params=["sqlite", "postgresql"])
def registry(request, tmp_path):
    """Each registry that a server can stand on, with a model named wine."""
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path}/registry.db"
    else:
        address = request.getfixturevalue("postgres_url")()
    with connect(address, actor="ana", artifacts_destination=str(tmp_path / "artifacts")) as registry:
        registry.create_registered_model("wine")
        yield registry


def told(registry, cursor):
    """What followed, as clients see it."""
    found = registry.changes_since(cursor)
    assert found.is_complete
    return [each.as_json() for each in found.changes]


def model(action, name="wine", **details):
    return {"kind": "model", "name": name, "action": action, **details}


def version(action, number, **details):
    return {"kind": "version", "name": "wine", "action": action, "version": number, **details}


def tag(action, **details):
    return {"kind": "tag", "name": "wine", "action": action, "key": "a", **details}


def alias(source, target):
    return {"kind": "alias", "name": "wine", "alias": "champion", "from": source, "to": target}


MODEL_CHANGES = [
    (lambda r: r.create_registered_model("grape", tags={"a": "b"}), [model("created", "grape")]),
    (lambda r: r.update_registered_model("wine", "text"), [model("updated")]),
    (lambda r: r.set_registered_model_tag("wine", "a", "b"), [tag("set")]),
    (lambda r: r.delete_registered_model_tag("wine", "b"), []),
    (lambda r: r.rename_registered_model("wine", "red"), [model("renamed", new_name="red")]),
    (lambda r: r.delete_registered_model("wine"), [model("deleted")]),
]
VERSION_CHANGES = [
    (lambda r: r.create_model_version("wine", "models:/wine/1"), [version("created", "3")]),
    (
        lambda r: r.copy_model_version("models:/wine/1", "new"),
        [model("created", "new"), version("created", "1") | {"name": "new"}],
    ),
    (lambda r: r.update_model_version("wine", 2, "text"), [version("updated", "2")]),
    (lambda r: r.transition_model_version_stage("wine", 2, "staging"), [version("moved", "2", stage="Staging")]),
    (lambda r: r.set_model_version_tag("wine", 2, "a", "b"), [tag("set", version="2")]),
    (lambda r: r.delete_model_version("wine", 1), [alias("1", None), version("deleted", "1")]),
    (lambda r: r.set_registered_model_alias("wine", "champion", 2), [alias("1", "2")]),
    (lambda r: r.set_registered_model_alias("wine", "champion", 1), []),
    (lambda r: r.delete_registered_model_alias("wine", "champion"), [alias("1", None)]),
    (lambda r: r.delete_registered_model_alias("wine", "none"), []),
]


@pytest.mark.parametrize("number", range(len(MODEL_CHANGES)))
def test_changes_of_models(registry, number):
    """Each change of a model is told, as what it was."""
    change, expected = MODEL_CHANGES[number]
    before = registry.cursor()

    change(registry)

    assert told(registry, before) == expected


@pytest.mark.parametrize("number", range(len(VERSION_CHANGES)))
def test_changes_of_versions_and_aliases(registry, make_version, number):
    """Each change of a version or an alias is told, and all that one call changed together."""
    make_version()
    make_version()
    registry.set_registered_model_alias("wine", "champion", 1)
    change, expected = VERSION_CHANGES[number]
    before = registry.cursor()

    change(registry)

    assert told(registry, before) == expected


def test_tag_of_a_version_is_told_once_it_goes(registry, make_version):
    """Deleting a tag is told when there was one; a rollback is told as the move that it is."""
    make_version()
    make_version()
    registry.set_model_version_tag("wine", 1, "a", "b")
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "champion", 2)
    before = registry.cursor()

    registry.delete_model_version_tag("wine", 1, "a")
    registry.delete_model_version_tag("wine", 1, "a")
    registry.rollback_alias("wine", "champion")

    assert told(registry, before) == [tag("deleted", version="1"), alias("2", "1")]


def test_cursor_leads_from_answer_to_answer(registry):
    """The cursor of an answer asks for what follows it; at the end there is nothing, and the cursor stays."""
    before = registry.cursor()
    registry.create_registered_model("a")
    first = registry.changes_since(before)
    registry.create_registered_model("b")

    second = registry.changes_since(first.cursor)

    assert [each.name for each in first.changes] == ["a"]
    assert [each.name for each in second.changes] == ["b"]
    assert second.changes[0].seq > first.changes[0].seq
    assert registry.changes_since(second.cursor).changes == ()
    assert registry.changes_since(second.cursor).cursor == second.cursor == registry.cursor()


def test_long_log_is_told_in_parts(registry):
    """Who is far behind is told the oldest changes first, with the cursor to go on with."""
    cursor = registry.cursor()
    with registry._database._connection() as connection:
        rows = [{"seq": 2 + number, "changes": f'[{{"kind": "model", "name": "{number}"}}]'} for number in range(2500)]
        connection.execute(text("INSERT INTO turnout_changes VALUES (:seq, 'aa', 0, :changes)"), rows)
        connection.execute(text("UPDATE turnout_state SET change_seq = 2501, change_nonce = 'aa'"))
        connection.commit()

    parts = []
    while (found := registry.changes_since(cursor)).changes:
        parts.append([int(each.name) for each in found.changes])
        cursor = found.cursor

    assert parts == [list(range(1000)), list(range(1000, 2000)), list(range(2000, 2500))]
    assert cursor == registry.cursor()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "a.b.c",
        "{db}.99999.{nonce}",
        "{db}.0.ffffffff",
        "{db}.-1.{nonce}",
        "{db}..",
        "other.1.{nonce}",
        "\0.1.a",
    ],
)
def test_unknown_cursor(registry, cursor):
    """A cursor that the log does not hold gives the current one, and says that changes are missing."""
    current = registry.cursor()
    database_id, _, nonce = current.split(".")

    found = registry.changes_since(cursor.format(db=database_id, nonce=nonce))

    assert (found.cursor, found.is_complete, list(found.changes)) == (current, False, [])


def test_cursor_from_before_a_restore(registry):
    """A number that means another change since a restore is not taken for the one that it was."""
    lost = registry.cursor()
    with registry._database._connection() as connection:
        connection.execute(text("DELETE FROM turnout_changes WHERE seq = 1"))
        connection.execute(text("UPDATE turnout_state SET change_seq = 0, change_nonce = 'feed'"))
        connection.commit()
    registry.create_registered_model("a")
    registry.create_registered_model("b")

    found = registry.changes_since(lost)

    assert not found.is_complete
    assert found.cursor == registry.cursor()


def test_refused_changes_are_not_told(registry):
    """What is undone leaves nothing in the log."""
    before = registry.cursor()

    with pytest.raises(Exception, match="already exists"):
        registry.create_registered_model("wine")

    assert registry.changes_since(before).changes == ()


def test_old_rows_go(registry, monkeypatch):
    """Now and then what lies far back is dropped, and a cursor from there is unknown then."""
    old = registry.cursor()
    registry.create_registered_model("a")
    with registry._database._connection() as connection:
        connection.execute(text("UPDATE turnout_state SET change_seq = change_seq + 20000"))
        connection.commit()
    monkeypatch.setattr("registry.sql.database.token_hex", lambda _: "00abcdef")

    registry.create_registered_model("b")

    assert not registry.changes_since(old).is_complete
    with registry._database._connection() as connection:
        assert connection.execute(text("SELECT count(*) FROM turnout_changes")).scalar() == 1
