"""Addresses of files: which of them hide nothing, and which place in our own store they name. Pure."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

from registry.errors import InvalidParameter
from registry.names import shown

ARTIFACTS = "mlflow-artifacts:/"
DECODING_ROUNDS = 10

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
# Where MLflow keeps files when no server does: documents of old name these places as sources.
_LOCAL_RUN = re.compile(r"(?:^|/)mlruns/[\w-]+/([\w-]+)/artifacts/([\w./ -]+)$")
_LOCAL_MODEL = re.compile(r"(?:^|/)mlruns/[\w-]+/models/(m-[0-9a-f]{32})(?:/|$)")


def check_location(text: str, what: str = "source") -> tuple[str, str]:
    """The scheme and the decoded text of an address that hides nothing. Raises `InvalidParameter`."""
    decoded = text
    for _ in range(DECODING_ROUNDS):
        before, decoded = decoded, unquote(decoded, errors="surrogateescape")
        if before == decoded:
            break
    else:
        raise InvalidParameter(f"{what} {shown(text)} is encoded too many times")
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else "file"
    if scheme == "file":
        raise InvalidParameter(
            f"{what} {shown(text)} is a local path, which only this machine can read: {_advice(text)}"
        )
    if any(each in "?#;\\" or unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in decoded):
        raise InvalidParameter(f"{what} {shown(text)} has a character that a location cannot have: ? # ; \\ ")
    if not {".", ".."}.isdisjoint(decoded.partition(":")[2].split("/")):
        raise InvalidParameter(f"{what} {shown(text)} has '.' or '..' as a part of its path")
    return scheme, decoded


def store_path(uri: str) -> str | None:
    """The path in our own artifact store that `mlflow-artifacts:/path` names."""
    if not uri.startswith(ARTIFACTS) or uri.startswith(f"{ARTIFACTS}/"):
        return None
    return uri[len(ARTIFACTS) :].rstrip("/")


def lies_below(location: str, place: str) -> bool:
    """Whether scheme and host are the same and the path begins with the whole parts of the place's."""
    *origin, path = _split(location)
    *wanted_origin, wanted = _split(place.rstrip("/"))
    return any([*wanted_origin[1:], *wanted]) and origin == wanted_origin and path[: len(wanted)] == wanted


def _split(location: str) -> tuple[str, str | None, list[str]]:
    """(scheme, host, parts of the path) of an address that was decoded; the host of `s3:///x` is empty."""
    scheme, _, rest = location.partition(":")
    if not rest.startswith("//"):
        return scheme, None, rest.split("/")
    host, slash, path = rest[2:].partition("/")
    return scheme, host, path.split("/") if slash else []


def _advice(text: str) -> str:
    """What to give instead of a local path."""
    if found := _LOCAL_MODEL.search(text):
        return f"use the logged model as the source, models:/{found[1]}"
    if found := _LOCAL_RUN.search(text):
        return f"use the run as the source, runs:/{found[1]}/{found[2].strip('/')}"
    return "copy it into the registry with `turnout register PATH --name NAME`"
