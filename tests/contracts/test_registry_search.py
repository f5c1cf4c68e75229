"""Searches: the filter language, order and pages, on every implementation of `Registry`."""

from __future__ import annotations

import time

import pytest

from registry.errors import InvalidParameter


@pytest.fixture
def models(registry):
    """Five models, one of them a prompt."""
    registry.create_registered_model("alpha", {"team": "a", "stage": "x"})
    registry.create_registered_model("Alpha", {"team": "b"})
    registry.create_registered_model("beta", {"team": "a", "with space": "yes"})
    registry.create_registered_model("be_a%", {"te.am": "a*b?[c]"})
    registry.create_registered_model("greeting", {"mlflow.prompt.is_prompt": "true"})


MODEL_FILTERS = {
    "": ["Alpha", "alpha", "be_a%", "beta"],
    "name = 'alpha'": ["alpha"],
    'name = "alpha"': ["alpha"],
    "attribute.name='alpha'": ["alpha"],
    "name != 'alpha'": ["Alpha", "be_a%", "beta"],
    "name LIKE 'al%'": ["alpha"],
    "name like '_lpha'": ["Alpha", "alpha"],
    "name ILIKE 'AL%'": ["Alpha", "alpha"],
    "name LIKE 'be_a%'": ["be_a%", "beta"],
    "name LIKE '%*%'": [],
    "name IN ('alpha','beta', 'none')": ["alpha", "beta"],
    "name NOT IN ('alpha')": ["Alpha", "be_a%", "beta"],
    "tags.team = 'a'": ["alpha", "beta"],
    "tag.team='a' AND name='beta'": ["beta"],
    "tags.team = 'a' and tags.stage = 'x'": ["alpha"],
    "tags.team != 'a'": ["Alpha"],
    "tags.team = 'a' AND tags.team = 'b'": [],
    "tags.`with space` = 'yes'": ["beta"],
    "tags.\"with space\" LIKE 'y%'": ["beta"],
    "tags.te.am = 'a*b?[c]'": ["be_a%"],
    "tags.te.am LIKE 'a*b?[c]'": ["be_a%"],
    "tags.te.am LIKE 'a%[c]'": ["be_a%"],
    "tags.te.am ILIKE 'A*B?[C]'": ["be_a%"],
    "name = 'x'' OR name=''alpha'": [],
    "name = 'a' AND name LIKE 'A'": [],
    "tags.`mlflow.prompt.is_prompt` = 'true'": ["greeting"],
    "tags.`mlflow.prompt.is_prompt` != 'false'": ["greeting"],
    "tags.`mlflow.prompt.is_prompt` != 'true'": ["Alpha", "alpha", "be_a%", "beta"],
    "tag.`mlflow.prompt.is_prompt` = 'false' AND name = 'alpha'": ["alpha"],
}


@pytest.mark.parametrize("text", MODEL_FILTERS)
def test_model_filters(registry, models, text):
    """A filter finds these models, ordered by the bytes of their names."""
    assert [each.name for each in registry.search_registered_models(text)] == MODEL_FILTERS[text]


BAD_FILTERS = [
    "  ",
    "name",
    "name =",
    "name = alpha",
    "name = 'a' OR name = 'b'",
    "NOT name = 'a'",
    "(name = 'a')",
    "name = 'a';",
    "name='a' OR 1=1--",
    "name = 'a' AND",
    "AND name = 'a'",
    "name > 'a'",
    "NAME = 'a'",
    "`name` = 'a'",
    "'name' = 'a'",
    "attributes.name = 'a'",
    "version = '1'",
    "description = 'x'",
    "timestamp > 1",
    "tags.a = 2",
    "tags.a > '1'",
    "tags.a IN ('x')",
    "name IN ()",
    "name IN ('a',)",
    "name IN 'a'",
    "name IN (1)",
    "name = 'a",
    "name = 'a' name = 'b'",
    "tags. = 'a'",
    "name = 'a\0'",
    "name LIKE " + "'" + "x" * 10_001 + "'",
    " AND ".join(["name = 'a'"] * 101),
    "x" * 100_001,
    "name IN (" + ",".join(["'a'"] * 1001) + ")",
    "name == 'a'",
    "name = 'a' /* x */",
    "-- x",
]


@pytest.mark.parametrize("text", BAD_FILTERS)
def test_tf074_bad_filters(registry, text):
    """A filter outside of the grammar or over its limits is refused soon, without SQL in the message."""
    begin = time.monotonic()

    for search in (registry.search_registered_models, registry.search_model_versions):
        with pytest.raises(InvalidParameter) as caught:
            search(text)
        assert "SELECT" not in str(caught.value)

    assert time.monotonic() - begin < 1


def test_tf074_costly_pattern(registry):
    """A pattern made to backtrack is answered within a second."""
    registry.create_registered_model("m", {"k": "a" * 50_000})
    begin = time.monotonic()

    found = registry.search_registered_models(f"tags.k LIKE '{'%a' * 4000}b'")

    assert found == []
    assert time.monotonic() - begin < 1


