"""Descriptions: what Markdown may do, and what nothing may."""

from __future__ import annotations

import pytest

from registry.server.ui.markdown import render


def test_markdown():
    """Emphasis, lists, code, tables and links are shown; headings stand below those of the page."""
    shown = render("# Head\n\n*a* `b`\n\n- c\n\n|d|e|\n|-|-|\n|1|2|\n\n[f](https://example.com)")

    assert "<h3>Head</h3>" in shown
    for each in ("<em>a</em>", "<code>b</code>", "<li>c</li>", "<td>1</td>"):
        assert each in shown
    assert '<a href="https://example.com" rel="nofollow noopener noreferrer">f</a>' in shown


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "<javascript:alert(1)>",
        "![x](https://example.com/track.png)",
        '[x](https://example.com "a\\" onmouseover=alert(1) b")',
        "[x]: javascript:alert(1)\n\n[x]",
    ],
)
def test_nothing_runs(text):
    """No element but those of Markdown, no address that runs, nothing that is loaded from elsewhere."""
    shown = render(text)

    assert "<script" not in shown
    assert "<svg" not in shown
    assert "<img" not in shown
    assert 'href="javascript' not in shown.lower()
    assert 'href="data' not in shown
    assert 'href="vbscript' not in shown
    assert ' onmouseover="' not in shown


@pytest.mark.parametrize("text", ["[" * 100_000, "> " * 50_000, "![" * 50_000, "*" * 100_000, "a**b" * 25_000, ""])
def test_a_great_deal(text):
    """Text that costs a parser much is cut where that would hurt."""
    assert len(render(text)) < 200_000
