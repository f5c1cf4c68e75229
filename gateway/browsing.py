"""The files of `/docs`: a page, its script and its style, which fetch nothing from anywhere else."""

from __future__ import annotations

from functools import cache
from pathlib import Path

# No inline script or style, nothing from another host, no frame around it: what a model's names hold stays text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/docs/docs.css": ("docs.css", "text/css; charset=utf-8"),
}


@cache
def file(path: str) -> tuple[bytes, dict[str, str]]:
    """One of `FILES`, with its headers."""
    name, content_type = FILES[path]
    headers = {
        "content-type": content_type,
        "content-security-policy": POLICY,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }
    return (Path(__file__).parent / "static" / name).read_bytes(), headers
