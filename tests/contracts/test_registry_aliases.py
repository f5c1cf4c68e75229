"""Aliases, their history, rollback and compare-and-set, on every implementation of `Registry`."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from registry.errors import AliasNotFound, Conflict, InvalidParameter, NotFound


@pytest.fixture(autouse=True)
def versions(registry, make_version):
    """Four versions of a model named wine."""
    registry.create_registered_model("wine")
    return [make_version() for _ in range(4)]


def moves(registry, alias="champion"):
    """The history as (from, to), oldest first."""
    return [(each.from_version, each.to_version) for each in reversed(registry.get_alias_history("wine", alias))]


def test_set_and_get(registry):
    """An alias names its version, appears with model and version, and moves neither's time."""
    before = registry.get_registered_model("wine")

    registry.set_registered_model_alias("wine", "champion", 2)
    registry.set_registered_model_alias("wine", "best", "2")

    found = registry.get_model_version_by_alias("wine", "champion")
    assert (found.version, list(found.aliases)) == ("2", ["best", "champion"])
    assert list(registry.get_model_version("wine", 2).aliases) == ["best", "champion"]
    after = registry.get_registered_model("wine")
    assert after.aliases == {"best": "2", "champion": "2"}
    assert after.last_updated_timestamp == before.last_updated_timestamp


def test_set_moves(registry):
    """Setting an alias again moves it; setting it to where it is keeps no move."""
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "champion", 3)
    registry.set_registered_model_alias("wine", "champion", 3)

    assert registry.get_model_version_by_alias("wine", "champion").version == "3"
    assert list(registry.get_model_version("wine", 1).aliases) == []
    assert moves(registry) == [(None, "1"), ("1", "3")]


def test_aliases_are_case_sensitive_with_a_warning(registry):
    """`Champion` beside `champion` is another alias, and setting it warns."""
    registry.set_registered_model_alias("wine", "champion", 1)

    with pytest.warns(UserWarning, match="champion"):
        registry.set_registered_model_alias("wine", "Champion", 2)

    assert registry.get_registered_model("wine").aliases == {"Champion": "2", "champion": "1"}
    registry.set_registered_model_alias("wine", "Champion", 3)


@pytest.mark.parametrize("alias", ["latest", "LATEST", "v1", "V22"])
def test_reserved_aliases(registry, alias):
    """`latest` and `v<number>` cannot be set."""
    with pytest.raises(InvalidParameter, match="reserved"):
        registry.set_registered_model_alias("wine", alias, 1)


@pytest.mark.parametrize(
    "alias", ["", "a b", "a.b", "a\n", "a\0", "a@b", "a/b", "a\u202e", "\u3164", "e\u0301", "x" * 256, None, 1]
)
def test_tf072_bad_aliases(registry, alias):
    """An alias is made of letters, digits, underscores and dashes."""
    for call in (
        lambda: registry.set_registered_model_alias("wine", alias, 1),
        lambda: registry.get_model_version_by_alias("wine", alias),
        lambda: registry.delete_registered_model_alias("wine", alias),
    ):
        with pytest.raises(InvalidParameter):
            call()


@pytest.mark.parametrize("alias", ["1", "é", "日本", "a-b_c", "v", "v1a", "x" * 255])
def test_unusual_aliases(registry, alias):
    """Letters of any script, and digits alone, are an alias."""
    registry.set_registered_model_alias("wine", alias, 1)

    assert registry.get_model_version_by_alias("wine", alias).version == "1"


def test_latest_is_the_highest_version(registry):
    """Getting `latest` gives the highest version over all stages, deleted ones left out."""
    registry.transition_model_version_stage("wine", 4, "Archived")
    assert registry.get_model_version_by_alias("wine", "Latest").version == "4"

    registry.delete_model_version("wine", 4)

    assert registry.get_model_version_by_alias("wine", "latest").version == "3"


def test_unknown_alias_says_which_there_are(registry):
    """An alias that is not set is an error of the request that names those which are."""
    registry.set_registered_model_alias("wine", "challenger", 1)

    for call in (registry.get_model_version_by_alias, registry.get_alias_history, registry.rollback_alias):
        with pytest.raises(AliasNotFound, match="challenger"):
            call("wine", "champion")


def test_delete(registry):
    """A deleted alias is gone; its history says who did it; deleting an absent one changes nothing."""
    registry.set_registered_model_alias("wine", "champion", 1)

    registry.delete_registered_model_alias("wine", "champion", reason="not needed")
    registry.delete_registered_model_alias("wine", "champion")

    with pytest.raises(AliasNotFound):
        registry.get_model_version_by_alias("wine", "champion")
    last = registry.get_alias_history("wine", "champion")[0]
    assert (last.from_version, last.to_version, last.by, last.reason) == ("1", None, "ana", "not needed")
    assert len(moves(registry)) == 2


