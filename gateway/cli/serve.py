"""turnout serve: the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import click

from gateway.cli.command import Command
from gateway.config import (
    EndpointConfig,
    Settings,
    default_cache,
    default_memory_limit,
    parse_duration,
    parse_size,
    plan_endpoints,
)
from gateway.errors import InvalidSettings
from registry import cli as registry_cli

STDERR = 2


@click.command(
    cls=Command,
    epilog=registry_cli.examples(
        "turnout serve -m models:/wine@champion",
        "turnout serve -m wine=models:/wine@champion -m price=models:/price/3 --replicas 2",
        "turnout serve -m ./my-model --port 9000",
    ),
)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="[NAME=]URI",
    help="What to serve: models:/NAME@ALIAS is followed; models:/NAME/VERSION, models:/NAME/latest and a model "
    "directory are served as they are. Repeat it for more endpoints.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option(
    "--replicas",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes for each version.",
)
@click.option("--load-timeout", default="120s", show_default=True, help="How long a version may take to load.")
@click.option("--predict-timeout", default="60s", show_default=True, help="How long a prediction may take.")
@click.option(
    "--max-queue",
    default=256,
    show_default=True,
    type=click.IntRange(0),
    help="Requests that may wait on one endpoint; more are answered 429.",
)
@click.option(
    "--batch",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "on", "off"]),
    help="Join requests that wait into one call. auto: where a model is known to predict row by row, or its version's "
    "tag turnout.batch is on. Never without a proof that the answers are the same.",
)
@click.option(
    "--batch-max-rows",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Rows that go as one call at most.",
)
@click.option(
    "--batch-max-wait",
    default="0ms",
    show_default=True,
    help="How long a request waits for others to join it, beyond the time in which the model is busy.",
)
@click.option(
    "--accelerate",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "off"]),
    help="Use a faster way to the same answers once it is proven.",
)
@click.option("--max-body", default="64MiB", show_default=True, help="The largest request body.")
@click.option("--memory-limit", help="What one replica may allocate, such as 2GiB.  [default: 80 % of this machine]")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where verified model files are kept.  [default: $TURNOUT_CACHE, ~/.cache/turnout]",
)
@click.option(
    "--shutdown-notice",
    default="0s",
    show_default=True,
    help="On SIGTERM: answer `not ready` for so long before no more is taken.",
)
@click.option(
    "--shutdown-timeout",
    default="30s",
    show_default=True,
    help="On SIGTERM: how long running requests may take.",
)
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(["text", "json"]),
    help="How the log is written.",
)
@registry_cli.registry_option
@registry_cli.debug_option
def serve(models: tuple[str, ...], log_format: str, **options: Any) -> NoReturn:
    """Serve models over HTTP, and follow their aliases."""
    from gateway import server, telemetry

    try:
        settings = _settings(models, options)
    except InvalidSettings as problem:
        raise click.UsageError(str(problem)) from None
    with telemetry.logging_to(STDERR, log_format):
        status = server.run(settings)
    raise SystemExit(status)


def _settings(models: tuple[str, ...], options: dict[str, Any]) -> Settings:
    limit = options["memory_limit"]
    template = EndpointConfig(
        "",
        Path(),
        replicas=options["replicas"],
        load_timeout_s=parse_duration(options["load_timeout"]),
        predict_timeout_s=parse_duration(options["predict_timeout"]),
        max_queue=options["max_queue"],
        memory_limit_bytes=parse_size(limit) if limit else default_memory_limit(),
        batch=options["batch"],
        batch_max_rows=options["batch_max_rows"],
        batch_max_wait_s=parse_duration(options["batch_max_wait"]),
        accelerates=options["accelerate"] == "auto",
    )
    return Settings(
        plan_endpoints(models, template),
        registry_uri=registry_cli.settings().registry_uri,
        host=options["host"],
        port=options["port"],
        max_body_bytes=parse_size(options["max_body"]),
        cache=(options["cache"] or default_cache()).expanduser(),
        shutdown_notice_s=parse_duration(options["shutdown_notice"]),
        shutdown_timeout_s=parse_duration(options["shutdown_timeout"]),
    )
