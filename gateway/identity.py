"""What a gateway calls itself, in its reports to a registry server and in its status."""

from __future__ import annotations

import re
import socket


def gateway_id(port: int) -> str:
    """The machine and the port; the same after a restart."""
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', socket.gethostname())}:{port}"
