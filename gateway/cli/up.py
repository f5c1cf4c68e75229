"""turnout up: a registry server and a gateway, together."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click

from gateway.cli.command import Command
from gateway.configfile import ConfigFile, Given, settle
from gateway.errors import InvalidSettings
from registry import cli as registry_cli

LOOPBACK = "127.0.0.1"


@click.command(
    cls=Command,
    epilog=registry_cli.examples(
        "turnout up -m models:/wine@champion",
        "turnout up -m models:/wine@champion --server-port 5001 --port 8081",
        "turnout up --config turnout.toml",
        "turnout up",
    ),
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]URI",
    help="What to serve, as in `turnout serve`. Without it only the registry server runs.",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The gateway's configuration file, as in `turnout serve`. The registry is the one that is started here.",
)
@click.option(
    "--server-port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="The registry server's port."
)
@click.option("--port", type=click.IntRange(0, 65535), help="The gateway's port.  [default: the file's, 8080]")
@registry_cli.registry_option
@registry_cli.debug_option
def up(models: tuple[str, ...], config: Path | None, server_port: int, port: int | None) -> NoReturn:
    """Run a registry server and a gateway that follows it, until Ctrl-C ends both."""
    from gateway import up as pair

    try:
        address = f"http://{LOOPBACK}:{server_port}"
        given = Given(models, {"registry_uri": address})
        if config is not None:
            ConfigFile(config, given).read()
        elif models:
            settle(given, {}, Path())
    except InvalidSettings as problem:
        raise click.UsageError(str(problem)) from None
    uri = registry_cli.settings().registry_uri
    server = ["server", "--port", str(server_port), *(["--registry-uri", uri] if uri else [])]
    gateway = ["serve", "--registry-uri", address]
    gateway += [flag for model in models for flag in ("-m", model)]
    gateway += ["--config", str(config)] if config is not None else []
    gateway += ["--port", str(port)] if port is not None else []
    serves = bool(models or config)
    if not serves:
        click.echo("only the registry server runs: pass -m models:/NAME@ALIAS to serve a model too", err=True)
    raise SystemExit(pair.run(server, (LOOPBACK, server_port), gateway if serves else None))
