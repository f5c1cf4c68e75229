"""MLflow's routes of registered models, model versions and aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.core import ServedRegistry
from registry.errors import InvalidParameter
from registry.names import shown
from registry.page import Page
from registry.server.transport import Fields, Handler
from registry.wire.models import encode_model, encode_version

MODELS_PAGE = 100
VERSIONS_PAGE = 200_000

Json = Mapping[str, Any]


def create_model(registry: ServedRegistry, fields: Fields) -> Json:
    model = registry.create_registered_model(
        fields.text("name"), fields.tags("tags"), fields.optional_text("description")
    )
    return {"registered_model": encode_model(model)}


def get_model(registry: ServedRegistry, fields: Fields) -> Json:
    return {"registered_model": encode_model(registry.get_registered_model(fields.text("name")))}


def search_models(registry: ServedRegistry, fields: Fields) -> Json:
    page = registry.search_registered_models(
        fields.optional_text("filter"),
        fields.integer("max_results", MODELS_PAGE) or 0,
        fields.texts("order_by"),
        fields.optional_text("page_token") or None,
    )
    return _page("registered_models", [encode_model(each) for each in page], page)


def rename_model(registry: ServedRegistry, fields: Fields) -> Json:
    model = registry.rename_registered_model(fields.text("name"), fields.text("new_name"))
    return {"registered_model": encode_model(model)}


def update_model(registry: ServedRegistry, fields: Fields) -> Json:
    """Without a description, the old one is taken away."""
    model = registry.update_registered_model(fields.text("name"), fields.optional_text("description"))
    return {"registered_model": encode_model(model)}


def delete_model(registry: ServedRegistry, fields: Fields) -> Json:
    registry.delete_registered_model(fields.text("name"))
    return {}


def get_latest_versions(registry: ServedRegistry, fields: Fields) -> Json:
    found = registry.get_latest_versions(fields.text("name"), fields.texts("stages") or None)
    return {"model_versions": [encode_version(each) for each in found]} if found else {}


def set_model_tag(registry: ServedRegistry, fields: Fields) -> Json:
    registry.set_registered_model_tag(fields.text("name"), fields.text("key"), _value(fields))
    return {}


def delete_model_tag(registry: ServedRegistry, fields: Fields) -> Json:
    registry.delete_registered_model_tag(fields.text("name"), fields.text("key"))
    return {}


def set_alias(registry: ServedRegistry, fields: Fields) -> Json:
    registry.set_registered_model_alias(fields.text("name"), fields.text("alias"), _version(fields))
    return {}


def delete_alias(registry: ServedRegistry, fields: Fields) -> Json:
    registry.delete_registered_model_alias(fields.text("name"), fields.text("alias"))
    return {}


def get_version_by_alias(registry: ServedRegistry, fields: Fields) -> Json:
    found = registry.get_model_version_by_alias(fields.text("name"), fields.text("alias"))
    return {"model_version": encode_version(found)}


def create_version(registry: ServedRegistry, fields: Fields) -> Json:
    version = registry.create_model_version(
        fields.text("name"),
        fields.text("source"),
        fields.optional_text("run_id") or None,
        fields.tags("tags"),
        fields.optional_text("run_link") or None,
        fields.optional_text("description") or "",
        model_id=fields.optional_text("model_id") or None,
    )
    return {"model_version": encode_version(version)}


def get_version(registry: ServedRegistry, fields: Fields) -> Json:
    return {"model_version": encode_version(registry.get_model_version(fields.text("name"), _version(fields)))}


def get_download_uri(registry: ServedRegistry, fields: Fields) -> Json:
    return {"artifact_uri": registry.get_model_version_download_uri(fields.text("name"), _version(fields))}


def search_versions(registry: ServedRegistry, fields: Fields) -> Json:
    page = registry.search_model_versions(
        fields.optional_text("filter"),
        fields.integer("max_results", VERSIONS_PAGE) or 0,
        fields.texts("order_by"),
        fields.optional_text("page_token") or None,
    )
    return _page("model_versions", [encode_version(each) for each in page], page)


def update_version(registry: ServedRegistry, fields: Fields) -> Json:
    """Without a description, the old one is taken away."""
    version = registry.update_model_version(fields.text("name"), _version(fields), fields.optional_text("description"))
    return {"model_version": encode_version(version)}


def move_to_stage(registry: ServedRegistry, fields: Fields) -> Json:
    version = registry.transition_model_version_stage(
        fields.text("name"),
        _version(fields),
        fields.text("stage"),
        fields.boolean("archive_existing_versions"),
    )
    return {"model_version": encode_version(version)}


def delete_version(registry: ServedRegistry, fields: Fields) -> Json:
    registry.delete_model_version(fields.text("name"), _version(fields))
    return {}


def set_version_tag(registry: ServedRegistry, fields: Fields) -> Json:
    registry.set_model_version_tag(fields.text("name"), _version(fields), fields.text("key"), _value(fields))
    return {}


def delete_version_tag(registry: ServedRegistry, fields: Fields) -> Json:
    registry.delete_model_version_tag(fields.text("name"), _version(fields), fields.text("key"))
    return {}


ROUTES: Mapping[tuple[str, str], Handler] = {
    ("POST", "registered-models/create"): create_model,
    ("GET", "registered-models/get"): get_model,
    ("GET", "registered-models/search"): search_models,
    ("POST", "registered-models/rename"): rename_model,
    ("PATCH", "registered-models/update"): update_model,
    ("DELETE", "registered-models/delete"): delete_model,
    ("POST", "registered-models/get-latest-versions"): get_latest_versions,
    ("GET", "registered-models/get-latest-versions"): get_latest_versions,
    ("POST", "registered-models/set-tag"): set_model_tag,
    ("DELETE", "registered-models/delete-tag"): delete_model_tag,
    ("POST", "registered-models/alias"): set_alias,
    ("DELETE", "registered-models/alias"): delete_alias,
    ("GET", "registered-models/alias"): get_version_by_alias,
    ("POST", "model-versions/create"): create_version,
    ("GET", "model-versions/get"): get_version,
    ("GET", "model-versions/get-download-uri"): get_download_uri,
    ("GET", "model-versions/search"): search_versions,
    ("PATCH", "model-versions/update"): update_version,
    ("POST", "model-versions/transition-stage"): move_to_stage,
    ("DELETE", "model-versions/delete"): delete_version,
    ("POST", "model-versions/set-tag"): set_version_tag,
    ("DELETE", "model-versions/delete-tag"): delete_version_tag,
}

# Reads of a row or two.
QUICK = frozenset({get_model, get_version_by_alias, get_version, get_download_uri})
# Reads of many rows, of nothing but what raises the change number.
LISTS = frozenset({search_models, search_versions})


def _version(fields: Fields) -> str:
    version = fields.text("version")
    if not (version.isascii() and version.isdecimal()):
        raise InvalidParameter(f"Parameter 'version' must be an integer, got {shown(version)}.")
    return version


def _value(fields: Fields) -> str:
    """A tag without a value has an empty one."""
    return fields.optional_text("value") or ""


def _page(name: str, rows: list[dict[str, Any]], page: Page[Any]) -> Json:
    """Without rows and without a next page it is empty."""
    answer: dict[str, Any] = {name: rows} if rows else {}
    if page.token:
        answer["next_page_token"] = page.token
    return answer
