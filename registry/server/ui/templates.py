"""Jinja's environment: escapes everything, and knows how times and sizes are written."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version as installed_version
from math import log10
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from registry.names import DIGEST_TAG
from registry.server.ui.sparklines import time_taken

FOLDER = Path(__file__).parent / "templates"
RECORDED = "mlflow."  # how the tags begin that clients write by themselves
_UNITS = ("kB", "MB", "GB", "TB")
_STEPS = ((60, "second"), (3600, "minute"), (86_400, "hour"), (86_400 * 30, "day"), (86_400 * 365, "month"))


@cache
def environment(clock: Callable[[], float] = time.time) -> Environment:
    """Templates in which an unknown name is an error, and every value is text. Made once: each is compiled."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["turnout_version"] = installed_version("turnout")
    made.globals["own_tags"] = own_tags
    made.globals["written"] = lambda tags: {key: value for key, value in tags.items() if not key.startswith(RECORDED)}
    made.globals["recorded"] = lambda tags: {key: value for key, value in tags.items() if key.startswith(RECORDED)}
    made.filters["moment"] = lambda given: _moment(given, clock())
    made.filters["size"] = size
    made.filters["taken"] = time_taken
    made.filters["shortened"] = shortened
    made.filters["shell"] = shlex.quote
    made.filters["number"] = "{:.6g}".format
    made.filters["duration"] = duration
    made.filters["get_or_none"] = dict.get
    return made


def own_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Those that somebody wrote, without the registry's own."""
    return {key: value for key, value in tags.items() if key != DIGEST_TAG}


def size(count: int) -> str:
    """Bytes, as people say them."""
    if count < 1000:
        return f"{count} B"
    power = min(len(_UNITS), int(log10(count * 1.0005) / 3))
    return f"{count / 1000**power:.3g} {_UNITS[power - 1]}"


def duration(milliseconds: int) -> str:
    """A stretch of time in its two largest units."""
    seconds = max(0, milliseconds) / 1000
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def shortened(text: str, most: int = 120) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _moment(given: int | datetime | None, now: float) -> Markup | str:
    """A time: how long ago, with the exact one beside it. A script puts it into the reader's zone."""
    if given is None:
        return "–"
    try:
        when = given if isinstance(given, datetime) else datetime.fromtimestamp(given / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"{given} ms"
    exact = f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        when.astimezone(UTC).isoformat(timespec="seconds"), exact, _ago(now - when.timestamp(), when)
    )


def _ago(seconds: float, when: datetime) -> str:
    if seconds < -60:
        return f"{when:%Y-%m-%d %H:%M} UTC"
    if seconds < 5:
        return "just now"
    before = 1
    for step, name in _STEPS:
        if seconds < step:
            count = int(seconds // before)
            return f"{count} {name}{'s' if count != 1 else ''} ago"
        before = step
    return f"{when:%Y-%m-%d}"
