"""What the gateway's commands share: how they fail, and the options about replicas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.config import parse_duration, parse_size
from gateway.errors import GatewayError
from registry import cli as registry_cli

STDERR = 2
Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Fields = Mapping[str, tuple[str, Callable[[Any], Any]]]  # which field an option gives, and how its text is read

OF_REPLICAS: Fields = {
    "replicas": ("replicas", int),
    "env_manager": ("env_manager", str),
    "load_timeout": ("load_timeout_s", parse_duration),
    "predict_timeout": ("predict_timeout_s", parse_duration),
    "memory_limit": ("memory_limit_bytes", parse_size),
}


class Command(registry_cli.ReportingCommand):
    """A gateway's command: its own errors are sentences too."""

    expected = (*registry_cli.ReportingCommand.expected, GatewayError)


def replica_options(predict_timeout: str, of: str) -> Callable[[Decorated], Decorated]:
    """The options that say how replicas run, as `OF_REPLICAS` reads them; *of* is what `--predict-timeout` limits."""
    options = [
        click.option(
            "--replicas",
            default=1,
            show_default=True,
            type=click.IntRange(1, 256),
            help="Processes for each version.",
        ),
        click.option(
            "--env-manager",
            default="local",
            show_default=True,
            type=click.Choice(["local", "uv"]),
            help="What models run in. local: the environment of this command. uv: for each version one that is built "
            "of the requirements in its directory.",
        ),
        click.option("--load-timeout", default="120s", show_default=True, help="How long a version may take to load."),
        click.option("--predict-timeout", default=predict_timeout, show_default=True, help=f"How long {of} may take."),
        click.option(
            "--memory-limit", help="What one replica may allocate, such as 2GiB.  [default: 80 % of this machine]"
        ),
    ]
    return lambda command: _decorated(command, options)


cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where verified model files are kept.  [default: $TURNOUT_CACHE, ~/.cache/turnout]",
)
log_format_option = click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How the log is written.",
)


def _decorated(command: Decorated, options: Sequence[Callable[[Any], Any]]) -> Decorated:
    for option in reversed(options):
        command = option(command)
    return command
