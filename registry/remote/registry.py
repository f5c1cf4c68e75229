"""`RemoteRegistry`: the registry behind a server's REST API, Turnout's or MLflow's own."""

from __future__ import annotations

import math
import os
import random
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from urllib.parse import quote

from registry.actor import Actor, as_function
from registry.artifacts import FileDigest, Manifest
from registry.core import AliasChange, ModelVersion, RegisteredModel
from registry.errors import AlreadyExists, InvalidParameter, NotFound, Unavailable
from registry.names import check_model_name, check_version, is_model_id, shown
from registry.page import Page
from registry.remote.address import read_address, warn_of_plain_credentials
from registry.remote.artifacts import ProxiedArtifacts
from registry.remote.client import Json, RestClient, decoding
from registry.remote.fields import (
    alias_route,
    alias_terms,
    model_name,
    model_route,
    optional_text,
    page_limit,
    search_fields,
    tag_pairs,
    tag_value,
    text,
    texts,
    version_place,
)
from registry.remote.tracking import RemoteTracking
from registry.uri import ModelUri
from registry.wire.models import decode_model, decode_version
from registry.wire.moves import decode_move

POLL_INTERVAL_S = 2.0
POLL_JITTER = 0.25
LONGEST_POLL_S = 30.0
# How much later than asked for an answer to a long poll may come.
POLL_GRACE_S = 10.0
TOO_EARLY_PAUSE_S = 0.05
# The server reads every file of a new version once.
CREATION_TIMEOUT_S = 900.0
_MODEL_FOLDER = re.compile(r"^mlflow-artifacts:.*/models/(m-[0-9a-f]{32})(?:/|$)")


