"""The files that pages refer to: kept in memory, compressed once, named by their digest for browsers to keep."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    compressed: bytes
    media_type: str
    digest: str


class Assets:
    """Every file below `static/` that a browser may ask for, by its path there."""

    def __init__(self) -> None:
        self._assets = _read()

    def address(self, path: str) -> str:
        """Where the file is asked for, below the site's prefix. It changes with the content."""
        return f"/static/{path}?v={self._assets[path].digest[:16]}"

    async def serve(self, request: Request) -> Response:
        asset = self._assets.get(request.path_params["path"])
        if asset is None:
            return PlainTextResponse("there is no such file", 404)
        headers = {"vary": "accept-encoding", "x-content-type-options": "nosniff", "cache-control": "no-cache"}
        if request.query_params.get("v") == asset.digest[:16]:
            headers["cache-control"] = FOR_EVER
        if takes_gzip(request.headers):
            headers["content-encoding"] = "gzip"
            return Response(asset.compressed, headers=headers, media_type=asset.media_type)
        return Response(asset.content, headers=headers, media_type=asset.media_type)


def takes_gzip(headers: Mapping[str, str]) -> bool:
    return "gzip" in headers.get("accept-encoding", "")


@cache
def _read() -> Mapping[str, Asset]:
    found = {}
    for file in sorted(FOLDER.rglob("*")):
        if media_type := TYPES.get(file.suffix):
            content = file.read_bytes()
            asset = Asset(content, gzip.compress(content), media_type, sha256(content).hexdigest())
            found[file.relative_to(FOLDER).as_posix()] = asset
    return found
