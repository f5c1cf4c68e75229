"""Two versions of a model, side by side: what is the same and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.responses import Response

from registry.core import ModelVersion
from registry.errors import InvalidParameter, NotFound
from registry.server.ui.contents import Contents, read_contents
from registry.server.ui.templates import size
from registry.server.ui.version import size_of
from registry.server.ui.visit import Page, Visit

MOST_LINES = 500
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Line:
    """One property of both."""

    name: str
    a: str
    b: str
    more: str = ""

    @property
    def differs(self) -> bool:
        return self.a != self.b


@dataclass(frozen=True, slots=True)
class Side:
    """What is compared of one version."""

    version: ModelVersion
    contents: Contents
    size: int | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def compare(visit: Visit) -> Response:
    name = visit.path["name"]
    a, b = visit.query.get("a", ""), visit.query.get("b", "")
    if not (a and b):
        raise InvalidParameter("two versions are compared: choose a first and a second on the model's page")
    one, other = _side(visit, name, a), _side(visit, name, b)
    groups = [
        ("About", _about(one, other)),
        ("Params", _texts(one.params, other.params)),
        ("Metrics", _metrics(one.metrics, other.metrics)),
        *((part.title(), _columns(part, one, other)) for part in ("inputs", "outputs", "params of the call")),
        ("Requirements", _requirements(one, other)),
    ]
    shown = [(title, lines[:MOST_LINES]) for title, lines in groups if lines]
    return visit.show("compare.html", name=name, a=one.version, b=other.version, groups=shown)


def _side(visit: Visit, name: str, number: str) -> Side:
    version = visit.registry.get_model_version(name, number)
    contents = read_contents(visit.registry, visit.registry.get_model_version_download_uri(name, number))
    params, metrics = _measured(visit, version)
    return Side(version, contents, size_of(visit, version), params, metrics)


def _measured(visit: Visit, version: ModelVersion) -> tuple[Mapping[str, str], Mapping[str, float]]:
    """The params and metrics of its logged model, and of the run that made it, whose latest values count."""
    params: dict[str, str] = {}
    metrics: dict[str, float] = {}
    tracking = visit.registry.tracking
    for read, key in ((tracking.get_logged_model, version.model_id), (tracking.get_run, version.run_id)):
        if key is None:
            continue
        try:
            found = read(key)
        except NotFound:
            continue
        params |= found.params
        metrics |= {each.key: each.value for each in found.metrics}
    return params, metrics


def _about(one: Side, other: Side) -> list[Line]:
    sides = (one, other)
    return [
        Line("Aliases", *[", ".join(f"@{each}" for each in sorted(side.version.aliases)) or NOTHING for side in sides]),
        Line("Source run", *[side.version.run_id or NOTHING for side in sides]),
        Line("Digest", *[side.version.digest or NOTHING for side in sides]),
        Line("Size", *[NOTHING if side.size is None else size(side.size) for side in sides]),
        Line("Flavors", *[", ".join(side.contents.flavors) or NOTHING for side in sides]),
        Line("Description", *[(side.version.description or NOTHING)[:500] for side in sides]),
    ]


def _texts(one: Mapping[str, str], other: Mapping[str, str]) -> list[Line]:
    return [Line(key, one.get(key, NOTHING), other.get(key, NOTHING)) for key in _keys(one, other)]


def _metrics(one: Mapping[str, float], other: Mapping[str, float]) -> list[Line]:
    lines = []
    for key in _keys(one, other):
        a, b = one.get(key), other.get(key)
        change = f"{b - a:+.6g}" if a is not None and b is not None and a != b else ""
        lines.append(Line(key, _number(a), _number(b), change))
    return lines


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.6g}"


def _columns(part: str, one: Side, other: Side) -> list[Line]:
    key = part.partition(" ")[0]
    a, b = (
        {name: f"{kind} {more}".strip() for name, kind, more in side.contents.columns(key)} for side in (one, other)
    )
    return _texts(a, b)


def _requirements(one: Side, other: Side) -> list[Line]:
    a, b = (dict(_split(each) for each in side.contents.requirements) for side in (one, other))
    return _texts(a, b)


def _split(requirement: str) -> tuple[str, str]:
    """The package, and what is asked of it."""
    for mark in ("==", ">=", "<=", "~=", "!=", ">", "<", "@"):
        name, found, rest = requirement.partition(mark)
        if found:
            return name.strip(), f"{mark}{rest.strip()}"
    return requirement, "any"


def _keys(one: Iterable[str], other: Iterable[str]) -> list[str]:
    """Those of the first in their order, and then what only the second has."""
    return list(dict.fromkeys([*one, *other]))


PAGES: Mapping[tuple[str, str], Page] = {("GET", "/models/{name}/compare"): compare}
