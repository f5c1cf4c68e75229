"""The filter language: whatever is written gives rows or InvalidParameter."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.errors import InvalidParameter
from registry.sql.grammar import (
    ATTRIBUTE,
    EQUAL,
    LISTED,
    METRIC,
    NUMERIC,
    Comparison,
    parse_filter,
    parse_order,
    parse_order_keys,
)

ATTRIBUTES = {"name": LISTED, "number": NUMERIC, "kind": EQUAL}
PIECES = [
    "name",
    "tags.a",
    "tag.`b c`",
    "attribute.name",
    "version_number",
    "run_id",
    "source_path",
    "tags.",
    "`",
    "'",
    '"',
    "''",
    "=",
    "!=",
    "<",
    ">=",
    "LIKE",
    "ILIKE",
    "IN",
    "NOT IN",
    "AND",
    "OR",
    "(",
    ")",
    ",",
    "'x'",
    '"y"',
    "'%_*?['",
    "1",
    "-2",
    "1.5",
    "9" * 30,
    " ",
    "\n",
    ";",
    "--",
    "\\",
    "\0",
    "\u202e",
    "é",
    "٣",
    "\ud800",
    "mlflow.prompt.is_prompt",
    "'true'",
    "metrics.a",
    "params.`b c`",
    "dataset.name",
    "IS NULL",
    "IS NOT NULL",
    "1e5",
    ".5",
]


def test_parse():
    """A filter becomes its comparisons, in order."""
    assert parse_filter("name IN ('a', \"b\") and tags.`k e` LIKE 'x%' AND number>='07'", ATTRIBUTES) == (
        Comparison("attribute", "name", "IN", ("a", "b")),
        Comparison("tag", "k e", "LIKE", "x%"),
        Comparison("attribute", "number", ">=", 7),
    )


def test_no_filter():
    """Nothing, or an empty text, is no filter."""
    assert parse_filter(None, ATTRIBUTES) == parse_filter("", ATTRIBUTES) == ()


def test_errors_say_where():
    """An error names the character at which the text stops making sense."""
    with pytest.raises(InvalidParameter, match="character 12"):
        parse_filter("name = 'a' OR name = 'b'", ATTRIBUTES)


def test_operators_depend_on_the_attribute():
    """Each attribute takes its own comparators."""
    with pytest.raises(InvalidParameter, match="kind"):
        parse_filter("kind LIKE 'a'", ATTRIBUTES)


def test_order_keys():
    """An order of runs may name metrics, params and tags, whose keys may be quoted."""
    prefixes = {"metrics": (METRIC, NUMERIC), "attribute": (ATTRIBUTE, EQUAL)}

    parsed = parse_order_keys(["metrics.`a b` DESC", "name", "attribute.number asc"], ATTRIBUTES, prefixes)

    assert parsed == (("metric", "a b", True), ("attribute", "name", False), ("attribute", "number", False))
    for clause in ("tags.a", "color", "name DESC ASC", "'name", ""):
        with pytest.raises(InvalidParameter):
            parse_order_keys([clause], ATTRIBUTES, prefixes)


def test_numbers_of_metrics():
    """A metric is compared with any number that a double holds, and with nothing else."""
    prefixes = {"metrics": (METRIC, NUMERIC)}

    values = [parse_filter(f"metrics.a > {text}", {}, prefixes)[0].value for text in ("1", "-.5", "+2.", "1e-3")]

    assert values == [1.0, -0.5, 2.0, 0.001]
    for text in ("'1'", "nan", "1e", "0x1", "1 2", "--1", ""):
        with pytest.raises(InvalidParameter):
            parse_filter(f"metrics.a > {text}", {}, prefixes)


def test_order():
    """An order is a list of columns, each once."""
    assert parse_order(["name DESC", " when "], {"name": "name", "when": "at"}) == (("name", True), ("at", False))


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=12), st.booleans())
def test_fuzzed_filters(sqlite_registry, pieces, spaced):
    """Any sequence of the language's pieces gives rows or InvalidParameter, and nothing else."""
    text = (" " if spaced else "").join(pieces)

    tracking = sqlite_registry.tracking
    for search in (
        sqlite_registry.search_registered_models,
        sqlite_registry.search_model_versions,
        lambda text: tracking.search_runs(["0"], text),
        lambda text: tracking.search_logged_models(["0"], text),
        lambda text: tracking.search_experiments("DELETED_ONLY", filter_string=text),
    ):
        try:
            assert search(text) == []
        except InvalidParameter:
            continue


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_fuzzed_values(sqlite_registry, value):
    """Any text as a quoted value is looked for literally, or refused."""
    for text in (f"name = '{value}'", f"tags.k LIKE '{value}'", f'name ILIKE "{value}"'):
        try:
            assert sqlite_registry.search_registered_models(text) == []
        except InvalidParameter:
            continue


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30), st.text(max_size=30))
def test_fuzzed_orders_and_tokens(sqlite_registry, order, token):
    """Any text as an order or as a page token gives rows or InvalidParameter."""
    tracking = sqlite_registry.tracking
    for search in (
        sqlite_registry.search_model_versions,
        lambda **arguments: tracking.search_runs(["0"], **arguments),
        lambda **arguments: tracking.search_experiments("DELETED_ONLY", **arguments),
    ):
        for arguments in ({"order_by": [order]}, {"page_token": token}):
            try:
                assert search(**arguments) == []
            except InvalidParameter:
                continue
