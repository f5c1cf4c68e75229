"""The `turnout` command: serve, status and demo, and the registry's commands beside them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

import click

from gateway.config import (
    EndpointConfig,
    Settings,
    default_cache,
    default_memory_limit,
    parse_duration,
    parse_size,
    plan_endpoints,
)
from gateway.errors import GatewayError, InvalidSettings
from registry import cli as registry_cli

LOOPBACK = "127.0.0.1"
DEFAULT_GATEWAY = "http://127.0.0.1:8080"
STATUS_TIMEOUT_S = 5.0
STDERR = 2


class Command(registry_cli.ReportingCommand):
    """A gateway's command: its own errors are sentences too."""

    expected = (*registry_cli.ReportingCommand.expected, GatewayError)


@click.group(cls=registry_cli.ReportingGroup)
@registry_cli.root_options
def cli() -> None:
    """A model registry, and a gateway that follows models:/name@alias without losing a request."""


@cli.command(
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


@cli.command(
    cls=Command,
    epilog=registry_cli.examples(
        "turnout up -m models:/wine@champion",
        "turnout up -m models:/wine@champion --server-port 5001 --port 8081",
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
    "--server-port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="The registry server's port."
)
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="The gateway's port.")
@registry_cli.registry_option
@registry_cli.debug_option
def up(models: tuple[str, ...], server_port: int, port: int) -> NoReturn:
    """Run a registry server and a gateway that follows it, until Ctrl-C ends both."""
    from gateway import up as pair

    try:
        if models:
            plan_endpoints(models, EndpointConfig("", Path()))
    except InvalidSettings as problem:
        raise click.UsageError(str(problem)) from None
    uri = registry_cli.settings().registry_uri
    server = ["server", "--port", str(server_port), *(["--registry-uri", uri] if uri else [])]
    gateway = ["serve", "--port", str(port), "--registry-uri", f"http://{LOOPBACK}:{server_port}"]
    gateway += [flag for model in models for flag in ("-m", model)]
    if not models:
        click.echo("only the registry server runs: pass -m models:/NAME@ALIAS to serve a model too", err=True)
    raise SystemExit(pair.run(server, (LOOPBACK, server_port), gateway if models else None))


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


@cli.command(
    cls=Command,
    epilog=registry_cli.examples("turnout status", "turnout status --gateway http://10.0.0.5:8080"),
)
@click.option("--gateway", default=DEFAULT_GATEWAY, show_default=True, metavar="URL", help="The gateway to ask.")
@registry_cli.json_option
@registry_cli.debug_option
def status(gateway: str) -> None:
    """Show what every endpoint serves now, and its last error."""
    report = _ask(gateway)
    if registry_cli.settings().as_json:
        registry_cli.print_json(report)
        return
    registry = report["registry"]
    if registry["reachable"] is False:
        click.echo(f"registry {registry['uri'] or ''} is not reachable: {registry['problem']}")
    rows = [row for endpoint in report["endpoints"] for row in _rows(endpoint)]
    registry_cli.print_table(["endpoint", "model", "state", "version", "role", "share", "replicas", "since"], rows)
    for endpoint in report["endpoints"]:
        if endpoint["last_error"]:
            error = endpoint["last_error"]
            click.echo(f"{endpoint['name']}: version {error['version'] or '-'}: {error['message']}")


def _ask(gateway: str) -> Any:
    try:
        with urllib.request.urlopen(f"{gateway.rstrip('/')}/status", timeout=STATUS_TIMEOUT_S) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as problem:
        reason = getattr(problem, "reason", problem)
        raise click.ClickException(
            f"no gateway answers at {gateway}: {reason}; start one with `turnout serve`, or pass --gateway URL"
        ) from None


def _rows(endpoint: dict[str, Any]) -> list[list[str]]:
    change = endpoint["last_change"] or {}
    versions = endpoint["versions"] or [{"version": "-", "role": "-", "share": 0.0, "state": endpoint["state"]}]
    return [
        [
            endpoint["name"],
            endpoint["uri"],
            endpoint["state"] if row["role"] == "primary" else row["state"],
            row["version"],
            row["role"],
            f"{row['share']:.0%}",
            str(row.get("replicas", "-")),
            change.get("at", "-") if row["role"] == "primary" else "-",
        ]
        for row in versions
    ]


@cli.command(cls=Command, epilog=registry_cli.examples("turnout demo", "turnout demo --keep ./demo --hold"))
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


for command in registry_cli.commands:
    cli.add_command(command)


def main() -> None:
    """The entry point of the `turnout` command."""
    cli(prog_name="turnout")