def test_expected_version(registry):
    """An alias moves only from where it was expected; 0 expects that it is not set."""
    registry.set_registered_model_alias("wine", "champion", 1, expected_version=0)
    registry.set_registered_model_alias("wine", "champion", 2, expected_version="1")
    before = registry.cursor()

    for expected in (0, 1, "3"):
        with pytest.raises(Conflict, match="version 2"):
            registry.set_registered_model_alias("wine", "champion", 3, expected_version=expected)
        with pytest.raises(Conflict):
            registry.delete_registered_model_alias("wine", "champion", expected_version=expected)
        with pytest.raises(Conflict):
            registry.rollback_alias("wine", "champion", expected_version=expected)

    assert registry.get_model_version_by_alias("wine", "champion").version == "2"
    assert registry.cursor() == before
    registry.delete_registered_model_alias("wine", "champion", expected_version=2)


def test_history(registry):
    """Every move says when, who, from where, to where and why, newest first, page by page."""
    begin = datetime.now(UTC) - timedelta(seconds=1)
    for version in (1, 2, 3):
        registry.set_registered_model_alias("wine", "champion", version, reason=f"because {version}")

    first = registry.get_alias_history("wine", "champion", max_results=2)
    second = registry.get_alias_history("wine", "champion", max_results=2, page_token=first.token)

    assert [(each.to_version, each.reason, each.by) for each in [*first, *second]] == [
        ("3", "because 3", "ana"),
        ("2", "because 2", "ana"),
        ("1", "because 1", "ana"),
    ]
    assert second.token is None
    assert all(begin <= each.at <= datetime.now(UTC) for each in first)
    assert first[0].as_json()["from"] == "2"


@pytest.mark.parametrize(
    "token", ["x", "eyJ9", "e30=", "eyJvZmZzZXQiOiAxfQ==", "eyJiZWZvcmUiOiAtMX0=", "W10=", 3, "a" * 500]
)
def test_tf073_forged_history_tokens(registry, token):
    """A page token that is not ours is refused."""
    registry.set_registered_model_alias("wine", "champion", 1)

    with pytest.raises(InvalidParameter):
        registry.get_alias_history("wine", "champion", page_token=token)


def test_alias_at_a_moment(registry):
    """The alias as it was at a moment: not yet set, at its old version, deleted."""
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "champion", 2)
    registry.delete_registered_model_alias("wine", "champion")
    deleted, second, first = registry.get_alias_history("wine", "champion")

    found = registry.get_model_version_by_alias("wine", "champion", at=second.at)
    assert found.version in {"2"} | ({"1"} if first.at == second.at else set())
    with pytest.raises(AliasNotFound):
        registry.get_model_version_by_alias("wine", "champion", at=first.at - timedelta(milliseconds=1))
    with pytest.raises(AliasNotFound):
        registry.get_model_version_by_alias("wine", "champion", at=deleted.at + timedelta(hours=1))


def test_a_moment_without_a_zone_is_utc(registry):
    """`at` may lack a time zone, which then is UTC, and may be the first moment of all."""
    registry.set_registered_model_alias("wine", "champion", 1)
    soon = (datetime.now(UTC) + timedelta(minutes=1)).replace(tzinfo=None)

    assert registry.get_model_version_by_alias("wine", "champion", at=soon).version == "1"
    with pytest.raises(AliasNotFound, match="at that moment"):
        registry.get_model_version_by_alias("wine", "champion", at=soon - timedelta(minutes=9))
    with pytest.raises(AliasNotFound, match="at that moment"):
        registry.get_model_version_by_alias("wine", "champion", at=datetime.min)
    assert registry.get_model_version_by_alias("wine", "champion", at=datetime.max).version == "1"


@pytest.mark.parametrize("at", ["2026-01-01", 0, 1.5, datetime(2026, 1, 1).date()])
def test_a_moment_must_be_a_datetime(registry, at):
    """Anything but a datetime is refused with a sentence."""
    registry.set_registered_model_alias("wine", "champion", 1)

    with pytest.raises(InvalidParameter, match="must be a datetime"):
        registry.get_model_version_by_alias("wine", "champion", at=at)


def test_latest_has_no_history(registry):
    """`latest` is computed, so where it was at a moment nobody knows."""
    with pytest.raises(InvalidParameter, match="'latest' is computed and has no history"):
        registry.get_model_version_by_alias("wine", "latest", at=datetime.now(UTC))


def test_expected_version_may_be_nought(registry):
    """A wrong expected version is refused by a message that also names 0."""
    for wrong in (-1, True, "none", 2**40):
        with pytest.raises(InvalidParameter, match=r"expected_version.*or 0"):
            registry.set_registered_model_alias("wine", "champion", 1, expected_version=wrong)


