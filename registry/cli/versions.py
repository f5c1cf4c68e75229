"""turnout register and turnout versions: model versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import click

from registry.cli.command import (
    ReportingCommand,
    ReportingGroup,
    examples,
    open_registry,
    pair,
    settings,
    shared_options,
)
from registry.cli.output import clock, joined, print_facts, print_json, print_table, short, version_json
from registry.cli.paging import every
from registry.core import ModelVersion, Registry


@click.command(
    cls=ReportingCommand,
    short_help="Register a model directory as the next version.",
    epilog=examples(
        "turnout register ./my-model --name wine --alias champion",
        "turnout register models:/m-0123abcd --name wine --tag trained_on=2026-10",
    ),
)
@click.argument("path_or_uri")
@click.option("--name", required=True, help="The registered model; it is created when it is not there.")
@click.option("--alias", metavar="ALIAS", help="Point this alias at the new version: that deploys it.")
@click.option("--description", metavar="TEXT", help="What is new in this version.")
@click.option("--tag", "tags", type=pair, metavar="KEY=VALUE", multiple=True, help="A tag; repeatable.")
@click.option(
    "--artifacts-destination",
    metavar="DIRECTORY",
    help="Where the registry keeps files; recorded in it.  [default: artifacts/ beside the SQLite file]",
)
@shared_options
def register(
    path_or_uri: str,
    name: str,
    alias: str | None,
    description: str | None,
    tags: Sequence[tuple[str, str]],
    artifacts_destination: str | None,
) -> None:
    """Register a model directory, or a logged model, as the next version of a model.

    The files are copied into the registry's artifact root and fixed by a sha256 digest.
    """
    from registry.api import register_model

    with open_registry(create=True, artifacts_destination=artifacts_destination) as client:
        version = register_model(path_or_uri, name, dict(tags), description, client, alias=alias)
    if settings().as_json:
        print_json(version_json(version))
        return
    click.echo(f"Registered {version.name} version {version.version}")
    print_facts({"digest": version.digest, "alias": alias})


@click.group(cls=ReportingGroup, epilog=examples("turnout versions list wine", "turnout versions show wine 2"))
def versions() -> None:
    """Versions of a model: immutable, numbered from 1."""


@versions.command("list", epilog=examples("turnout versions list wine", "turnout versions list wine --json"))
@click.argument("name")
@shared_options
def list_versions(name: str) -> None:
    """List a model's versions, newest first."""
    with open_registry() as client:
        aliases = client.get_registered_model(name).aliases
        found = [_with_aliases(each, aliases) for each in _versions_of(client, name)]
    if settings().as_json:
        print_json({"model_versions": [version_json(each) for each in found]})
        return
    print_table(
        ("version", "aliases", "status", "created", "by", "digest", "description"),
        (
            (
                each.version,
                ", ".join(each.aliases),
                each.status,
                clock(each.creation_timestamp),
                each.user_id,
                short(each.digest),
                each.description,
            )
            for each in found
        ),
    )


@versions.command("show", epilog=examples("turnout versions show wine 2"))
@click.argument("name")
@click.argument("version")
@shared_options
def show_version(name: str, version: str) -> None:
    """Show one version: where it came from, its digest, tags and aliases."""
    with open_registry() as client:
        found = client.get_model_version(name, version)
    if settings().as_json:
        print_json(version_json(found))
        return
    print_facts(
        {
            "name": found.name,
            "version": found.version,
            "description": found.description,
            "aliases": ", ".join(found.aliases),
            "tags": joined({key: value for key, value in found.tags.items() if value != found.digest}),
            "status": found.status,
            "source": found.source,
            "run": found.run_id,
            "digest": found.digest,
            "created": clock(found.creation_timestamp),
            "by": found.user_id,
        }
    )


@versions.command("delete", epilog=examples("turnout versions delete wine 1"))
@click.argument("name")
@click.argument("version")
@shared_options
def delete_version(name: str, version: str) -> None:
    """Delete one version, and the aliases that point at it."""
    with open_registry() as client:
        client.delete_model_version(name, version)
    if settings().as_json:
        print_json({"name": name, "version": version, "deleted": True})
    else:
        click.echo(f"Deleted {name} version {version}")


@versions.command("copy", epilog=examples("turnout versions copy models:/wine-staging@candidate wine"))
@click.argument("source_uri", metavar="SRC_URI")
@click.argument("name", metavar="DST_NAME")
@shared_options
def copy_version(source_uri: str, name: str) -> None:
    """Copy the version that SRC_URI names to the next version of DST_NAME.

    The files are shared, not copied: promoting between models costs nothing.
    """
    with open_registry() as client:
        copied = client.copy_model_version(source_uri, name)
    if settings().as_json:
        print_json(version_json(copied))
    else:
        click.echo(f"Copied {source_uri} to {copied.name} version {copied.version}")


def _versions_of(client: Registry, name: str) -> list[ModelVersion]:
    if "'" not in name:
        condition = f"name = '{name}'"
    elif '"' not in name:
        condition = f'name = "{name}"'
    else:  # the search language has no escape, but a wildcard for the character
        condition = "name LIKE '{}'".format(name.replace("'", "_"))
    found = every(lambda token: client.search_model_versions(condition, page_token=token))
    return sorted((each for each in found if each.name == name), key=lambda each: int(each.version), reverse=True)


def _with_aliases(version: ModelVersion, aliases: Mapping[str, str]) -> ModelVersion:
    # Search results carry none, as in MLflow.
    return replace(version, aliases=sorted(each for each in aliases if aliases[each] == version.version))
