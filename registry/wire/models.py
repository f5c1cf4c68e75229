"""Registered models and model versions as MLflow's JSON, in both directions.

What was never set is left out; a reader takes what is absent as empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from registry.core import ModelVersion, RegisteredModel
from registry.wire.tracking import decode_pairs, encode_pairs

Json = dict[str, Any]


def encode_model(model: RegisteredModel) -> Json:
    encoded: Json = {
        "name": model.name,
        "creation_timestamp": model.creation_timestamp,
        "last_updated_timestamp": model.last_updated_timestamp,
    }
    if model.description:
        encoded["description"] = model.description
    if model.latest_versions:
        encoded["latest_versions"] = [encode_version(each) for each in model.latest_versions]
    if model.tags:
        encoded["tags"] = encode_pairs(model.tags)
    if model.aliases:
        encoded["aliases"] = [{"alias": alias, "version": version} for alias, version in model.aliases.items()]
    return encoded


def decode_model(found: Mapping[str, Any], registry: str = "") -> RegisteredModel:
    """*registry* tells its versions apart from those of another registry."""
    return RegisteredModel(
        name=found["name"],
        creation_timestamp=found.get("creation_timestamp", 0),
        last_updated_timestamp=found.get("last_updated_timestamp", 0),
        description=found.get("description"),
        latest_versions=[decode_version(each, registry) for each in found.get("latest_versions", ())],
        tags=decode_pairs(found.get("tags", ())),
        aliases={each["alias"]: str(each["version"]) for each in found.get("aliases", ())},
    )


def encode_version(version: ModelVersion) -> Json:
    """MLflow writes an empty `run_id` and `run_link` where there is none, and leaves only a null description out."""
    encoded: Json = {
        "name": version.name,
        "version": version.version,
        "creation_timestamp": version.creation_timestamp,
        "last_updated_timestamp": version.last_updated_timestamp,
    }
    if version.user_id is not None:
        encoded["user_id"] = version.user_id
    encoded["current_stage"] = version.current_stage
    if version.description is not None:
        encoded["description"] = version.description
    encoded["source"] = version.source or ""
    encoded["run_id"] = version.run_id or ""
    encoded["status"] = version.status
    if version.status_message:
        encoded["status_message"] = version.status_message
    if version.tags:
        encoded["tags"] = encode_pairs(version.tags)
    encoded["run_link"] = version.run_link or ""
    if version.aliases:
        encoded["aliases"] = list(version.aliases)
    return encoded


def decode_version(found: Mapping[str, Any], registry: str = "") -> ModelVersion:
    """*registry* tells it apart from a version of another registry."""
    return ModelVersion(
        name=found["name"],
        version=str(found["version"]),
        creation_timestamp=found.get("creation_timestamp", 0),
        last_updated_timestamp=found.get("last_updated_timestamp", 0),
        description=found.get("description"),
        user_id=found.get("user_id") or None,
        current_stage=found.get("current_stage", "None"),
        source=found.get("source") or None,
        run_id=found.get("run_id") or None,
        run_link=found.get("run_link") or None,
        status=found.get("status", "READY"),
        status_message=found.get("status_message") or None,
        tags=decode_pairs(found.get("tags", ())),
        aliases=list(found.get("aliases", ())),
        model_id=found.get("model_id") or None,
        registry=registry,
    )