def test_messages_have_their_articles(registry):
    """A message says `an alias`."""
    with pytest.raises(InvalidParameter, match=r"^an alias must"):
        registry.set_registered_model_alias("wine", None, 1)
    with pytest.raises(InvalidParameter, match=r"^an order_by clause must"):
        registry.search_registered_models(order_by=[3])


def test_rollback_goes_further_back_each_time(registry):
    """Each rollback goes one version further back in the history, until there is none."""
    for version in (1, 2, 3):
        registry.set_registered_model_alias("wine", "champion", version)

    first = registry.rollback_alias("wine", "champion", reason="slow")
    assert (first.from_version, first.to_version, first.reason, first.by) == ("3", "2", "slow", "ana")
    assert first.rollback_of == registry.get_alias_history("wine", "champion")[1].id
    assert registry.rollback_alias("wine", "champion").to_version == "1"
    with pytest.raises(InvalidParameter, match="no earlier version"):
        registry.rollback_alias("wine", "champion")

    assert registry.get_model_version_by_alias("wine", "champion").version == "1"


def test_rollback_after_new_moves(registry):
    """Moves that were rolled back are skipped for ever, those made since are not."""
    for version in (1, 2, 3):
        registry.set_registered_model_alias("wine", "champion", version)
    registry.rollback_alias("wine", "champion")
    registry.set_registered_model_alias("wine", "champion", 4)

    assert registry.rollback_alias("wine", "champion").to_version == "2"
    assert registry.rollback_alias("wine", "champion").to_version == "1"


def test_rollback_skips_deleted_versions(registry):
    """A version deleted since cannot be gone back to."""
    for version in (1, 2, 3):
        registry.set_registered_model_alias("wine", "champion", version)
    registry.delete_model_version("wine", 2)

    assert registry.rollback_alias("wine", "champion").to_version == "1"
    with pytest.raises(InvalidParameter):
        registry.rollback_alias("wine", "champion")


def test_rollback_brings_a_deleted_alias_back(registry):
    """An alias that was deleted, or lost with its version, goes back to where it last could point."""
    registry.set_registered_model_alias("wine", "champion", 1)
    registry.set_registered_model_alias("wine", "champion", 2)
    registry.delete_registered_model_alias("wine", "champion")

    assert registry.rollback_alias("wine", "champion").to_version == "2"
    registry.delete_model_version("wine", 2)
    assert registry.rollback_alias("wine", "champion").to_version == "1"


def test_rollback_without_an_earlier_version(registry):
    """An alias that was set once has nothing to go back to, and stays."""
    registry.set_registered_model_alias("wine", "champion", 1)

    with pytest.raises(InvalidParameter):
        registry.rollback_alias("wine", "champion")

    assert registry.get_model_version_by_alias("wine", "champion").version == "1"


@pytest.mark.parametrize("reason", ["x" * 1001, "a\0", 7])
def test_bad_reasons(registry, reason):
    """A reason is a short text."""
    with pytest.raises(InvalidParameter):
        registry.set_registered_model_alias("wine", "champion", 1, reason=reason)


def test_tf131_no_lost_update(registry):
    """Of eight threads that move one alias from where they saw it, exactly the winners are in the history."""
    registry.set_registered_model_alias("wine", "champion", 1)
    won: list[str] = []

    def move() -> None:
        for _ in range(10):
            seen = registry.get_model_version_by_alias("wine", "champion").version
            wanted = str(int(seen) % 4 + 1)
            try:
                registry.set_registered_model_alias("wine", "champion", wanted, expected_version=seen)
            except Conflict:
                continue
            won.append(wanted)

    threads = [threading.Thread(target=move) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    history = moves(registry)
    assert len(history) == len(won) + 1
    assert all(before[1] == after[0] for before, after in pairwise(history))
    assert history[-1][1] == registry.get_model_version_by_alias("wine", "champion").version


def test_tf133_alias_never_names_a_missing_version(registry, make_version):
    """While versions are deleted and aliases set at once, an alias names a version that is there, or is gone."""
    registry.create_registered_model("race")
    for _ in range(10):
        make_version("race")
    problems: list[Exception] = []

    def set_aliases() -> None:
        for version in range(1, 11):
            try:
                registry.set_registered_model_alias("race", "champion", version)
            except NotFound:
                continue
            except Exception as problem:
                problems.append(problem)

    def delete_versions() -> None:
        for version in range(1, 11):
            registry.delete_model_version("race", version)

    threads = [threading.Thread(target=set_aliases), threading.Thread(target=delete_versions)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert problems == []
    assert registry.get_registered_model("race").aliases == {}