class RemoteRegistry:
    """`Registry` over HTTP; safe for use by many threads at once.

    What a stock MLflow server has no notion of (the history of aliases, `expected_version`, reasons, rollback) is
    refused there with `InvalidParameter`. Nobody is asked for anything before the first call.
    """

    def __init__(self, address: str, *, actor: Actor = None, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        where = read_address(address, os.environ)
        warn_of_plain_credentials(where)
        self._rest = RestClient(where, as_function(actor))
        self._tracking = RemoteTracking(self._rest)
        self._artifacts = ProxiedArtifacts(self._rest)
        self._poll_interval_s = poll_interval_s
        self._polls = 0
        self._look_at = monotonic() + poll_interval_s

    @property
    def uri(self) -> str:
        return self._rest.uri

    @property
    def artifacts(self) -> ProxiedArtifacts:
        return self._artifacts

    @property
    def tracking(self) -> RemoteTracking:
        return self._tracking

    def close(self) -> None:
        """Break off what is under way, also a pending `wait`. Safe to call twice."""
        self._rest.outbound.close()

    def __enter__(self) -> RemoteRegistry:
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
        fields = {
            "name": model_name(name),
            "tags": tag_pairs(tags),
            "description": optional_text(description, "description"),
        }
        return self._model(self._rest.call("POST", "registered-models/create", fields))

    def get_registered_model(self, name: str) -> RegisteredModel:
        return self._model(self._rest.call("GET", "registered-models/get", {"name": model_name(name)}))

    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        fields = {"name": model_name(name), "new_name": model_name(new_name)}
        return self._model(self._rest.call("POST", "registered-models/rename", fields))

    def update_registered_model(
        self,
        name: str,
        description: str | None = None,
        deployment_job_id: str | None = None,  # noqa: ARG002  # as above
    ) -> RegisteredModel:
        fields = {"name": model_name(name), "description": optional_text(description, "description")}
        return self._model(self._rest.call("PATCH", "registered-models/update", fields))

    def delete_registered_model(self, name: str) -> None:
        self._rest.call("DELETE", "registered-models/delete", {"name": model_name(name)})

    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int = 100,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[RegisteredModel]:
        fields = search_fields(filter_string, max_results, order_by, page_token)
        found = self._rest.call("GET", "registered-models/search", fields)
        with decoding("registered models"):
            models = [decode_model(each, self.uri) for each in found.get("registered_models", ())]
            return Page(models, found.get("next_page_token") or None)

    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[ModelVersion]:
        fields = {"name": model_name(name), "stages": texts(stages, "stages", "stage")}
        found = self._rest.call("POST", "registered-models/get-latest-versions", fields, is_safe=True)
        with decoding("versions"):
            return [self._as_version(each) for each in found.get("model_versions", ())]

    def set_registered_model_tag(self, name: str, key: str, value: Any) -> None:
        fields = {"name": model_name(name), "key": text(key, "tag key"), "value": tag_value(value)}
        self._rest.call("POST", "registered-models/set-tag", fields)

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        fields = {"name": model_name(name), "key": text(key, "tag key")}
        self._rest.call("DELETE", "registered-models/delete-tag", fields)

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
        fields = {
            "name": model_name(name),
            "source": text(source, "source"),
            "run_id": optional_text(run_id, "run id"),
            "tags": tag_pairs(tags),
            "run_link": optional_text(run_link, "run link"),
            "description": optional_text(description, "description"),
            "model_id": _model_id_of(source) if model_id is None else text(model_id, "model id"),
        }
        return self._version(self._rest.call("POST", "model-versions/create", fields, timeout_s=CREATION_TIMEOUT_S))

    def copy_model_version(self, src_model_uri: str, dst_name: str) -> ModelVersion:
        uri = ModelUri.parse(src_model_uri)
        if uri.name is None:
            raise InvalidParameter(f"{uri} is a logged model, not a version of a registered model; register it instead")
        check_model_name(dst_name)
        source = self.resolve(uri)
        with suppress(AlreadyExists):
            self.create_registered_model(dst_name)
        return self.create_model_version(
            dst_name,
            f"models:/{source.name}/{source.version}",
            source.run_id,
            source.tags,
            source.run_link,
            source.description,
        )

    def get_model_version(self, name: str, version: str | int) -> ModelVersion:
        return self._version(self._rest.call("GET", "model-versions/get", version_place(name, version)))

    def update_model_version(self, name: str, version: str | int, description: str | None = None) -> ModelVersion:
        fields = {**version_place(name, version), "description": optional_text(description, "description")}
        return self._version(self._rest.call("PATCH", "model-versions/update", fields))

    def delete_model_version(self, name: str, version: str | int) -> None:
        self._rest.call("DELETE", "model-versions/delete", version_place(name, version))

    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int = 10_000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> Page[ModelVersion]:
        fields = search_fields(filter_string, max_results, order_by, page_token)
        found = self._rest.call("GET", "model-versions/search", fields)
        with decoding("versions"):
            versions = [self._as_version(each) for each in found.get("model_versions", ())]
            return Page(versions, found.get("next_page_token") or None)

    def get_model_version_download_uri(self, name: str, version: str | int) -> str:
        found = self._rest.call("GET", "model-versions/get-download-uri", version_place(name, version))
        with decoding("a version's files"):
            return str(found["artifact_uri"])

    def get_model_version_manifest(self, name: str, version: str | int) -> Manifest | None:
        """Also None from a stock MLflow server, which records none."""
        place = version_place(name, version)
        if not self._rest.is_ours:
            self.get_model_version(name, version)
            return None
        try:
            found = self._rest.call_ours("GET", f"{model_route(name)}/versions/{place['version']}/manifest")
        except NotFound:
            self.get_model_version(name, version)  # raises when there is no such version, rather than no manifest
            return None
        with decoding("a manifest"):
            return Manifest(tuple(FileDigest(each["path"], each["size"], each["sha256"]) for each in found["files"]))

    def transition_model_version_stage(
        self, name: str, version: str | int, stage: str, archive_existing_versions: bool = False
    ) -> ModelVersion:
        if not isinstance(archive_existing_versions, bool):
            raise InvalidParameter(
                f"archive_existing_versions must be True or False, got {shown(archive_existing_versions)}"
            )
        fields = {
            **version_place(name, version),
            "stage": text(stage, "stage"),
            "archive_existing_versions": archive_existing_versions,
        }
        return self._version(self._rest.call("POST", "model-versions/transition-stage", fields))

    def set_model_version_tag(
        self,
        name: str,
        version: str | int | None = None,
        key: str | None = None,
        value: Any = None,
        stage: str | None = None,
    ) -> None:
        place = self._find_place(name, version, stage)
        fields = {**place, "key": text(key, "tag key"), "value": tag_value(value)}
        self._rest.call("POST", "model-versions/set-tag", fields)

    def delete_model_version_tag(
        self, name: str, version: str | int | None = None, key: str | None = None, stage: str | None = None
    ) -> None:
        fields = {**self._find_place(name, version, stage), "key": text(key, "tag key")}
        self._rest.call("DELETE", "model-versions/delete-tag", fields)

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
        terms = alias_terms(expected_version, reason)
        if terms:
            self._need_ours(", ".join(terms))
            self._rest.call_ours("PUT", alias_route(name, alias), {"version": str(check_version(version)), **terms})
            return
        fields = {**version_place(name, version), "alias": text(alias, "alias")}
        self._rest.call("POST", "registered-models/alias", fields)

    def delete_registered_model_alias(
        self, name: str, alias: str, *, expected_version: str | int | None = None, reason: str | None = None
    ) -> None:
        terms = alias_terms(expected_version, reason)
        if terms:
            self._need_ours(", ".join(terms))
            self._rest.call_ours("DELETE", alias_route(name, alias), terms)
            return
        self._rest.call("DELETE", "registered-models/alias", {"name": model_name(name), "alias": text(alias, "alias")})

    def get_model_version_by_alias(self, name: str, alias: str, *, at: datetime | None = None) -> ModelVersion:
        if at is None:
            fields = {"name": model_name(name), "alias": text(alias, "alias")}
            return self._version(self._rest.call("GET", "registered-models/alias", fields))
        if not isinstance(at, datetime):
            raise InvalidParameter(f"`at` must be a datetime, such as datetime.now(UTC), got {shown(at)}")
        self._need_ours("where an alias pointed at a moment")
        moment = at if at.utcoffset() is not None else at.replace(tzinfo=UTC)
        return self._version(self._rest.call_ours("GET", alias_route(name, alias), {"at": moment.isoformat()}))

    def get_alias_history(
        self, name: str, alias: str, max_results: int = 100, page_token: str | None = None
    ) -> Page[AliasChange]:
        self._need_ours("the history of aliases")
        fields = {"max_results": page_limit(max_results), "page_token": optional_text(page_token, "page token")}
        found = self._rest.call_ours("GET", f"{alias_route(name, alias)}/history", fields)
        with decoding("an alias's history"):
            moves = [decode_move(alias, each) for each in found["moves"]]
            return Page(moves, found.get("next_page_token") or None)

    def rollback_alias(
        self,
        name: str,
        alias: str,
        *,
        expected_version: str | int | None = None,
        reason: str | None = None,
    ) -> AliasChange:
        self._need_ours("rollback")
        terms = alias_terms(expected_version, reason)
        move = self._rest.call_ours("POST", f"{alias_route(name, alias)}/rollback", terms)
        with decoding("a rollback"):
            return decode_move(alias, move)

    # Following

    def report_gateway(self, gateway_id: str, report: Mapping[str, Any]) -> None:
        if not self._rest.is_ours:
            raise NotFound(f"{self.uri} is a stock MLflow server, which keeps no gateways' reports")
        self._rest.call_ours("PUT", f"gateways/{quote(gateway_id, safe='')}", report)

    def resolve(self, uri: ModelUri | str) -> ModelVersion:
        parsed = uri if isinstance(uri, ModelUri) else ModelUri.parse(uri)
        if parsed.name is None:
            raise InvalidParameter(f"{parsed} is a logged model, not a version of a registered model")
        if parsed.version is not None:
            return self.get_model_version(parsed.name, parsed.version)
        if parsed.alias is not None:
            return self.get_model_version_by_alias(parsed.name, parsed.alias)
        versions = self.get_latest_versions(parsed.name)
        if not versions:
            raise NotFound(f"model {shown(parsed.name)} has no versions yet, so there is no latest one")
        return max(versions, key=lambda each: int(each.version))

    def cursor(self) -> str:
        """From a stock MLflow server one that says nothing: `wait` returns another after each poll interval."""
        if self._rest.is_ours:
            return self._ask_for_changes("", 0)
        return f"poll-{self._polls}"

    def wait(self, cursor: str, timeout: float) -> str:
        """Return the current cursor once it differs from *cursor*, or at the timeout in seconds.

        A stock MLflow server tells nobody of changes: there this sleeps for the poll interval and returns a new
        cursor, so that the caller looks.
        """
        if not isinstance(timeout, int | float) or math.isnan(timeout):
            raise InvalidParameter(f"a timeout must be a number of seconds, got {shown(timeout)}")
        if not self._rest.is_ours:
            return self._poll(cursor, timeout)
        return self._follow(cursor, timeout)

    def _follow(self, cursor: str, timeout: float) -> str:
        deadline = monotonic() + timeout
        while True:
            left = max(0.0, deadline - monotonic())
            try:
                found = self._ask_for_changes(cursor, min(left, LONGEST_POLL_S))
            except Unavailable:
                if self._rest.outbound.is_closed:
                    return cursor
                raise
            if found != cursor or monotonic() >= deadline:
                return found
            # A server that is being stopped answers early; it is asked again, and not in a busy loop.
            self._rest.outbound.pause(min(TOO_EARLY_PAUSE_S, left))

    def _poll(self, cursor: str, timeout: float) -> str:
        if cursor == f"poll-{self._polls}":
            self._rest.outbound.pause(max(0.0, min(timeout, self._look_at - monotonic())))
            if monotonic() >= self._look_at:
                self._polls += 1
                interval = self._poll_interval_s * random.uniform(1 - POLL_JITTER, 1 + POLL_JITTER)
                self._look_at = monotonic() + interval
        return f"poll-{self._polls}"

    def _ask_for_changes(self, cursor: str, timeout_s: float) -> str:
        fields = {"cursor": cursor or None, "timeout": timeout_s}
        found = self._rest.call_ours("GET", "changes", fields, timeout_s=timeout_s + POLL_GRACE_S, is_safe=False)
        with decoding("changes"):
            return text(found["cursor"], "cursor")

    # Shared

    def _need_ours(self, what: str) -> None:
        if not self._rest.is_ours:
            raise InvalidParameter(
                f"{self.uri} is a stock MLflow server, which does not know {what}: leave that out, "
                "or use a Turnout server"
            )

    def _find_place(self, name: str, version: object, stage: object) -> Json:
        if (version is None) == (stage is None):
            raise InvalidParameter("name the version by its number or by its stage, one of the two")
        if version is not None:
            return version_place(name, version)
        found = self.get_latest_versions(name, [text(stage, "stage")])
        if not found:
            raise NotFound(f"model {shown(name)} has no version in stage {shown(stage)}")
        return version_place(name, found[0].version)

    def _model(self, found: Json) -> RegisteredModel:
        with decoding("a registered model"):
            return decode_model(found["registered_model"], self.uri)

    def _version(self, found: Json) -> ModelVersion:
        with decoding("a version"):
            return self._as_version(found["model_version"])

    def _as_version(self, found: Json) -> ModelVersion:
        """MLflow does not tell a version's `model_id`; its source does."""
        version = decode_version(found, self.uri)
        return replace(version, model_id=version.model_id or _model_id_in(version.source or ""))


def _model_id_of(source: str) -> str | None:
    """The logged model that a source names: MLflow wants to be told twice."""
    named = source.removeprefix("models:/")
    return named if named != source and is_model_id(named) else None


def _model_id_in(source: str) -> str | None:
    """The logged model that a source names, or whose folder it is."""
    folder = _MODEL_FOLDER.search(source)
    return _model_id_of(source) if folder is None else folder[1]
