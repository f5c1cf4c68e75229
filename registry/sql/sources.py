"""Where a version's files may come from, and where they lie: checked when the version is made.

A source is decoded until nothing changes, checked, and never decoded again. A place that is not ours is
refused unless an operator allowed it: a reader of artifacts would fetch it for whoever asks.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from sqlalchemy import Connection, bindparam, select

from registry.artifacts import Manifest, check_path
from registry.errors import InvalidParameter, NotFound
from registry.names import MAX_SOURCE_CHARS, check_model_id, check_text, shown
from registry.sql.aliases import read_latest_version, read_version_by_alias
from registry.sql.manifests import read_manifest
from registry.sql.schema import models, versions
from registry.sql.tracking import READY, read_logged_model
from registry.uri import ModelUri

ARTIFACTS = "mlflow-artifacts:/"
PROMPT_SOURCE = "dummy-source"
DECODING_ROUNDS = 10

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_ORIGIN_OF_VERSION = (
    select(versions.c.location, versions.c.run_id, versions.c.logged_model_id, versions.c.digest)
    .join_from(versions, models)
    .where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a version is made from. Files below *prefix* of our store still have to be digested."""

    source: str
    location: str
    run_id: str | None = None
    model_id: str | None = None
    manifest: Manifest | None = None
    prefix: str | None = None


def resolve_source(
    connection: Connection, source: str, run_id: str | None, model_id: str | None, allowed: Sequence[str]
) -> Origin:
    """Check a source and find its files. Raises `InvalidParameter`, or `NotFound` for an unknown model."""
    text = check_text(source, "source", MAX_SOURCE_CHARS)
    if model_id is not None:
        check_model_id(model_id)
    if text.startswith("models:/"):
        return _from_model(connection, ModelUri.parse(text), run_id, model_id)
    if text == PROMPT_SOURCE:  # a prompt has no files: its text is a tag
        return Origin(text, text, run_id, model_id)
    scheme, decoded = check_location(text)
    if scheme == "runs":
        raise InvalidParameter(
            f"source {shown(text)} names a run, and this registry keeps none: log the model with "
            "registry.log_model and use its models:/m-… as the source"
        )
    if scheme == "mlflow-artifacts":
        return _from_artifacts(connection, text, decoded, run_id, model_id)
    if not any(_lies_below(decoded, unquote(each)) for each in allowed):
        raise InvalidParameter(
            f"source {shown(text)} lies outside of this registry's artifacts and of the places that its operator "
            "allowed: register the files with `turnout register PATH --name NAME`"
        )
    return Origin(text, text, run_id, model_id)


def check_location(text: str) -> tuple[str, str]:
    """The scheme and the decoded text of an address that hides nothing. Raises `InvalidParameter`."""
    decoded = text
    for _ in range(DECODING_ROUNDS):
        before, decoded = decoded, unquote(decoded, errors="surrogateescape")
        if before == decoded:
            break
    else:
        raise InvalidParameter(f"source {shown(text)} is encoded too many times")
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else "file"
    if scheme == "file":
        raise InvalidParameter(
            f"source {shown(text)} is a local path, which only this machine can read: copy it into the registry "
            "with `turnout register PATH --name NAME`"
        )
    if any(each in "?#;\\" or unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for each in decoded):
        raise InvalidParameter(f"source {shown(text)} has a character that a location cannot have: ? # ; \\ ")
    if not {".", ".."}.isdisjoint(decoded.partition(":")[2].split("/")):
        raise InvalidParameter(f"source {shown(text)} has '.' or '..' as a part of its path")
    return scheme, decoded


def _from_model(connection: Connection, uri: ModelUri, run_id: str | None, model_id: str | None) -> Origin:
    if uri.model_id is None:
        return _from_version(connection, uri, run_id, model_id)
    logged = read_logged_model(connection, uri.model_id)
    if logged.status != READY:
        raise InvalidParameter(
            f"logged model {uri.model_id} is {logged.status}: a version can be made once it is {READY}"
        )
    _check_equal("model_id", model_id, uri.model_id, str(uri))
    if logged.source_run_id is not None:
        _check_equal("run_id", run_id, logged.source_run_id, str(uri))
    prefix = store_path(logged.artifact_uri)
    return Origin(str(uri), logged.artifact_uri, run_id or logged.source_run_id, uri.model_id, prefix=prefix)


def _from_version(connection: Connection, uri: ModelUri, run_id: str | None, model_id: str | None) -> Origin:
    concrete = concrete_uri(connection, uri)
    row = connection.execute(_ORIGIN_OF_VERSION, {"name": concrete.name, "number": concrete.version}).one_or_none()
    if row is None:
        raise NotFound(f"source {shown(str(uri))} names no model version: create it first")
    if row.location == PROMPT_SOURCE:
        raise InvalidParameter(f"source {shown(str(uri))} is a prompt, which is no model")
    _check_equal("run_id", run_id, row.run_id, str(uri))
    _check_equal("model_id", model_id, row.logged_model_id, str(uri))
    manifest = read_manifest(connection, row.digest) if row.digest else None
    return Origin(str(concrete), row.location, row.run_id, row.logged_model_id, manifest)


def concrete_uri(connection: Connection, uri: ModelUri) -> ModelUri:
    """The reference by number, whatever it was."""
    if uri.name is None:
        raise InvalidParameter(f"{shown(str(uri))} names a logged model, not a version of a registered model")
    if uri.version is not None:
        return uri
    if uri.alias is not None:
        found = read_version_by_alias(connection, uri.name, uri.alias)
    else:
        found = read_latest_version(connection, uri.name)
    return ModelUri(uri.name, version=int(found.version))


def _from_artifacts(
    connection: Connection, text: str, decoded: str, run_id: str | None, model_id: str | None
) -> Origin:
    path = store_path(decoded)
    if path is None:
        raise InvalidParameter(f"source {shown(text)} names another server: its files must lie in this registry")
    parts = check_path(path).split("/")
    if model_id is not None:
        logged = read_logged_model(connection, model_id)
        is_below = _lies_below(decoded, logged.artifact_uri)
        run_id = run_id or logged.source_run_id
    else:
        # <experiment>/<run>/artifacts/…: a run's own directory
        is_below = run_id is not None and parts[1:3] == [run_id, "artifacts"]
    if not is_below:
        raise InvalidParameter(
            f"source {shown(text)} does not lie in the artifacts of the run_id or model_id that was given with it"
        )
    return Origin(text, f"{ARTIFACTS}{path}", run_id, model_id, prefix=path)


def store_path(uri: str) -> str | None:
    """The path in our own artifact store that `mlflow-artifacts:/path` names."""
    if not uri.startswith(ARTIFACTS) or uri.startswith(f"{ARTIFACTS}/"):
        return None
    return uri[len(ARTIFACTS) :].rstrip("/")


def _lies_below(location: str, place: str) -> bool:
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


def _check_equal(what: str, given: str | None, found: str | None, source: str) -> None:
    if given and given != found:
        raise InvalidParameter(
            f"{what} {shown(given)} differs from {shown(found)}, which {shown(source)} has: leave it out"
        )
