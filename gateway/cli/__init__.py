"""The `turnout` command: the gateway's commands, and the registry's beside them."""

from __future__ import annotations

import click

from gateway.cli.demo import demo
from gateway.cli.predict import predict
from gateway.cli.serve import serve
from gateway.cli.status import status
from gateway.cli.up import up
from registry import cli as registry_cli

__all__ = ["cli", "main"]


@click.group(cls=registry_cli.ReportingGroup, commands=(serve, up, predict, status, demo, *registry_cli.commands))
@registry_cli.root_options
def cli() -> None:
    """A model registry, and a gateway that follows models:/name@alias without losing a request."""


def main() -> None:
    """The entry point of the `turnout` command."""
    cli(prog_name="turnout")
