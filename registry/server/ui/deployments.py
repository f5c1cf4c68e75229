"""What gateways serve, live: every endpoint with its versions, its last change and error, and its last hour."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from starlette.responses import Response

from registry.core import AliasChange
from registry.errors import InvalidParameter, NotFound, RegistryError
from registry.names import shown
from registry.server.gateways import Gateway
from registry.server.reports import Endpoint
from registry.server.ui.sparklines import Chart, charts_of, marks_at
from registry.server.ui.visit import Page, Visit

PER_PAGE = 25
MOST_MOVES = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint of one gateway, with where its alias points in the registry: None when that is not known."""

    gateway: Gateway
    endpoint: Endpoint
    wanted: str | None
    charts: Sequence[Chart]

    @property
    def state(self) -> str:
        """The endpoint's own word, or gone with its gateway."""
        return "gone" if self.gateway.is_gone else self.endpoint.state or "unknown"

    @property
    def id(self) -> str:
        return f"{self.gateway.id}/{self.endpoint.name}"


def list_deployments(visit: Visit) -> Response:
    search, number = visit.query.get("q", "").strip(), _page_of(visit)
    gateways = visit.site.gateways.seen()
    found = [pair for pair in _pairs(gateways) if _is_found(*pair, search)]
    shown_now = found[(number - 1) * PER_PAGE : number * PER_PAGE]
    moves = Moves(visit)
    groups = [
        (gateway, [_row(visit, moves, gateway, endpoint) for _, endpoint in pairs if endpoint is not None])
        for gateway, pairs in ((key, list(group)) for key, group in groupby(shown_now, key=lambda pair: pair[0]))
    ]
    return visit.show(
        "deployments.html",
        groups=groups,
        search=search,
        is_empty=not gateways,
        total=len(found),
        number=number,
        has_more=len(found) > number * PER_PAGE,
    )


def show_endpoint(visit: Visit) -> Response:
    gateway, endpoint = find(visit)
    moves = Moves(visit)
    return visit.show("endpoint.html", row=_row(visit, moves, gateway, endpoint), moves=moves.of(endpoint))


def find(visit: Visit) -> tuple[Gateway, Endpoint]:
    """What the address names; raises `NotFound` for what has not reported in the last hour."""
    name = visit.path["gateway"]
    gateway = visit.site.gateways.get(name)
    if gateway is None:
        raise NotFound(
            f"no gateway {shown(name)} has reported in the last hour; the page Deployments lists those that have"
        )
    endpoint = gateway.endpoint(visit.path["endpoint"])
    if endpoint is None:
        raise NotFound(
            f"gateway {shown(name)} reports no endpoint {shown(visit.path['endpoint'])}; it may have been removed"
        )
    return gateway, endpoint


class Moves:
    """Where aliases point and have pointed, asked once for each, whoever follows it."""

    def __init__(self, visit: Visit) -> None:
        self._registry = visit.registry
        self._asked: dict[tuple[str, str], Sequence[AliasChange]] = {}

    def of(self, endpoint: Endpoint) -> Sequence[AliasChange]:
        """The last moves of the alias that the endpoint follows, newest first; none where there is none."""
        if endpoint.alias is None:
            return ()
        key = endpoint.model, endpoint.alias
        if key not in self._asked:
            try:
                self._asked[key] = list(self._registry.get_alias_history(*key, MOST_MOVES))
            except RegistryError:  # a model that is another registry's, or was deleted
                self._asked[key] = ()
        return self._asked[key]


def _row(visit: Visit, moves: Moves, gateway: Gateway, endpoint: Endpoint) -> Row:
    now_s = time.time()
    of_alias = moves.of(endpoint)
    slots = visit.site.gateways.slots(gateway.id, endpoint.name)
    marks = marks_at(((each.at, each.to_version or "deleted") for each in of_alias), now_s)
    charts = charts_of(slots, gateway.bounds_s, now_s, marks)
    return Row(gateway, endpoint, of_alias[0].to_version if of_alias else None, charts)


def _pairs(gateways: Sequence[Gateway]) -> Iterator[tuple[Gateway, Endpoint | None]]:
    for gateway in gateways:
        for endpoint in sorted(gateway.endpoints, key=lambda each: (each.state == "idle", each.name)):
            yield gateway, endpoint
        if not gateway.endpoints:
            yield gateway, None


def _is_found(gateway: Gateway, endpoint: Endpoint | None, search: str) -> bool:
    words = [gateway.id, "gone" if gateway.is_gone else ""]
    if endpoint is not None:
        words += [endpoint.name, endpoint.model, f"@{endpoint.alias or ''}", endpoint.state]
    return search.lower() in " ".join(words).lower()


def _page_of(visit: Visit) -> int:
    text = visit.query.get("page", "1")
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 7 and int(text)):
        raise InvalidParameter(f"there is no page {shown(text)} of deployments: pages are counted from 1")
    return int(text)


PAGES: Mapping[tuple[str, str], Page] = {
    ("GET", "/deployments"): list_deployments,
    ("GET", "/deployments/{gateway}/{endpoint}"): show_endpoint,
}
