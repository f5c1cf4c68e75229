"""How times, sizes and numbers are written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from registry.server.ui.templates import duration, environment, own_tags, size

NOW = 1_800_000_000.0


def moment(given: object) -> str:
    return environment(lambda: NOW).from_string("{{ given | moment }}").render(given=given)


@pytest.mark.parametrize(
    ("count", "written"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1234, "1.23 kB"), (999_700, "1 MB"), (5_000_000_000, "5 GB")],
)
def test_size(count, written):
    """Bytes are written with three digits in the unit that fits."""
    assert size(count) == written


@pytest.mark.parametrize(
    ("milliseconds", "written"),
    [(0, "0 s"), (1_500, "1.5 s"), (61_000, "1 min 1 s"), (3_660_000, "1 h 1 min"), (-5, "0 s")],
)
def test_duration(milliseconds, written):
    """A stretch of time is written in its two largest units."""
    assert duration(milliseconds) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "just now"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (7_200, "2 hours ago"),
        (86_400 * 40, "1 month ago"),
    ],
)
def test_moment(seconds, written):
    """A time says how long ago it was, and which time exactly."""
    when = datetime.fromtimestamp(NOW - seconds, UTC)

    text = moment(round(when.timestamp() * 1000))

    assert f">{written}</time>" in text
    assert f'title="{when:%Y-%m-%d %H:%M:%S} UTC"' in text


@pytest.mark.parametrize(("given", "written"), [(None, "–"), (2**62, f"{2**62} ms"), (-(2**62), f"{-(2**62)} ms")])
def test_moment_that_is_none(given, written):
    """What is no time, or none that a calendar has, is written as it is."""
    assert moment(given) == written


def test_own_tags():
    """The digest that the registry computes is no tag that somebody wrote."""
    assert own_tags({"turnout.digest": "sha256:0", "team": "risk"}) == {"team": "risk"}


def test_everything_is_escaped():
    """A value in a template is text."""
    assert environment().from_string("{{ x }}").render(x="<b>'\"&") == "&lt;b&gt;&#39;&#34;&amp;"
