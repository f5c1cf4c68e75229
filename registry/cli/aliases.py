"""turnout alias and turnout rollback: the deployment commands."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from registry.cli.command import (
    ReportingCommand,
    ReportingGroup,
    examples,
    expectation,
    open_registry,
    settings,
    shared_options,
)
from registry.cli.output import clock, print_json, print_table, timestamp
from registry.core import AliasChange

expect_option = click.option(
    "--expect",
    type=expectation,
    metavar="VERSION|none",
    help="Only if the alias points at this version now; 'none': only if it is not set.",
)
reason_option = click.option("--reason", metavar="TEXT", help="Why; kept in the alias's history.")


@click.group(
    cls=ReportingGroup,
    epilog=examples("turnout alias set wine champion 2 --reason 'retrained on October'", "turnout alias list wine"),
)
def alias() -> None:
    """Aliases: names such as champion that point at a version. Moving one deploys."""


@alias.command(
    "set",
    epilog=examples(
        "turnout alias set wine champion 2 --reason 'retrained on October'",
        "turnout alias set wine champion 2 --expect 1",
        "turnout alias set wine champion 1 --expect none",
    ),
)
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.argument("version")
@expect_option
@reason_option
@shared_options
def set_alias(name: str, alias_name: str, version: str, expect: str | None, reason: str | None) -> None:
    """Point ALIAS at VERSION; every gateway that follows it serves that version next."""
    with open_registry() as client:
        client.set_registered_model_alias(name, alias_name, version, expected_version=expect, reason=reason)
        move = client.get_alias_history(name, alias_name, max_results=1)[0]
    _report(name, move)


@alias.command("delete", epilog=examples("turnout alias delete wine champion"))
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@expect_option
@reason_option
@shared_options
def delete_alias(name: str, alias_name: str, expect: str | None, reason: str | None) -> None:
    """Delete ALIAS; its history stays, and gateways keep serving what they have."""
    with open_registry() as client:
        client.delete_registered_model_alias(name, alias_name, expected_version=expect, reason=reason)
    if settings().as_json:
        print_json({"name": name, "alias": alias_name, "deleted": True})
    else:
        click.echo(f"Deleted {name}@{alias_name}")


@alias.command("list", epilog=examples("turnout alias list wine"))
@click.argument("name")
@shared_options
def list_aliases(name: str) -> None:
    """List where a model's aliases point."""
    with open_registry() as client:
        aliases = client.get_registered_model(name).aliases
    if settings().as_json:
        print_json({"name": name, "aliases": dict(aliases)})
    else:
        print_table(("alias", "version"), sorted(aliases.items()))


def moment(text: str) -> datetime:
    """Read a time in ISO 8601; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a time; write one like 2026-11-23T18:00:00Z") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


@alias.command(
    "history",
    epilog=examples(
        "turnout alias history wine champion", "turnout alias history wine champion --at 2026-11-01T12:00:00Z"
    ),
)
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@click.option("--at", type=moment, metavar="TIME", help="Tell only which version it pointed at then.")
@click.option("--max-results", type=click.IntRange(1), default=100, show_default=True, help="Stop after this many.")
@shared_options
def alias_history(name: str, alias_name: str, at: datetime | None, max_results: int) -> None:
    """Show who moved ALIAS, when, from where to where and why; newest first."""
    if at is not None:
        _print_moment(name, alias_name, at)
        return
    with open_registry() as client:
        moves = client.get_alias_history(name, alias_name, max_results=max_results)
    if settings().as_json:
        found = [each.as_json() for each in moves]
        print_json({"alias": alias_name, "moves": found, "next_page_token": moves.token})
        return
    print_table(
        ("at", "by", "from", "to", "reason"),
        ((clock(each.at), each.by, each.from_version or "-", each.to_version or "-", _why(each)) for each in moves),
    )


@click.command(
    cls=ReportingCommand,
    short_help="Point an alias back at the version before.",
    epilog=examples(
        "turnout rollback wine champion",
        "turnout rollback wine champion --expect 2 --reason 'errors on red wines'",
    ),
)
@click.argument("name")
@click.argument("alias_name", metavar="ALIAS")
@expect_option
@reason_option
@shared_options
def rollback(name: str, alias_name: str, expect: str | None, reason: str | None) -> None:
    """Point ALIAS back at the version before the current one; twice goes further back."""
    with open_registry() as client:
        move = client.rollback_alias(name, alias_name, expected_version=expect, reason=reason)
    _report(name, move)


def _print_moment(name: str, alias_name: str, at: datetime) -> None:
    with open_registry() as client:
        version = client.get_model_version_by_alias(name, alias_name, at=at).version
    if settings().as_json:
        print_json({"name": name, "alias": alias_name, "at": timestamp(at), "version": version})
    else:
        click.echo(f"{name}@{alias_name} pointed at version {version} at {clock(at)}")


def _report(name: str, move: AliasChange) -> None:
    if settings().as_json:
        print_json({"name": name, "alias": move.alias} | move.as_json())
    elif move.from_version in (None, move.to_version):
        click.echo(f"{name}@{move.alias} points at version {move.to_version}")
    else:
        click.echo(f"{name}@{move.alias} moved from version {move.from_version} to {move.to_version}")


def _why(move: AliasChange) -> str:
    parts = [move.reason] if move.reason else []
    if move.rollback_of is not None:
        parts.append("(rollback)")
    return " ".join(parts)
