"""uv's messages as `/status` shows them."""

import pytest

from gateway.installer import meaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "warning: the cache is full\n  × No solution found when resolving dependencies:\n"
            "  ╰─▶ Because there is no version of tiny==3.0 and you require\n      tiny==3.0, it fails.\n",
            "No solution found when resolving dependencies: "
            "Because there is no version of tiny==3.0 and you require tiny==3.0, it fails.",
        ),
        (
            "error: Failed to fetch: https://u:sesame@me@index.example/simple/\n"
            "  cause: client error (Connect)\n\nhint: is it up?\n\nFor more information, try '--help'.\n",
            "Failed to fetch: https://***@index.example/simple/; client error (Connect); is it up?",
        ),
        ("", ""),
    ],
)
def test_the_message_is_one_line_without_drawing_and_passwords(text, expected):
    """Its causes follow each other, and what is only advice on options is left out."""
    assert meaning(text) == expected
