"""turnout demo: the main job, shown."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.command import Command
from registry import cli as registry_cli


@click.command(cls=Command, epilog=registry_cli.examples("turnout demo", "turnout demo --keep ./demo --hold"))
@click.option(
    "--keep",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Work in DIR and leave it.",
)
@click.option("--hold", is_flag=True, help="Leave the gateway running until Ctrl-C.")
@registry_cli.debug_option
def demo(keep: Path | None, hold: bool) -> None:
    """Show the main job on real data: serve a model, move its alias under load, lose nothing."""
    from gateway import demo as demonstration

    raise SystemExit(demonstration.run(keep, hold))
