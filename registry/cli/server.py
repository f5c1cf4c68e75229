"""`turnout server`: a registry behind HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import click

from registry.cli.command import ReportingCommand, debug_option, examples, registry_option, settings
from registry.core import ServedRegistry


@click.command(
    cls=ReportingCommand,
    epilog=examples(
        "turnout server",
        "turnout server --registry-uri postgresql://turnout@db/registry --artifacts-destination s3://models",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option(
    "--artifacts-destination",
    metavar="URI",
    help="Where models' files are kept; recorded in the database.  [default: artifacts/ beside the SQLite file]",
)
@click.option(
    "--allow-source",
    "allowed_sources",
    multiple=True,
    metavar="PREFIX",
    help="Where a version's files may lie beside the server's own artifacts, such as s3://bucket/models. Repeat it "
    "for more.",
)
@click.option("--static-prefix", default="", metavar="PATH", help="Serve everything below this path, such as /mlflow.")
@click.option(
    "--allowed-hosts",
    default="",
    metavar="NAMES",
    help="Names it may be asked under, separated by commas; *.example.org for all below one, * for any.",
)
@click.option(
    "--allow-unauthenticated",
    is_flag=True,
    help="Listen where others can reach it, though everybody who can may change everything.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes that share the port; they pay on PostgreSQL.",
)
@click.option("-m", "--model", "models", multiple=True, hidden=True, help="An option of `turnout serve`, not of this.")
@registry_option
@debug_option
def server(
    models: tuple[str, ...],
    allowed_hosts: str,
    allowed_sources: tuple[str, ...],
    artifacts_destination: str | None,
    **options: Any,
) -> NoReturn:
    """Serve the registry over HTTP: MLflow's REST API, and Turnout's own."""
    if models:
        raise click.UsageError("`turnout server` serves the registry; did you mean `turnout serve -m …`?")
    from registry.server.process import Options, run

    names = tuple(each for each in allowed_hosts.split(",") if each.strip())
    opening = partial(_open, settings().registry_uri, artifacts_destination, allowed_sources)
    raise SystemExit(run(opening, Options(allowed_hosts=names, **options)))


@contextmanager
def _open(
    registry_uri: str | None, artifacts_destination: str | None, allowed_sources: tuple[str, ...]
) -> Iterator[ServedRegistry]:
    """The registry's database; whoever makes a request changes it under the name that it gives."""
    from registry.connection import connect, origin_of
    from registry.server.transport import acting
    from registry.sql.registry import SqlRegistry
    from registry.webhooks import Deliverer

    registry = connect(
        registry_uri, artifacts_destination=artifacts_destination, actor=acting.get, allowed_sources=allowed_sources
    )
    try:
        if not isinstance(registry, SqlRegistry):
            named = f"{registry.uri}{origin_of(registry_uri)}"
            raise click.UsageError(f"{named} is a server itself; give --registry-uri sqlite:///path or postgresql://…")
        with Deliverer(registry.webhooks):
            yield registry
    finally:
        registry.close()
