"""The configuration file: TOML into settings, read again whenever it changes.

What the command line says wins over `[registry]`, `[server]` and `[defaults]`; what stands under `[endpoints.NAME]` is
that endpoint's own and wins over both. A file that cannot be read leaves the settings in force as they are.
"""

from __future__ import annotations

import asyncio
import logging
import tomllib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.config import (
    ENDPOINT_NAME,
    EndpointConfig,
    Settings,
    default_memory_limit,
    parse_duration,
    parse_size,
    plan_endpoints,
)
from gateway.errors import InvalidSettings
from gateway.threads import in_thread
from registry import InvalidUri, public_uri

log = logging.getLogger("turnout.config")

LOOK_INTERVAL_S = 1.0
AT_THE_NEXT_START = {name: f"server.{name}" for name in ("host", "port", "http_workers", "cache")}

Table = TypeVar("Table", bound=msgspec.Struct)


class Duration(float):
    """Seconds, written with a unit."""


class Size(int):
    """Bytes, written with a unit."""


class _Registry(msgspec.Struct, forbid_unknown_fields=True, rename={"poll_interval_s": "poll_interval"}):
    uri: str | UnsetType = UNSET
    poll_interval_s: Duration | UnsetType = UNSET


class _Server(
    msgspec.Struct,
    forbid_unknown_fields=True,
    rename={
        "max_body_bytes": "max_body",
        "models_memory_bytes": "models_memory",
        "shutdown_notice_s": "shutdown_notice",
        "shutdown_timeout_s": "shutdown_timeout",
    },
):
    host: str | UnsetType = UNSET
    port: Annotated[int, Meta(ge=0, le=65535)] | UnsetType = UNSET
    http_workers: Annotated[int, Meta(ge=1, le=64)] | UnsetType = UNSET
    cache: str | UnsetType = UNSET
    max_body_bytes: Size | UnsetType = UNSET
    max_concurrency: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    models_memory_bytes: Size | UnsetType = UNSET
    shutdown_notice_s: Duration | UnsetType = UNSET
    shutdown_timeout_s: Duration | UnsetType = UNSET


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    mode: Literal["auto", "on", "off"] | UnsetType = UNSET
    max_rows: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    max_wait: Duration | UnsetType = UNSET


class _Endpoint(
    msgspec.Struct,
    forbid_unknown_fields=True,
    rename={
        "load_timeout_s": "load_timeout",
        "predict_timeout_s": "predict_timeout",
        "memory_limit_bytes": "memory_limit",
        "is_default": "default",
    },
):
    model: str | UnsetType = UNSET
    replicas: Annotated[int, Meta(ge=1, le=256)] | UnsetType = UNSET
    env_manager: Literal["local", "uv"] | UnsetType = UNSET
    load_timeout_s: Duration | UnsetType = UNSET
    predict_timeout_s: Duration | UnsetType = UNSET
    max_queue: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    memory_limit_bytes: Size | UnsetType = UNSET
    batch: _Batch | UnsetType = UNSET
    accelerate: Literal["auto", "off"] | UnsetType = UNSET
    keep_warm: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET


SECTIONS: Mapping[str, type[msgspec.Struct]] = {"registry": _Registry, "server": _Server, "defaults": _Endpoint}


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says, by the names of the fields of `Settings` and `EndpointConfig`."""

    models: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    endpoint: Mapping[str, Any] = field(default_factory=dict)


def settle(given: Given, file: Mapping[str, Any], folder: Path) -> Settings:
    """The settings that a command line and a file's content make; the file's paths are relative to *folder*.

    Raises `InvalidSettings` for whatever is not understood.
    """
    for name in file:
        if name not in (*SECTIONS, "endpoints"):
            raise InvalidSettings(f"there is no section [{name}]{_meant(name, (*SECTIONS, 'endpoints'))}")
    registry, server, defaults = (_fields(name, file.get(name, {}), SECTIONS[name]) for name in SECTIONS)
    if "uri" in registry:
        registry["registry_uri"] = registry.pop("uri")
    if "cache" in server:
        server["cache"] = folder / _expanded(server["cache"])
    whole = {**registry, **server, **given.settings}
    is_scarce = bool(whole.get("models_memory_bytes"))  # then what is not wanted warm is loaded when it is asked for
    usual = {"memory_limit_bytes": default_memory_limit(), "keep_warm": not is_scarce}
    template = EndpointConfig("", Path(), **{**usual, **_config(defaults), **given.endpoint})
    endpoints = plan_endpoints(given.models, template) if given.models else ()
    planned = {each.name: each for each in endpoints}
    for name, table in _table("endpoints", file.get("endpoints", {})).items():
        if name in planned:
            raise InvalidSettings(f"two endpoints would be called {name!r}: one by -m, one by [endpoints.{name}]")
        planned[name] = _endpoint(name, table, template, folder)
    return _checked(Settings(tuple(planned.values()), **whole))


def _endpoint(name: str, table: Any, template: EndpointConfig, folder: Path) -> EndpointConfig:
    if not ENDPOINT_NAME.fullmatch(name):
        raise InvalidSettings(f"{name!r} cannot be an endpoint's name: only letters, digits, '.', '_' and '-' can")
    fields = _fields(f"endpoints.{name}", table, _Endpoint)
    model = fields.pop("model", None)
    if model is None:
        raise InvalidSettings(f'[endpoints.{name}] names no model; add: model = "models:/NAME@ALIAS"')
    try:
        (planned,) = plan_endpoints([f"{name}={_absolute(model, folder)}"], template)
    except InvalidSettings as problem:
        raise InvalidSettings(f"[endpoints.{name}]: {problem}") from None
    return replace(planned, **_config(fields))


def _expanded(cache: str) -> Path:
    try:
        return Path(cache).expanduser()
    except RuntimeError:
        raise InvalidSettings(f"[server] cache = {cache!r}: no such home folder; write its whole path") from None


def _absolute(model: str, folder: Path) -> str:
    return model if model.startswith("models:") else str(folder / model)


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of `EndpointConfig` from those of the file."""
    batch = fields.pop("batch", None)
    if batch is not None:
        named = {"mode": "batch", "max_rows": "batch_max_rows", "max_wait": "batch_max_wait_s"}
        fields |= {named[key]: value for key, value in msgspec.structs.asdict(batch).items() if value is not UNSET}
    if "accelerate" in fields:
        fields["accelerates"] = fields.pop("accelerate") == "auto"
    return fields


