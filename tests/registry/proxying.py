"""Calls of the artifact proxy, with paths sent exactly as they are given."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PREFIX = "/api/2.0/mlflow-artifacts"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response; the body whole."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Proxy:
    """Calls of the artifact routes, with paths sent exactly as they are given."""

    address: tuple[str, int]
    registry: object
    root: Path

    def call(self, method, target, body=None, **headers):
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        try:
            connection.request(method, target, body, {key.replace("_", "-"): value for key, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def file(self, method, path, body=None, **headers):
        return self.call(method, f"{PREFIX}/artifacts/{path}", body, **headers)

    def listed(self, folder):
        return self.call("GET", f"{PREFIX}/artifacts?path={quote(folder, safe='')}").json

    def files(self):
        """Every file of the store's folder, hidden ones too."""
        return sorted(str(each.relative_to(self.root)) for each in self.root.rglob("*") if not each.is_dir())


def error_of(answer):
    """The status and the code of a refusal."""
    return answer.status, answer.json["error_code"]


def until_true(condition):
    """Wait for what another thread does."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
