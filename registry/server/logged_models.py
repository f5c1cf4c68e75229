"""The routes of logged models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.core import ServedRegistry
from registry.server.experiments import page_of
from registry.server.listing import list_artifacts
from registry.server.transport import Fields, Handler
from registry.wire.tracking import encode_logged_model

MAX_RESULTS = 50


def create(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    model = registry.tracking.create_logged_model(
        fields.optional_text("name") or None,
        fields.optional_text("source_run_id") or None,
        fields.tags("tags"),
        experiment_id=fields.text("experiment_id"),
        params=fields.tags("params"),
        model_type=fields.optional_text("model_type") or None,
    )
    return {"model": encode_logged_model(model)}


def get(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    return {"model": encode_logged_model(registry.tracking.get_logged_model(fields.text("model_id")))}


def finalize(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    model = registry.tracking.finalize_logged_model(fields.text("model_id"), fields.text("status"))
    return {"model": encode_logged_model(model)}


def set_tags(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.set_logged_model_tags(fields.text("model_id"), fields.tags("tags"))
    return {}


def delete_tag(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.delete_logged_model_tag(fields.text("model_id"), fields.text("tag_key"))
    return {}


def log_params(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.log_logged_model_params(fields.text("model_id"), fields.tags("params"))
    return {}


def search(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    max_results = fields.integer("max_results", MAX_RESULTS)
    page = registry.tracking.search_logged_models(
        fields.texts("experiment_ids"),
        fields.optional_text("filter"),
        MAX_RESULTS if max_results is None else max_results,
        [_ordering(each) for each in fields.objects("order_by")],
        fields.optional_text("page_token"),
        [_dataset(each) for each in fields.objects("datasets")],
    )
    return page_of("models", [encode_logged_model(each) for each in page], page.token)


def _dataset(fields: Fields) -> dict[str, object]:
    return {"dataset_name": fields.text("dataset_name"), "dataset_digest": fields.optional_text("dataset_digest")}


def _ordering(fields: Fields) -> dict[str, object]:
    return {
        "field_name": fields.text("field_name"),
        "ascending": fields.boolean("ascending", True),
        "dataset_name": fields.optional_text("dataset_name"),
        "dataset_digest": fields.optional_text("dataset_digest"),
    }


def delete(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.delete_logged_model(fields.text("model_id"))
    return {}


def list_files(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    model = registry.tracking.get_logged_model(fields.text("model_id"))
    return list_artifacts(registry.artifacts, model.artifact_uri, fields.optional_text("artifact_directory_path"))


ROUTES: Mapping[tuple[str, str], Handler] = {
    ("POST", "logged-models"): create,
    ("POST", "logged-models/search"): search,
    ("GET", "logged-models/{model_id}"): get,
    ("PATCH", "logged-models/{model_id}"): finalize,
    ("DELETE", "logged-models/{model_id}"): delete,
    ("PATCH", "logged-models/{model_id}/tags"): set_tags,
    ("DELETE", "logged-models/{model_id}/tags/{tag_key}"): delete_tag,
    ("POST", "logged-models/{model_id}/params"): log_params,
    ("GET", "logged-models/{model_id}/artifacts/directories"): list_files,
}
