"""`SqlRegistry`: checks what it is given, then runs one function in one transaction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from registry.actor import Actor, as_function
from registry.artifacts import Manifest, ServedArtifacts
from registry.changes import Changes
from registry.core import AliasChange, ModelVersion, RegisteredModel
from registry.errors import InvalidParameter
from registry.names import (
    MAX_DESCRIPTION_CHARS,
    MAX_REASON_CHARS,
    MAX_RUN_ID_CHARS,
    MAX_RUN_LINK_CHARS,
    MAX_VERSION,
    check_alias,
    check_model_name,
    check_new_alias,
    check_optional_text,
    check_own_tag_key,
    check_tag_value,
    check_tags,
    check_text,
    check_version,
    shown,
)
from registry.page import Page
from registry.sql import aliases, models, search, versions
from registry.sql.changes import read_changes
from registry.sql.database import Backend, Database
from registry.sql.files import find_destination, record_destination
from registry.sql.imports import SqlImports
from registry.sql.keyring import Keyring
from registry.sql.paging import check_max_results
from registry.sql.protection import find_versions_at, is_protected
from registry.sql.rows import (
    MODEL_BY_NAME,
    VERSION_BY_NUMBER,
    as_full_version,
    as_models,
    read_model,
    read_version,
)
from registry.sql.sources import PROMPT_SOURCE, resolve_source, with_manifest
from registry.sql.tracking import SqlTracking
from registry.sql.webhooks import SqlWebhooks, inside_hosts
from registry.stores import open_store
from registry.uri import ModelUri

MAX_HISTORY_PAGE = 1_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SqlRegistry:
    """`Registry` in a SQLite file or a PostgreSQL database; safe for use by many threads at once.

    *beside* is the folder of a SQLite file. *actor* is a name, or a function that tells who acts at this moment.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        beside: Path | None = None,
        artifacts_destination: str | None = None,
        actor: Actor = None,
        allowed_sources: Sequence[str] = (),
    ) -> None:
        self._database = Database(backend, as_function(actor))
        self._beside = beside
        self._allowed_sources = tuple(allowed_sources)
        self._tracking = SqlTracking(self._database)
        self._store_at = cache(open_store)
        if artifacts_destination is not None:
            record_destination(self._database, artifacts_destination, beside)

    @property
    def uri(self) -> str:
        return self._database.uri

    @property
    def artifacts(self) -> ServedArtifacts:
        return self._store_at(find_destination(self._database, self._beside))

    @property
    def tracking(self) -> SqlTracking:
        return self._tracking

    @property
    def webhooks(self) -> SqlWebhooks:
        return SqlWebhooks(self._database, Keyring(self._beside), inside_hosts())

    @property
    def imports(self) -> SqlImports:
        """For `turnout import`: things keep their ids, numbers and times."""
        return SqlImports(self._database)

    def close(self) -> None:
        """Close every connection and end a pending `wait` soon. Safe to call twice."""
        self._database.close()

    def __enter__(self) -> SqlRegistry:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Registered models

    def create_registered_model(
        self,
        name: str,
        tags: Mapping[str, Any] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,  # noqa: ARG002  # MLflow's: a job of Databricks, of which there is none
    ) -> RegisteredModel:
        checked = check_model_name(name), check_tags(tags), _check_description(description)
        return self._database.change(models.create_model, *checked)

    def get_registered_model(self, name: str) -> RegisteredModel:
        found = as_models(self._database.rows(MODEL_BY_NAME, name=check_model_name(name)))
        return found[0] if found else self._database.read(read_model, name)

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        return self._database.change(models.rename_model, check_model_name(name), check_model_name(new_name))

    def update_registered_model(
        self,
        name: str,
        description: str | None = None,
        deployment_job_id: str | None = None,  # noqa: ARG002  # as above
    ) -> RegisteredModel:
        checked = check_model_name(name), _check_description(description)
        return self._database.change(models.describe_model, *checked)

    def delete_registered_model(self, name: str) -> None:
        self._database.change(models.delete_model, check_model_name(name))

    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int = 100,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[RegisteredModel]:
        query = search.model_query(filter_string, max_results, order_by, page_token)
        return search.find_models(self._database, query)

    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[ModelVersion]:
        checked = check_model_name(name), versions.check_stages(stages)
        return self._database.snapshot(versions.read_newest_of_stages, *checked)

    def set_registered_model_tag(self, name: str, key: str, value: Any) -> None:
        checked = check_model_name(name), check_own_tag_key(key), check_tag_value(value)
        self._database.change(models.set_model_tag, *checked)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self._database.change(models.delete_model_tag, check_model_name(name), check_own_tag_key(key))

    # Model versions

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Mapping[str, Any] | None = None,
        run_link: str | None = None,
        description: str | None = None,
        await_creation_for: int | None = 300,  # noqa: ARG002  # MLflow's; here a version is ready at once
        model_id: str | None = None,
    ) -> ModelVersion:
        check_model_name(name)
        kept = check_tags(tags)
        link = check_optional_text(run_link, "run link", MAX_RUN_LINK_CHARS)
        text = _check_description(description)
        run = check_optional_text(run_id, "run id", MAX_RUN_ID_CHARS)
        origin = self._database.snapshot(resolve_source, source, run, model_id, self._allowed_sources)
        if origin.source == PROMPT_SOURCE:
            self._database.read(versions.check_is_prompt, name)
        if origin.prefix is not None:
            origin = with_manifest(origin, self.artifacts)
        return self._database.change(versions.add_version, name, origin, kept, link, text)

    def copy_model_version(self, src_model_uri: str, dst_name: str) -> ModelVersion:
        uri = ModelUri.parse(src_model_uri)
        return self._database.change(versions.copy_version, uri, check_model_name(dst_name))

    def get_model_version(self, name: str, version: str | int) -> ModelVersion:
        return self._version(check_model_name(name), check_version(version))

    def update_model_version(self, name: str, version: str | int, description: str | None = None) -> ModelVersion:
        checked = check_model_name(name), check_version(version), _check_description(description)
        return self._database.change(versions.describe_version, *checked)

    def delete_model_version(self, name: str, version: str | int) -> None:
        self._database.change(versions.delete_version, check_model_name(name), check_version(version))

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = 10_000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[ModelVersion]:
        query = search.version_query(filter_string, max_results, order_by, page_token)
        return search.find_versions(self._database, query)

    def get_model_version_download_uri(self, name: str, version: str | int) -> str:
        checked = check_model_name(name), check_version(version)
        found = self._database.rows(versions.PLACE, name=name, number=checked[1])
        return found[0][0] if found else self._database.read(versions.read_location, *checked)

    def get_model_version_manifest(self, name: str, version: str | int) -> Manifest | None:
        checked = check_model_name(name), check_version(version)
        return self._database.snapshot(versions.read_version_manifest, *checked)

    def transition_model_version_stage(
        self, name: str, version: str | int, stage: str, archive_existing_versions: bool = False
    ) -> ModelVersion:
        checked = check_model_name(name), check_version(version), versions.check_stage(stage)
        if not isinstance(archive_existing_versions, bool):
            raise InvalidParameter(
                f"archive_existing_versions must be True or False, got {shown(archive_existing_versions)}"
            )
        if archive_existing_versions and checked[2] in {"None", "Archived"}:
            raise InvalidParameter(f"archive_existing_versions works for Staging and Production, not for {checked[2]}")
        return self._database.change(versions.move_to_stage, *checked, archive_existing_versions)

    def set_model_version_tag(
        self,
        name: str,
        version: str | int | None = None,
        key: str | None = None,
        value: Any = None,
        stage: str | None = None,
    ) -> None:
        checked = check_model_name(name), _check_place(version, stage), check_own_tag_key(key)
        self._database.change(versions.set_version_tag, *checked, check_tag_value(value))

    def delete_model_version_tag(
        self, name: str, version: str | int | None = None, key: str | None = None, stage: str | None = None
    ) -> None:
        checked = check_model_name(name), _check_place(version, stage), check_own_tag_key(key)
        self._database.change(versions.delete_version_tag, *checked)

    # Aliases

    def set_registered_model_alias(
        self,
        name: str,
        alias: str,
        version: str | int,
        *,
        expected_version: str | int | None = None,
        reason: str | None = None,
    ) -> None:
        checked = check_model_name(name), check_new_alias(alias), check_version(version)
        terms = _check_expected(expected_version), _check_reason(reason)
        aliases.warn_of(self._database.change(aliases.set_alias, *checked, *terms))

    def delete_registered_model_alias(
        self, name: str, alias: str, *, expected_version: str | int | None = None, reason: str | None = None
    ) -> None:
        terms = _check_expected(expected_version), _check_reason(reason)
        self._database.change(aliases.delete_alias, check_model_name(name), check_alias(alias), *terms)

    def get_model_version_by_alias(self, name: str, alias: str, *, at: datetime | None = None) -> ModelVersion:
        checked = check_model_name(name), check_alias(alias)
        if at is None:
            return self._version_by_alias(*checked)
        return self._database.snapshot(aliases.read_version_by_alias_at, *checked, _check_moment(at))

    def get_alias_history(
        self, name: str, alias: str, max_results: int = 100, page_token: str | None = None
    ) -> Page[AliasChange]:
        limit = check_max_results(max_results, MAX_HISTORY_PAGE)
        checked = check_model_name(name), check_alias(alias)
        return self._database.snapshot(aliases.read_history, *checked, limit, page_token)

    def rollback_alias(
        self,
        name: str,
        alias: str,
        *,
        expected_version: str | int | None = None,
        reason: str | None = None,
    ) -> AliasChange:
        terms = _check_expected(expected_version), _check_reason(reason)
        return self._database.change(aliases.roll_back_alias, check_model_name(name), check_new_alias(alias), *terms)

    # Following

    def resolve(self, uri: ModelUri | str) -> ModelVersion:
        parsed = uri if isinstance(uri, ModelUri) else ModelUri.parse(uri)
        if parsed.name is None:
            raise InvalidParameter(f"{parsed} is a logged model, not a version of a registered model")
        if parsed.version is not None:
            return self._version(parsed.name, parsed.version)
        if parsed.alias is not None:
            return self._version_by_alias(parsed.name, parsed.alias)
        return self._database.snapshot(aliases.read_latest_version, parsed.name)

    def cursor(self) -> str:
        return self._database.cursor()

    def wait(self, cursor: str, timeout: float) -> str:
        if not isinstance(timeout, int | float) or math.isnan(timeout):
            raise InvalidParameter(f"a timeout must be a number of seconds, got {shown(timeout)}")
        return self._database.wait(cursor, timeout)

    def changes_since(self, cursor: str) -> Changes:
        return self._database.snapshot(read_changes, cursor)

    def rollback_target(self, name: str, alias: str) -> str | None:
        found = self._database.snapshot(aliases.read_rollback_target, check_model_name(name), check_alias(alias))
        return None if found is None else str(found)

    def protects(self, path: str) -> bool:
        return self._database.read(is_protected, path)

    def versions_at(self, path: str, max_results: int = 50) -> list[ModelVersion]:
        return find_versions_at(self._database, path, max_results)

    # What is there is found by the shortest way, and what is not there is explained by the long one

    def _version(self, name: str, number: int) -> ModelVersion:
        found = self._database.rows(VERSION_BY_NUMBER, name=name, number=number)
        return as_full_version(found[0]) if found else self._database.read(read_version, name, number)

    def _version_by_alias(self, name: str, alias: str) -> ModelVersion:
        found = self._database.rows(aliases.VERSION_BY_ALIAS, name=name, alias=alias)
        if found:
            return as_full_version(found[0])
        return self._database.snapshot(aliases.read_version_by_alias, name, alias)


def _check_description(description: object) -> str | None:
    return check_optional_text(description, "description", MAX_DESCRIPTION_CHARS)


def _check_reason(reason: object) -> str | None:
    return check_optional_text(reason, "reason", MAX_REASON_CHARS)


def _check_expected(version: object) -> int | None:
    try:
        return None if version is None else check_version(version)
    except InvalidParameter:
        raise InvalidParameter(
            f"expected_version must be a whole number between 1 and {MAX_VERSION}, or 0 for an alias that must not be "
            f"set yet, got {shown(version)}"
        ) from None


def _check_moment(at: object) -> int:
    """Milliseconds since the epoch; a time without a zone is taken as UTC."""
    if not isinstance(at, datetime):
        raise InvalidParameter(f"`at` must be a datetime, such as datetime.now(UTC), got {shown(at)}")
    moment = at if at.utcoffset() is not None else at.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _check_place(version: object, stage: object) -> int | str:
    if (version is None) == (stage is None):
        raise InvalidParameter("name the version by its number or by its stage, one of the two")
    return check_version(version) if stage is None else versions.check_stage(check_text(stage, "stage", 20))
