"""turnout status: what a gateway serves."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import click

from gateway.cli.command import Command
from registry import cli as registry_cli

DEFAULT_GATEWAY = "http://127.0.0.1:8080"
STATUS_TIMEOUT_S = 5.0


@click.command(
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