def _checked(settings: Settings) -> Settings:
    if not settings.endpoints:
        raise InvalidSettings("nothing to serve: pass -m models:/NAME@ALIAS, or write [endpoints.NAME] into --config")
    marked = [each.name for each in settings.endpoints if each.is_default]
    if len(marked) > 1:
        raise InvalidSettings(f"only one endpoint can be the default, and these are marked so: {', '.join(marked)}")
    return settings


def _fields(label: str, table: Any, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What a section says, with units read; raises `InvalidSettings` that names the section and the key."""
    known = [each.encode_name for each in msgspec.structs.fields(kind)]
    for key in _table(label, table):
        if key not in known:
            raise InvalidSettings(f"[{label}] has no key {key!r}{_meant(key, known)}")
    try:
        found = msgspec.convert(table, kind, dec_hook=_with_unit)
    except msgspec.ValidationError as problem:
        raise InvalidSettings(f"[{label}]: {problem}") from None
    return {name: value for name, value in msgspec.structs.asdict(found).items() if value is not UNSET}


def _table(label: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSettings(f"{label} is a section, [{label}], and no single value")
    return value


def _with_unit(kind: type, value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} has no unit; write it as text, such as {'30s' if kind is Duration else '64MiB'!r}")
    try:
        return Duration(parse_duration(value)) if kind is Duration else Size(parse_size(value))
    except InvalidSettings as problem:
        raise ValueError(str(problem)) from None


def _meant(name: str, known: Any) -> str:
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; it may have: {', '.join(known)}"


class ConfigFile:
    """The file that a gateway is configured by. `read` it at the start, then go through its `changes`."""

    def __init__(self, path: Path, given: Given) -> None:
        self.path = path
        self.problem: str | None = None
        self.loaded_at: datetime | None = None
        self._given = given
        self._content = b""

    def read(self) -> Settings:
        """The settings that it says now; raises `InvalidSettings` naming the file."""
        try:
            self._content = self.path.read_bytes()
            file = tomllib.loads(self._content.decode())
            settings = settle(self._given, file, self.path.absolute().parent)
            public_uri(settings.registry_uri)  # raises what would else come out while it is taken over
        except OSError as problem:
            raise InvalidSettings(f"{self.path} cannot be read: {problem.strerror}") from None
        except (ValueError, RecursionError) as problem:  # no UTF-8, no TOML, or more of it than Python reads
            raise InvalidSettings(f"{self.path} is no TOML: {problem}") from None
        except (InvalidSettings, InvalidUri) as problem:
            raise InvalidSettings(f"{self.path}: {problem}") from None
        self.problem = None
        self.loaded_at = datetime.now(UTC)
        return settings

    async def changes(self, in_force: Settings) -> AsyncIterator[Settings]:
        """Settings that differ from those in force, as the file comes to say them; what it cannot say is logged."""
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            try:
                if not await in_thread(self._has_changed):
                    continue
                found = await in_thread(self.read)
            except InvalidSettings as problem:
                self._complain(f"{problem}; the settings before it stay in force")
                continue
            fixed = {name: getattr(in_force, name) for name in AT_THE_NEXT_START}
            late = [key for name, key in AT_THE_NEXT_START.items() if getattr(found, name) != fixed[name]]
            if late:
                self._complain(f"{self.path}: {', '.join(late)} will change at the next start")
            in_force = replace(found, **fixed)
            log.info("configuration read again from %s", self.path)
            yield in_force

    def as_json(self) -> dict[str, Any]:
        """The `config` entry of `/status`."""
        loaded = self.loaded_at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if self.loaded_at else None
        return {"path": str(self.path), "loaded_at": loaded, "problem": self.problem}

    def _has_changed(self) -> bool:
        try:
            return self.path.read_bytes() != self._content
        except OSError:
            if not self._content:
                return False  # said already
            self._content = b""
            return True

    def _complain(self, problem: str) -> None:
        self.problem = problem
        log.warning("%s", problem)