def test_model_order(registry, models):
    """Models come in the order that was asked for, with the name between equals."""
    registry.update_registered_model("be_a%", "newest")

    assert [each.name for each in registry.search_registered_models(order_by=["name DESC"])] == [
        "beta",
        "be_a%",
        "alpha",
        "Alpha",
    ]
    assert registry.search_registered_models(order_by=["last_updated_timestamp desc"])[0].name == "be_a%"
    assert registry.search_registered_models(order_by=["timestamp ASC", "name"])[-1].name == "be_a%"


@pytest.mark.parametrize(
    "order",
    [
        ["x"],
        ["name x"],
        ["name,timestamp"],
        [""],
        ["name", "name DESC"],
        ["timestamp", "last_updated_timestamp"],
        ["name;x"],
        [3],
        "name",
        ["creation_timestamp"],
    ],
)
def test_bad_model_orders(registry, order):
    """An unknown or repeated key in order_by is refused."""
    with pytest.raises(InvalidParameter):
        registry.search_registered_models(order_by=order)


def test_model_pages(registry):
    """Pages are full, do not overlap, and the last has no token."""
    for each in range(7):
        registry.create_registered_model(f"m{each}")

    found, token, pages = [], None, 0
    while pages == 0 or token:
        page = registry.search_registered_models(max_results=3, page_token=token)
        found += [each.name for each in page]
        token, pages = page.token, pages + 1

    assert found == [f"m{each}" for each in range(7)]
    assert pages == 3
    assert registry.search_registered_models(max_results=7).token is None


@pytest.mark.parametrize("size", [-1, 0, 10**9, "abc", None, True, 1.5])
def test_tf073_page_sizes(registry, size):
    """A page size that is none is refused."""
    for search in (registry.search_registered_models, registry.search_model_versions):
        with pytest.raises(InvalidParameter):
            search(max_results=size)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "AAAA",
        "eyJvZmZzZXQiOiAtMX0=",
        "eyJvZmZzZXQiOiAwfQ==",
        "eyJvZmZzZXQiOiAxZTMwfQ==",
        "eyJiZWZvcmUiOiAxfQ==",
        "W" * 5000,
        "é",
    ],
)
def test_tf073_forged_tokens(registry, token):
    """A page token that cannot be ours is refused."""
    for search in (registry.search_registered_models, registry.search_model_versions):
        with pytest.raises(InvalidParameter):
            search(page_token=token)


def test_version_filters(registry, make_version):
    """Versions are found by name, number, run, source path and tags; prompts are left out."""
    registry.create_registered_model("wine")
    registry.create_registered_model("grape")
    registry.create_registered_model("greeting", {"mlflow.prompt.is_prompt": "true"})
    first = make_version(run_id="r1", tags={"k": "v"})
    make_version(run_id="r2")
    make_version(name="grape")
    registry.create_model_version("greeting", "dummy-source", tags={"mlflow.prompt.is_prompt": "true"})
    registry.set_registered_model_alias("wine", "champion", 1)

    def found(text):
        return [
            (each.name, each.version)
            for each in registry.search_model_versions(text, order_by=["name", "version_number"])
        ]

    assert found("") == [("grape", "1"), ("wine", "1"), ("wine", "2")]
    assert found("name = 'wine'") == [("wine", "1"), ("wine", "2")]
    assert found("name='wine' AND version_number > 1") == [("wine", "2")]
    assert found("version_number = '01'") == [("grape", "1"), ("wine", "1")]
    assert found("version_number <= 99999999999999999999") == found("")
    assert found("version_number > -1 AND version_number != 2") == [("grape", "1"), ("wine", "1")]
    assert found("run_id IN ('r1', 'r2')") == [("wine", "1"), ("wine", "2")]
    assert found("run_id = 'r2'") == [("wine", "2")]
    assert found(f"source_path = '{first.source}'") == [("wine", "1")]
    assert found("source_path LIKE 'models:/m-%'") == found("")
    assert found("tags.k = 'v'") == [("wine", "1")]
    assert found(f"tags.turnout.digest = '{first.digest}'") == found("")
    assert found("tags.`mlflow.prompt.is_prompt` = 'true'") == [("greeting", "1")]
    assert all(list(each.aliases) == [] for each in registry.search_model_versions())


@pytest.mark.parametrize(
    "text",
    [
        "version_number = 1.5",
        "version_number = 'x'",
        "version_number IN (1)",
        "version_number LIKE '1'",
        "version_number = ٣",
        "version_number = 1e3",
        "source_path IN ('a')",
        "version = 1",
    ],
)
def test_bad_version_filters(registry, text):
    """A version's number is compared with whole numbers only."""
    with pytest.raises(InvalidParameter):
        registry.search_model_versions(text)


def test_version_order_and_pages(registry, make_version):
    """Versions come newest change first unless asked otherwise, page by page."""
    registry.create_registered_model("wine")
    for _ in range(5):
        make_version()
    registry.update_model_version("wine", 2, "changed")

    assert registry.search_model_versions()[0].version == "2"
    first = registry.search_model_versions(max_results=2, order_by=["version_number DESC"])
    second = registry.search_model_versions(max_results=3, order_by=["version_number DESC"], page_token=first.token)
    assert [each.version for each in [*first, *second]] == ["5", "4", "3", "2", "1"]
    assert second.token is None
    for key in ("name", "creation_timestamp", "last_updated_timestamp"):
        assert len(registry.search_model_versions(order_by=[f"{key} ASC"])) == 5
