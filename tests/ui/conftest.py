"""A server with pages, and a client that reads them as a browser without JavaScript does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx2
import pytest
from selectolax.lexbor import LexborHTMLParser as Document

from tests.registry.serving import served


@dataclass(frozen=True)
class Page:
    """An answer, as a document that can be asked by CSS selectors."""

    response: httpx2.Response
    document: Document

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def path(self) -> str:
        return self.response.url.raw_path.decode()

    def text(self, selector: str = "main") -> str:
        """The text of the first match, with single spaces; fails when there is none."""
        found = self.document.css_first(selector)
        assert found is not None, f"no {selector} in {self.response.text}"
        return " ".join(found.text(deep=True, separator=" ").split())

    def texts(self, selector: str) -> list[str]:
        return [" ".join(each.text(deep=True, separator=" ").split()) for each in self.document.css(selector)]

    def attribute(self, selector: str, name: str) -> str | None:
        found = self.document.css_first(selector)
        assert found is not None, f"no {selector} in {self.response.text}"
        return found.attributes.get(name)

    def has(self, selector: str) -> bool:
        return self.document.css_first(selector) is not None


class Reader:
    """Opens pages and sends their forms, following redirects."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client

    def open(self, path: str, **options: object) -> Page:
        return self._page(self.client.get(path, follow_redirects=True, **options))

    def send(self, page: Page, selector: str, typed: Mapping[str, str] | None = None) -> Page:
        """Fill in the form at *selector* and send it: what is not *typed* goes as it stands there."""
        form = page.document.css_first(selector)
        assert form is not None, f"no {selector} in {page.response.text}"
        fields = dict(_fields_of(form))
        unknown = set(typed or {}) - set(fields)
        assert not unknown, f"the form has no {unknown}"
        return self.post(form.attributes["action"], fields | dict(typed or {}))

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Page:
        own = {"origin": str(self.client.base_url).rstrip("/"), "content-type": "application/x-www-form-urlencoded"}
        body = urlencode(fields)
        return self._page(self.client.post(path, content=body, headers=own | headers, follow_redirects=True))

    @staticmethod
    def _page(response: httpx2.Response) -> Page:
        return Page(response, Document(response.text))


def _fields_of(form) -> Iterator[tuple[str, str]]:
    for each in form.css("input[name], textarea[name], select[name]"):
        given = each.attributes
        if each.tag == "textarea":
            yield given["name"], each.text()
        elif each.tag == "select":
            chosen = each.css_first("option[selected]") or each.css_first("option")
            yield given["name"], chosen.attributes.get("value", "") if chosen else ""
        elif given.get("type") not in ("radio", "checkbox") or "checked" in given:
            yield given["name"], given.get("value") or ""


@pytest.fixture
def registry(sqlite_registry):
    """The registry behind the pages."""
    return sqlite_registry


@pytest.fixture
def client(registry) -> Iterator[httpx2.Client]:
    """A client of the server."""
    with served(registry) as (host, port), httpx2.Client(base_url=f"http://{host}:{port}", timeout=30) as client:
        yield client


@pytest.fixture
def reader(client) -> Reader:
    """Somebody who reads the pages."""
    return Reader(client)
