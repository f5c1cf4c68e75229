"""What a leader tells its members of, as JSON and back. Both run the same code, so nothing is checked again.

Leader to member:
    table     settings: limits and endpoints that are in force
    route     epoch, endpoint, servable (or null): where the endpoint's requests go from here on
    routed    epoch: those were all the routes that there are at that moment
    lend      servable, replicas, how, trouble: the replicas of a version that are up, and how others ended
    awake     endpoint, why: what came of waking it, null where it serves
    serve     take connections
    answer    id, status, headers; a body: to what was asked
    drain     finish, and end
Member to leader:
    confirmed epoch: it goes by every route up to there
    released  servable: its last request there is over, and it has parted with the replicas
    wake      endpoint: a request waits for it
    awoken    endpoint: none does any more
    used      what was counted since the last time, see `numbers`
    end       servable, replica, why: it does not behave
    ask       id, method, path, query, headers; a body: a request that only the leader can answer
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from gateway.config import EndpointConfig, Settings
from gateway.runtimes.base import Resolved
from gateway.servable import Servable
from registry import ModelUri, ModelVersion

Json = dict[str, Any]


def settings_as_json(settings: Settings) -> Json:
    """All but the registry's address, which may hold a password and is of no use to a member."""
    row = _shallow(settings)
    return {
        **row,
        "registry_uri": None,
        "cache": str(settings.cache),
        "endpoints": [_config_as_json(each) for each in settings.endpoints],
    }


def settings_from(row: Json) -> Settings:
    endpoints = tuple(_config_from(each) for each in row["endpoints"])
    return Settings(**{**row, "endpoints": endpoints, "cache": Path(row["cache"])})


def servable_as_json(identity: int, servable: Servable) -> Json:
    """A version and the replicas that are up, or why none is."""
    resolved = servable.resolved
    return {
        "id": identity,
        "environment": servable.environment,
        "config": _config_as_json(servable.config),
        "resolved": {
            "path": str(resolved.path),
            "digest": resolved.digest,
            "mlmodel": resolved.mlmodel,
            "version": asdict(resolved.version) if resolved.version else None,
            "alias": resolved.alias,
        },
        "replicas": addresses(servable),
        "trouble": servable.trouble,
    }


def addresses(servable: Servable) -> list[str]:
    """Where its replicas are reached."""
    return [each.address for each in servable.replicas_up]


def version_from(row: Json) -> tuple[Resolved, EndpointConfig]:
    """What is served, and how, out of `servable_as_json`."""
    resolved = row["resolved"]
    row_of_it = resolved["version"]
    version = ModelVersion(**{**row_of_it, "aliases": tuple(row_of_it["aliases"])}) if row_of_it else None
    whole = {**resolved, "path": Path(resolved["path"]), "version": version}
    return Resolved(**whole), _config_from(row["config"])


def _config_as_json(config: EndpointConfig) -> Json:
    return {**_shallow(config), "model": str(config.model)}


def _config_from(row: Json) -> EndpointConfig:
    text: str = row["model"]
    return EndpointConfig(**{**row, "model": ModelUri.parse(text) if text.startswith("models:") else Path(text)})


def _shallow(value: Settings | EndpointConfig) -> Json:
    return {each.name: getattr(value, each.name) for each in fields(value)}
