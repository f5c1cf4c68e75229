"""Turnout's own routes about aliases and files: compare-and-set, history, rollback, manifests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version as installed_version
from typing import Any

from registry.core import ServedRegistry
from registry.errors import InvalidParameter, NotFound
from registry.names import check_version, shown
from registry.server.transport import Fields, Handler
from registry.wire.models import encode_version

ALIAS = "registered-models/{name}/aliases/{alias}"


def describe_api(_registry: ServedRegistry, _fields: Fields) -> Mapping[str, Any]:
    """Tells a client that this is a server of ours."""
    return {"name": "turnout", "version": installed_version("turnout")}


def set_alias(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    name, alias = _place(fields)
    if not fields.has("version"):
        raise InvalidParameter(f'name the version that {shown(alias)} shall point at, such as {{"version": 4}}')
    number = check_version(fields.raw("version"))
    registry.set_registered_model_alias(name, alias, number, **_terms(fields))
    return {"name": name, "alias": alias, "version": str(number)}


def delete_alias(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.delete_registered_model_alias(*_place(fields), **_terms(fields))
    return {}


def get_alias(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    """The version that the alias names, or named at a moment."""
    name, alias = _place(fields)
    found = registry.get_model_version_by_alias(name, alias, at=_moment(fields.optional_text("at")))
    return {"name": name, "alias": alias, "version": found.version, "model_version": encode_version(found)}


def get_history(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    name, alias = _place(fields)
    limit = fields.integer("max_results", 100)
    page = registry.get_alias_history(name, alias, 100 if limit is None else limit, fields.optional_text("page_token"))
    answer = {"alias": alias, "moves": [move.as_json() for move in page]}
    return answer | ({"next_page_token": page.token} if page.token else {})


def roll_back_alias(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    return registry.rollback_alias(*_place(fields), **_terms(fields)).as_json()


def get_manifest(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    """Every file of a version with its digest."""
    name, version = fields.text("name"), fields.text("version")
    manifest = registry.get_model_version_manifest(name, version)
    if manifest is None:
        raise NotFound(
            f"nobody recorded the files of version {version} of model {shown(name)}, so there is no manifest"
        )
    files = [{"path": each.path, "size": each.size, "sha256": each.sha256} for each in manifest.files]
    return {"digest": manifest.digest, "files": files}


ROUTES: Mapping[tuple[str, str], Handler] = {
    ("GET", ""): describe_api,
    ("PUT", ALIAS): set_alias,
    ("DELETE", ALIAS): delete_alias,
    ("GET", ALIAS): get_alias,
    ("GET", f"{ALIAS}/history"): get_history,
    ("POST", f"{ALIAS}/rollback"): roll_back_alias,
    ("GET", "registered-models/{name}/versions/{version}/manifest"): get_manifest,
}


def _place(fields: Fields) -> tuple[str, str]:
    return fields.text("name"), fields.text("alias")


def _terms(fields: Fields) -> dict[str, Any]:
    return {"expected_version": fields.raw("expected_version"), "reason": fields.optional_text("reason")}


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidParameter(f"`at` must be a time such as 2026-11-23T18:00:00Z, got {shown(text)}") from None
