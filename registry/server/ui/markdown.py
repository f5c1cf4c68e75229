"""Descriptions as people write them: Markdown without HTML, images or links that run anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

# Brackets without end take the parser time that grows with their square.
MOST_RENDERED = 10_000
DEEPEST_HEADING = 6


def render(text: str | None) -> Markup:
    """HTML that is safe to show, of the first `MOST_RENDERED` characters. Its headings stand below those of a page."""
    return Markup(_MARKDOWN.render((text or "")[:MOST_RENDERED]))


def _open_link(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    tokens[index].attrSet("rel", "nofollow noopener noreferrer")
    return _MARKDOWN.renderer.renderToken(tokens, index, options, env)  # type: ignore[attr-defined, no-any-return]


def _heading(tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    level = min(DEEPEST_HEADING, int(tokens[index].tag[1:]) + 2)
    tokens[index].tag = f"h{level}"
    return _MARKDOWN.renderer.renderToken(tokens, index, options, env)  # type: ignore[attr-defined, no-any-return]


def _make() -> MarkdownIt:
    # `js-default` escapes HTML, refuses `javascript:` and the like, and bounds how deep things nest.
    made = MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")
    made.renderer.rules.update({"link_open": _open_link, "heading_open": _heading, "heading_close": _heading})  # type: ignore[attr-defined]
    return made


_MARKDOWN = _make()
