"""The site's routes: which page answers an address, on a thread, and what becomes of a failure."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from registry.core import ServedRegistry
from registry.errors import RegistryError
from registry.notices import listening
from registry.server.bodies import read_body
from registry.server.files import FileThreads
from registry.server.gateways import Gateways
from registry.server.transport import acting, actor_of
from registry.server.ui import (
    aliases,
    compare,
    deployments,
    experiments,
    logged_models,
    model,
    models,
    notes,
    register,
    runs,
    trial,
    version,
)
from registry.server.ui.assets import Assets, takes_gzip
from registry.server.ui.links import Links
from registry.server.ui.templates import environment
from registry.server.ui.visit import Page, Site, Visit, read_form

log = logging.getLogger("turnout.ui")

MAX_FORM_BYTES = 1 << 20
FORM = "application/x-www-form-urlencoded"

PAGES: Mapping[tuple[str, str], Page] = {
    **models.PAGES,
    **model.PAGES,
    **version.PAGES,
    **aliases.PAGES,
    **notes.PAGES,
    **deployments.PAGES,
    **trial.PAGES,
    **compare.PAGES,
    **runs.PAGES,
    **logged_models.PAGES,
    **register.PAGES,
    **experiments.PAGES,
}


class Website:
    """The pages of one registry. They run on *threads*, whose closing stays with the caller."""

    def __init__(self, registry: ServedRegistry, gateways: Gateways, threads: FileThreads, prefix: str) -> None:
        self._assets = Assets()
        self._site = Site(registry, gateways, Links(prefix, self._assets), environment())
        self._threads = threads
        self._prefix = prefix

    def routes(self) -> list[Route]:
        found = [Route(path, partial(self._answer, page), methods=[method]) for (method, path), page in PAGES.items()]
        return [*found, Route("/static/{path:path}", self._assets.serve, methods=["GET"])]

    def problem(self, request: Request, status: int, message: str) -> Response:
        """A page that says what is wrong, for a browser that asked for a page."""
        return _problem(self._visit(request), status, message)

    async def _answer(self, page: Page, request: Request) -> Response:
        headers = request.headers
        visit = self._visit(request)
        if request.method == "POST":
            if not _comes_from_a_page(headers):
                return _problem(visit, 403, "Forms are taken from this server's own pages only; scripts use the API.")
            body = await read_body(request.receive, headers.get("content-length", "").encode(), MAX_FORM_BYTES)
            visit = self._visit(request, body)
        actor = actor_of(dict(request.scope["headers"]))
        return await self._threads.run(partial(_shown, page, visit, actor))

    def _visit(self, request: Request, body: bytes = b"") -> Visit:
        return Visit(
            self._site,
            request.path_params,
            dict(request.query_params),
            {key: request.query_params.getlist(key) for key in request.query_params},
            read_form(body),
            takes_gzip(request.headers),
            f"{request.url.scheme}://{request.headers.get('host', 'localhost')}{self._prefix}",
        )


def is_for_a_browser(request: Request) -> bool:
    """Whether the answer is read by a person: the API's clients ask for no HTML."""
    path = request.url.path
    return "text/html" in request.headers.get("accept", "") and "/api/" not in path and "/ajax-api/" not in path


def _shown(page: Page, visit: Visit, actor: str | None) -> Response:
    token = acting.set(actor)
    try:
        with listening() as heard:
            response = page(visit)
        for each in heard:
            log.warning("%s", each)
        return response
    except RegistryError as problem:
        return _problem(visit, problem.http_status, str(problem))
    except Exception:  # the boundary of a request: the server goes on
        log.exception("a page failed")
        return _problem(visit, 500, "The server failed; its log says why.")
    finally:
        acting.reset(token)


def _problem(visit: Visit, status: int, message: str) -> Response:
    return visit.show("problem.html", status, message=message, status=status)


def _comes_from_a_page(headers: Mapping[str, str]) -> bool:
    """The guard has compared `Origin` with `Host`; a browser sends one with every form."""
    return (
        "origin" in headers
        and headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
        and headers.get("content-type", "").partition(";")[0].strip().lower() == FORM
    )
