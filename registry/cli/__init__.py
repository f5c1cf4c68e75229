"""The registry's commands. `gateway.cli` adds them to `turnout`; `python -m registry` runs them alone.

Nothing here imports a database or pandas before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import click

from registry.cli.aliases import alias, rollback
from registry.cli.command import (
    ReportingCommand,
    ReportingGroup,
    debug_option,
    examples,
    json_option,
    open_registry,
    registry_option,
    root_options,
    settings,
    shared_options,
)
from registry.cli.models import models
from registry.cli.output import print_json, print_table
from registry.cli.server import server
from registry.cli.tags import tag
from registry.cli.transfer import export, import_
from registry.cli.versions import register, versions

__all__ = [
    "ReportingCommand",
    "ReportingGroup",
    "cli",
    "commands",
    "debug_option",
    "examples",
    "json_option",
    "open_registry",
    "print_json",
    "print_table",
    "registry_option",
    "root_options",
    "settings",
    "shared_options",
]

commands: tuple[click.Command, ...] = (register, models, versions, alias, rollback, tag, server, import_, export)


@click.group("registry", cls=ReportingGroup, commands=commands)
@root_options
def cli() -> None:
    """Registered models, their versions, and the aliases that point at them."""
