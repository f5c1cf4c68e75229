"""Which handler answers a path: a dictionary for whole paths, and a short list for those with `{fields}`.

Ahead of Starlette's router, which tries one pattern after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from registry.errors import InvalidParameter
from registry.server.transport import Handler

Routes = Mapping[tuple[str, str], Handler]


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and the path that it is counted under."""

    handler: Handler
    method: str
    label: str
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names: by method the routes there, and the fields that stand in the path."""

    routes: Mapping[str, Route]
    fields: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Template:
    parts: tuple[str, ...]
    routes: dict[str, Route]

    def match(self, parts: list[str]) -> dict[str, str] | None:
        fields: dict[str, str] = {}
        for wanted, given in zip(self.parts, parts, strict=True):
            if wanted.startswith("{"):
                fields[wanted[1:-1]] = given
            elif wanted != given:
                return None
        return fields


class Table:
    """Paths as they stand in the request line, still percent-encoded; a field's value is decoded, once."""

    def __init__(self) -> None:
        self._places: dict[bytes, Place] = {}
        self._templates: dict[int, list[_Template]] = {}

    def add(self, prefixes: Sequence[str], routes: Routes, limits: Mapping[str, int], default_limit: int) -> None:
        """Add *routes* below each of *prefixes*, counted under the first. *limits* are those of bodies, by path."""
        for (method, path), handler in routes.items():
            route = Route(handler, method, prefixes[0] + path, limits.get(path, default_limit))
            for prefix in prefixes:
                self._routes_at(prefix + path)[method] = route

    def find(self, path: bytes) -> Place | None:
        """Raises `InvalidParameter` for a field that is not UTF-8."""
        place = self._places.get(path)
        return place if place is not None else self._find_template(path)

    def _routes_at(self, path: str) -> dict[str, Route]:
        if "{" not in path:
            routes = self._places.setdefault(path.encode(), Place({})).routes
            assert isinstance(routes, dict)
            return routes
        parts = tuple(path.split("/"))
        templates = self._templates.setdefault(len(parts), [])
        for each in templates:
            if each.parts == parts:
                return each.routes
        templates.append(_Template(parts, {}))
        return templates[-1].routes

    def _find_template(self, path: bytes) -> Place | None:
        parts = path.decode("latin-1").split("/")
        for template in self._templates.get(len(parts), ()):
            fields = template.match(parts)
            if fields is not None:
                return Place(template.routes, {name: _decoded(value) for name, value in fields.items()})
        return None


def _decoded(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise InvalidParameter("the path is not UTF-8, percent-encoded") from None
