"""The routes of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.core import ServedRegistry
from registry.server.transport import Fields, Handler
from registry.wire.tracking import encode_experiment

MAX_RESULTS = 1_000


def create(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    experiment_id = registry.tracking.create_experiment(
        fields.text("name"), fields.optional_text("artifact_location"), fields.tags("tags")
    )
    return {"experiment_id": experiment_id}


def get(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    return {"experiment": encode_experiment(registry.tracking.get_experiment(fields.text("experiment_id")))}


def get_by_name(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    return {"experiment": encode_experiment(registry.tracking.get_experiment_by_name(fields.text("experiment_name")))}


def search(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    max_results = fields.integer("max_results", MAX_RESULTS)
    page = registry.tracking.search_experiments(
        fields.optional_text("view_type") or "ACTIVE_ONLY",
        MAX_RESULTS if max_results is None else max_results,
        fields.optional_text("filter"),
        fields.texts("order_by"),
        fields.optional_text("page_token"),
    )
    return page_of("experiments", [encode_experiment(each) for each in page], page.token)


def update(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.rename_experiment(fields.text("experiment_id"), fields.text("new_name"))
    return {}


def delete(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.delete_experiment(fields.text("experiment_id"))
    return {}


def restore(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.restore_experiment(fields.text("experiment_id"))
    return {}


def set_tag(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.set_experiment_tag(
        fields.text("experiment_id"), fields.text("key"), fields.optional_text("value") or ""
    )
    return {}


def delete_tag(registry: ServedRegistry, fields: Fields) -> Mapping[str, Any]:
    registry.tracking.delete_experiment_tag(fields.text("experiment_id"), fields.text("key"))
    return {}


def page_of(name: str, rows: list[Any], token: str | None) -> dict[str, Any]:
    """An answer that is a page of rows; without rows and without a next page it is empty."""
    return {**({name: rows} if rows else {}), **({"next_page_token": token} if token else {})}


ROUTES: Mapping[tuple[str, str], Handler] = {
    ("POST", "experiments/create"): create,
    ("GET", "experiments/get"): get,
    ("GET", "experiments/get-by-name"): get_by_name,
    ("GET", "experiments/search"): search,
    ("POST", "experiments/search"): search,
    ("POST", "experiments/update"): update,
    ("POST", "experiments/delete"): delete,
    ("POST", "experiments/restore"): restore,
    ("POST", "experiments/set-experiment-tag"): set_tag,
    ("POST", "experiments/delete-experiment-tag"): delete_tag,
}
