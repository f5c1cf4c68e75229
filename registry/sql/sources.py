"""Where a version's files may come from, and where they lie: checked when the version is made.

A source is decoded until nothing changes, checked, and never decoded again. A place that is not ours is
refused unless an operator allowed it: a reader of artifacts would fetch it for whoever asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import unquote

from sqlalchemy import Connection, bindparam, select

from registry.artifacts import ArtifactStore, Manifest, check_path
from registry.errors import InvalidParameter, NotFound
from registry.names import MAX_SOURCE_CHARS, check_model_id, check_text, shown
from registry.sql.aliases import read_latest_version, read_version_by_alias
from registry.sql.locations import ARTIFACTS, check_location, lies_below, store_path
from registry.sql.logged_models import READY, read_logged_model, read_ready_models_of_run
from registry.sql.manifests import read_manifest
from registry.sql.runs import Place, find_run
from registry.sql.schema import models, versions
from registry.uri import ModelUri

PROMPT_SOURCE = "dummy-source"

_ORIGIN_OF_VERSION = (
    select(versions.c.location, versions.c.run_id, versions.c.logged_model_id, versions.c.digest)
    .join_from(versions, models)
    .where(models.c.name == bindparam("name"), versions.c.number == bindparam("number"))
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a version is made from. Files below *prefix* of our store still have to be digested.

    *instead* is tried in turn where there are no files at *prefix*.
    """

    source: str
    location: str
    run_id: str | None = None
    model_id: str | None = None
    manifest: Manifest | None = None
    prefix: str | None = None
    instead: tuple[Origin, ...] = ()


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
        return _from_run(connection, text, decoded, run_id, model_id)
    if scheme == "mlflow-artifacts":
        return _from_artifacts(connection, text, decoded, run_id, model_id)
    if not any(lies_below(decoded, unquote(each)) for each in allowed):
        raise InvalidParameter(
            f"source {shown(text)} lies outside of this registry's artifacts and of the places that its operator "
            "allowed: register the files with `turnout register PATH --name NAME`"
        )
    return Origin(text, text, run_id, model_id)


def with_manifest(origin: Origin, store: ArtifactStore) -> Origin:
    """The origin with the digests of its files in *store*. Raises `InvalidParameter` when there are none."""
    for each in (origin, *origin.instead):
        assert each.prefix is not None
        try:
            return replace(each, manifest=store.manifest(each.prefix), instead=())
        except NotFound:
            continue
    raise InvalidParameter(
        f"source {shown(origin.source)} has no files in this registry: upload them before registering"
    )


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


def _from_run(connection: Connection, text: str, decoded: str, run_id: str | None, model_id: str | None) -> Origin:
    """The run's own artifacts at that path, or else what the run logged as a model of that name."""
    named, _, path = decoded.removeprefix("runs:/").partition("/")
    if not named or not path:
        raise InvalidParameter(
            f"source {shown(text)} does not name a run and a path in it: write runs:/<run_id>/<path>"
        )
    _check_equal("run_id", run_id, named, text)
    run = _find_run(connection, named, text)
    logged = [
        Origin(text, each.artifact_uri, named, each.model_id, prefix=store_path(each.artifact_uri))
        for each in read_ready_models_of_run(connection, named, path)
        if model_id is None or each.model_id == model_id
    ]
    if model_id is not None:
        if not logged:
            raise InvalidParameter(f"source {shown(text)} is not logged model {model_id}: leave model_id out")
        return logged[0]
    place = store_path(run.artifact_uri)
    prefix = check_path(f"{place}/{check_path(path.rstrip('/'))}")
    return Origin(text, f"{ARTIFACTS}{prefix}", named, prefix=prefix, instead=tuple(logged))


def _from_artifacts(
    connection: Connection, text: str, decoded: str, run_id: str | None, model_id: str | None
) -> Origin:
    path = store_path(decoded)
    if path is None:
        raise InvalidParameter(f"source {shown(text)} names another server: its files must lie in this registry")
    check_path(path)
    if model_id is not None:
        logged = read_logged_model(connection, model_id)
        owner = logged.artifact_uri
        if logged.source_run_id is not None:
            _check_equal("run_id", run_id, logged.source_run_id, text)
        run_id = run_id or logged.source_run_id
    else:
        owner = _find_run(connection, run_id, text).artifact_uri if run_id else ""
    if not owner or not lies_below(decoded, owner):
        raise InvalidParameter(
            f"source {shown(text)} does not lie in the artifacts of the run_id or model_id that was given with it"
        )
    return Origin(text, f"{ARTIFACTS}{path}", run_id, model_id, prefix=path)


def _find_run(connection: Connection, run_id: str, text: str) -> Place:
    try:
        return find_run(connection, run_id)
    except NotFound:
        raise InvalidParameter(
            f"source {shown(text)} belongs to run {shown(run_id)}, which this registry does not have"
        ) from None


def _check_equal(what: str, given: str | None, found: str | None, source: str) -> None:
    if given and given != found:
        raise InvalidParameter(
            f"{what} {shown(given)} differs from {shown(found)}, which {shown(source)} has: leave it out"
        )
