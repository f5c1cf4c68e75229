"""`models:/` references and the rules of names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import InvalidUri, RegistryError
from registry.uri import ModelUri

ID = "m-" + "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("models:/wine@champion", ModelUri("wine", alias="champion")),
        ("models:/wine/3", ModelUri("wine", version=3)),
        ("models:/wine/03", ModelUri("wine", version=3)),
        ("models:/wine/latest", ModelUri("wine")),
        ("models:/wine/LATEST", ModelUri("wine")),
        ("models:/wine@latest", ModelUri("wine")),
        (f"models:/{ID}", ModelUri(model_id=ID)),
        ("models:/a@b@champion", ModelUri("a@b", alias="champion")),
        ("models:/a%20b c?#/1", ModelUri("a%20b c?#", version=1)),
        ("models:/é@日本", ModelUri("é", alias="日本")),
    ],
)
def test_parse(text, uri):
    """A reference is read into its parts, and printed so that it reads the same."""
    assert ModelUri.parse(text) == uri
    assert ModelUri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wine",
        "models:",
        "models:/",
        "models:wine/1",
        "Models:/wine/1",
        "models://wine/1",
        "models://host/wine/1",
        "models:/wine",
        "models:/wine/",
        "models:/wine@",
        "models:/@champion",
        "models:/wine/Production",
        "models:/wine/-1",
        "models:/wine/1e3",
        "models:/wine/٣",
        "models:/wine/99999999999999999999",
        "models:/a/b/1",
        "models:/../1",
        "models:/./1",
        "models:/wine@a b",
        "models:/wine@a\n",
        "models:/ wine/1",
        "models:/wi\u202ene/1",
        "models:/wi\0ne/1",
        "models:/m-123",
        f"models:/{ID}/",
        f"models:/{ID.upper()}",
        f" models:/{ID}",
        "models:/a:b/1",
        "runs:/x/y",
        None,
        3,
    ],
)
def test_parse_refuses(text):
    """Whatever names nothing is refused with a sentence."""
    with pytest.raises(InvalidUri) as caught:
        ModelUri.parse(text)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"name": "a", "model_id": ID},
        {"name": "a", "version": 1, "alias": "b"},
        {"model_id": ID, "version": 1},
        {"model_id": "m-1"},
        {"name": "a/b"},
        {"name": "a", "version": -1},
        {"name": "a", "alias": "a b"},
    ],
)
def test_parts_must_fit(arguments):
    """A reference cannot be made of parts that do not go together."""
    with pytest.raises(InvalidUri):
        ModelUri(**arguments)


@given(st.text(max_size=40))
def test_any_text_parses_or_is_refused(text):
    """Any text after `models:/` is a reference that prints and parses again, or an error of ours."""
    try:
        uri = ModelUri.parse(f"models:/{text}")
    except RegistryError:
        return
    assert ModelUri.parse(str(uri)) == uri
