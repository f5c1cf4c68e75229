"""`connect`: the one door to a registry. Imports only the kind that the address names."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from registry.errors import InvalidUri

if TYPE_CHECKING:
    from registry.core import Registry
    from registry.sql.database import Backend

DEFAULT_URI = "sqlite:///turnout.db"
SERVERS = frozenset({"http", "https"})
VARIABLES = ("TURNOUT_REGISTRY_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")


def connect(
    uri: str | None = None,
    *,
    create: bool = True,
    artifacts_destination: str | None = None,
    actor: str | Callable[[], str | None] | None = None,
    allowed_sources: Sequence[str] = (),
    poll_interval_s: float | None = None,
) -> Registry:
    """Open the registry at *uri*, or where the environment says, else `sqlite:///turnout.db`.

    With *create* false a missing SQLite file is `Unavailable` and no file is made. *actor* is who changes
    things (default: `TURNOUT_ACTOR`, else the login name). *allowed_sources* are address prefixes, such as
    `s3://bucket/models`, that a version's files may lie at beside the registry's own artifact root; a server
    decides on them itself, and on its artifact root. No server is asked for anything before the first call.
    *poll_interval_s* is how often `wait` looks at a server that tells nobody of changes, as a stock MLflow one.

    Raises `InvalidUri` for an address that names no registry, and for a database that is MLflow's.
    """
    address = find_uri(os.environ) if uri is None else uri
    if not isinstance(address, str):
        raise InvalidUri(f"a registry's address must be a string, got {type(address).__name__}")
    scheme = scheme_of(address)
    if scheme in SERVERS:
        if artifacts_destination is not None or allowed_sources:
            raise InvalidUri("a registry server has an artifact root and sources of its own; give them to the server")
        from registry.remote.registry import RemoteRegistry

        interval = {} if poll_interval_s is None else {"poll_interval_s": poll_interval_s}
        return RemoteRegistry(address, actor=actor, **interval)
    backend, beside = _open(address, scheme, create)
    from registry.sql.registry import SqlRegistry

    return SqlRegistry(
        backend,
        beside=beside,
        artifacts_destination=artifacts_destination,
        actor=actor,
        allowed_sources=allowed_sources,
    )


def find_uri(environment: Mapping[str, str]) -> str:
    """The address that the environment names, else the default."""
    variable = _variable(environment)
    return environment[variable] if variable else DEFAULT_URI


def origin_of(uri: str | None) -> str:
    """To be said behind an address: the variable that it comes from when no *uri* was given, else nothing."""
    variable = _variable(os.environ)
    return f" (from {variable})" if uri is None and variable else ""


def _variable(environment: Mapping[str, str]) -> str | None:
    return next((each for each in VARIABLES if environment.get(each)), None)


def public_uri(uri: str | None = None) -> str:
    """The address that `connect` would open, whole and without its password; nothing is opened.

    Raises `InvalidUri` as `connect` does.
    """
    address = find_uri(os.environ) if uri is None else uri
    scheme = scheme_of(address)
    if scheme in SERVERS:
        from registry.remote.address import read_address

        return read_address(address, {}).uri
    if scheme == "sqlite":
        return f"sqlite:///{sqlite_path(address).absolute()}"
    if scheme.startswith("postgres") and "://" in address:
        from registry.sql import postgres

        return postgres.public_uri(address)
    raise _refusal(address, scheme)


def scheme_of(address: str) -> str:
    return address.partition(":")[0].lower()


def _open(address: str, scheme: str, create: bool) -> tuple[Backend, Path | None]:
    """The database at an address, and the folder that a SQLite file lies in."""
    if scheme == "sqlite":
        path = sqlite_path(address)
        from registry.sql.sqlite import SqliteFile

        file = SqliteFile(path, create=create)
        return file, file.path.parent
    if scheme.startswith("postgres") and "://" in address:
        from registry.sql.postgres import PostgresServer

        return PostgresServer(address), None
    raise _refusal(address, scheme)


def sqlite_path(address: str) -> Path:
    """The file that `sqlite:///relative` or `sqlite:////absolute` names."""
    prefix, path = address[: len("sqlite:///")].lower(), address[len("sqlite:///") :]
    if prefix != "sqlite:///" or not path.strip() or path == ":memory:" or "?" in path or "\0" in path:
        raise InvalidUri(
            f"{address!r} names no SQLite file: write sqlite:///turnout.db, or sqlite:////absolute/path.db"
        )
    return Path(path)


def _refusal(address: str, scheme: str) -> InvalidUri:
    accepted = "give sqlite:///path, postgresql://user@host/database or http://host:port"
    if address.startswith("databricks") or scheme in {"uc", "databricks-uc"}:
        return InvalidUri(f"Databricks registries are not supported: {accepted}")
    if scheme == "file" or "://" not in address:
        return InvalidUri(f"{address!r} is a path, and a registry is a database or a server: {accepted}")
    return InvalidUri(f"registries at {scheme}:// addresses are not supported: {accepted}")
