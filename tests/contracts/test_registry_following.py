"""Resolving references and waiting for changes, on every implementation of `Registry`."""

from __future__ import annotations

import threading
import time

import pytest

from registry.errors import InvalidParameter, NotFound, RegistryError, Unavailable
from registry.uri import ModelUri


@pytest.fixture(autouse=True)
def model(registry, make_version):
    """Two versions of a model named wine, the first of which is its champion."""
    registry.create_registered_model("wine")
    make_version()
    make_version()
    registry.set_registered_model_alias("wine", "champion", 1)


def test_resolve(registry):
    """A reference by alias, by number or to the latest gives its version."""
    assert registry.resolve("models:/wine@champion") == registry.get_model_version("wine", 1)
    assert registry.resolve(ModelUri("wine", version=2)) == registry.get_model_version("wine", 2)
    assert registry.resolve("models:/wine/latest").version == "2"


def test_resolve_nothing(registry):
    """A reference that names nothing is an error that says so."""
    for uri, error in (
        ("models:/wine/7", NotFound),
        ("models:/none@champion", NotFound),
        ("models:/wine@none", InvalidParameter),
        (f"models:/m-{'0' * 32}", InvalidParameter),
        ("wine", InvalidParameter),
        (3, InvalidParameter),
        (None, InvalidParameter),
    ):
        with pytest.raises(error):
            registry.resolve(uri)


def test_every_change_changes_the_cursor(registry):
    """After each kind of change the cursor differs from all before; reading leaves it."""
    changes = [
        lambda: registry.create_registered_model("grape"),
        lambda: registry.update_registered_model("grape", "text"),
        lambda: registry.set_registered_model_tag("grape", "a", "b"),
        lambda: registry.delete_registered_model_tag("grape", "a"),
        lambda: registry.rename_registered_model("grape", "fruit"),
        lambda: registry.copy_model_version("models:/wine/1", "fruit"),
        lambda: registry.create_model_version("fruit", "models:/wine/1"),
        lambda: registry.update_model_version("fruit", 1, "text"),
        lambda: registry.set_model_version_tag("fruit", 1, "a", "b"),
        lambda: registry.delete_model_version_tag("fruit", 1, "a"),
        lambda: registry.transition_model_version_stage("fruit", 1, "Staging"),
        lambda: registry.set_registered_model_alias("fruit", "x", 1),
        lambda: registry.delete_registered_model_alias("fruit", "x"),
        lambda: registry.rollback_alias("fruit", "x"),
        lambda: registry.delete_model_version("fruit", 1),
        lambda: registry.delete_registered_model("fruit"),
    ]
    seen = [registry.cursor()]

    for change in changes:
        change()
        registry.search_registered_models()
        seen.append(registry.cursor())

    assert len(set(seen)) == len(seen)


def test_refused_calls_leave_the_cursor(registry):
    """A refused change does not look like a change."""
    before = registry.cursor()

    for call in (
        lambda: registry.create_registered_model("wine"),
        lambda: registry.set_registered_model_alias("wine", "champion", 9),
        lambda: registry.set_registered_model_alias("wine", "champion", 2, expected_version=2),
    ):
        with pytest.raises(RegistryError):
            call()

    assert registry.cursor() == before


def test_wait_returns_at_once_for_another_cursor(registry):
    """An old, unknown or foreign cursor does not wait."""
    now = registry.cursor()
    begin = time.monotonic()

    for cursor in ("", "nonsense", f"{'0' * 32}.1.abcd", now + "0"):
        assert registry.wait(cursor, 30) == now

    assert time.monotonic() - begin < 5


def test_wait_ends_at_its_timeout(registry):
    """Without a change the same cursor comes back at the timeout."""
    now = registry.cursor()
    begin = time.monotonic()

    assert registry.wait(now, 0.2) == now
    assert 0.15 < time.monotonic() - begin < 5


@pytest.mark.parametrize("timeout", [None, "1", float("nan")])
def test_wait_takes_seconds(registry, timeout):
    """A timeout that is no number is refused instead of ending a wait at once, or never."""
    with pytest.raises(InvalidParameter, match="number of seconds"):
        registry.wait(registry.cursor(), timeout)


def test_wait_sees_a_change_of_another_thread(registry):
    """A change ends the wait long before its timeout and before the slow poll."""
    now = registry.cursor()
    waiting = threading.Event()
    committed: list[float] = []

    def change() -> None:
        waiting.wait(10)
        registry.set_registered_model_alias("wine", "champion", 2)
        committed.append(time.monotonic())

    thread = threading.Thread(target=change)
    thread.start()
    waiting.set()
    after = registry.wait(now, 60)
    seen = time.monotonic()
    thread.join()

    assert after != now
    assert seen - committed[0] < 1
    assert registry.resolve("models:/wine@champion").version == "2"


def test_close_ends_a_wait(registry):
    """Closing the registry ends a pending wait, and whatever comes later is Unavailable."""
    now = registry.cursor()
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(registry.wait(now, 60)))
    thread.start()

    registry.close()
    thread.join(10)

    assert ended == [now] or not thread.is_alive()
    with pytest.raises(Unavailable, match="closed"):
        registry.cursor()
    registry.close()
