"""turnout import and turnout export: moving in from an MLflow server, and out to one."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from registry.cli.command import ReportingCommand, ReportingGroup, examples, open_registry, settings, shared_options
from registry.cli.output import print_facts, print_json, printable
from registry.errors import InvalidUri

if TYPE_CHECKING:
    from registry.core import Registry
    from registry.transfer import Summary

LINE_WIDTH = 100


@click.group("import", cls=ReportingGroup)
def import_() -> None:
    """Copy what another registry has into this one."""


@click.group("export", cls=ReportingGroup)
def export() -> None:
    """Copy what this registry has into another one."""


@import_.command(
    "mlflow",
    cls=ReportingCommand,
    epilog=examples("turnout import mlflow http://mlflow:5000 --registry-uri sqlite:///turnout.db"),
)
@click.argument("uri")
@click.option("--artifacts-destination", metavar="DIRECTORY", help="Where this registry keeps files; recorded in it.")
@shared_options
def import_mlflow(uri: str, artifacts_destination: str | None) -> None:
    """Copy experiments, runs, models, versions, aliases, tags and files from the MLflow server at URI.

    Version numbers, ids and times are kept. It can be stopped and repeated: files that are there are not copied
    again, and what changed since is brought up to date. The registry must be a database, not a server.
    """
    from registry.connection import origin_of
    from registry.sql.registry import SqlRegistry
    from registry.transfer import MlflowImport

    with _other(uri) as source, open_registry(create=True, artifacts_destination=artifacts_destination) as target:
        if not isinstance(target, SqlRegistry):
            named = f"{target.uri}{origin_of(settings().registry_uri)}"
            raise InvalidUri(f"{named} is a server: import into its database, with --registry-uri sqlite:///…")
        _tell(MlflowImport(source, target, _progress).run())


@export.command(
    "mlflow",
    cls=ReportingCommand,
    epilog=examples("turnout export mlflow http://mlflow:5000 --registry-uri sqlite:///turnout.db"),
)
@click.argument("uri")
@shared_options
def export_mlflow(uri: str) -> None:
    """Copy registered models, their versions, aliases, tags, runs and files to the MLflow server at URI.

    An MLflow server numbers versions itself, so they are copied in order, and the tag `turnout.version` keeps the
    number that each has here. It can be stopped and repeated: versions that are there are not copied again.
    """
    from registry.transfer import MlflowExport

    with _other(uri) as target, open_registry() as source:
        _tell(MlflowExport(source, target, _progress).run())


def _other(uri: str) -> Registry:
    from registry.connection import connect

    if not uri.startswith(("http://", "https://")):
        raise InvalidUri(f"{uri!r} is no address of an MLflow server: give http://HOST:PORT, and start one if need be")
    return connect(uri)


def _progress(what: str) -> None:
    """One line that is written over on a terminal; a line each in a log."""
    text = printable(what)
    if sys.stderr.isatty():
        click.echo(f"\r{text[:LINE_WIDTH]:<{LINE_WIDTH}}", err=True, nl=False)
    else:
        click.echo(text, err=True)


def _tell(summary: Summary) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{'':<{LINE_WIDTH}}\r", err=True, nl=False)
    if settings().as_json:
        print_json(asdict(summary))
    else:
        print_facts({name: value for name, value in asdict(summary).items() if name != "problems"})
    for problem in summary.problems:
        click.echo(f"Warning: {printable(problem)}", err=True)
    if summary.problems:
        raise click.exceptions.Exit(1)
