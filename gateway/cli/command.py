"""What the gateway's commands share."""

from __future__ import annotations

from gateway.errors import GatewayError
from registry import cli as registry_cli


class Command(registry_cli.ReportingCommand):
    """A gateway's command: its own errors are sentences too."""

    expected = (*registry_cli.ReportingCommand.expected, GatewayError)
