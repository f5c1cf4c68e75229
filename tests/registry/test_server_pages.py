"""Answers to searches that are kept: never older than the registry, never without bound."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.connection import connect
from registry.errors import InvalidParameter
from registry.server.pages import Pages
from registry.server.transport import Request
from registry.sql.registry import SqlRegistry
from tests.registry.serving import served

SEARCH = "/api/2.0/mlflow/registered-models/search"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[SqlRegistry]:
    with connect(f"sqlite:///{tmp_path / 'r.db'}") as found:
        assert isinstance(found, SqlRegistry)
        yield found


class Handler:
    """Answers as many bytes as the query says, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, _: object, fields: object) -> dict[str, str]:
        self.asked += 1
        size = fields.integer("size", 1)  # type: ignore[attr-defined]
        if not size:
            raise InvalidParameter("nothing")
        return {"text": "x" * size, "count": str(self.asked)}


def asking(query: str) -> Request:
    return Request("GET", query.encode(), {}, b"")


def test_kept_until_the_registry_changes(registry: SqlRegistry) -> None:
    """The same question is worked on once, until anything is changed; another question is another answer."""
    pages, handler = Pages(), Handler()
    first = pages.answer(registry, handler, asking("size=3"))
    assert pages.answer(registry, handler, asking("size=3")) == first
    assert handler.asked == 1
    assert pages.answer(registry, handler, asking("size=4")).body != first.body
    registry.create_registered_model("wine")
    assert json.loads(pages.answer(registry, handler, asking("size=3")).body)["count"] == "3"


def test_what_another_process_wrote_shows_at_once(registry: SqlRegistry) -> None:
    """By HTTP, with a second connection to the same file that the server knows nothing of."""
    with served(registry) as at, connect(registry.uri) as other:

        def names() -> list[str]:
            connection = http.client.HTTPConnection(*at, timeout=30)
            connection.request("GET", SEARCH)
            found = json.loads(connection.getresponse().read())
            connection.close()
            return [each["name"] for each in found.get("registered_models", [])]

        for number in range(20):
            assert names() == names() == [f"m{each:02}" for each in range(number)]
            other.create_registered_model(f"m{number:02}")


def test_refusals_and_huge_answers_are_not_kept(registry: SqlRegistry) -> None:
    """They are worked on each time."""
    pages, handler = Pages(), Handler()
    for query, status in (("size=0", 400), (f"size={2 << 20}", 200)):
        before = handler.asked
        assert [pages.answer(registry, handler, asking(query)).status for _ in range(2)] == [status] * 2
        assert handler.asked == before + 2


def test_the_longest_unused_goes_first(registry: SqlRegistry) -> None:
    """Room for two of a thousand bytes: a third takes the place of the one that nobody asked for since."""
    pages, handler = Pages(max_bytes=2_200), Handler()
    one, two, three = (asking(f"size=1000&page={each}") for each in "123")
    for each in (one, two, one, three):
        pages.answer(registry, handler, each)
    assert handler.asked == 3
    pages.answer(registry, handler, one)
    assert handler.asked == 3
    pages.answer(registry, handler, two)
    assert handler.asked == 4


def test_a_registry_that_is_away(registry: SqlRegistry) -> None:
    """What is kept is not shown while nobody can tell whether it still holds."""
    pages, handler = Pages(), Handler()
    assert pages.answer(registry, handler, asking("")).status == 200
    registry.close()
    assert pages.answer(registry, handler, asking("")).status == 503
