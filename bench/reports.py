"""Reports to a registry server, by REST, as a gateway sends them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence

GATEWAY, ALIAS = "bench", "champion"
API = "/api/turnout/v1"


def report(port: int, models: Sequence[str]) -> None:
    """A gateway serves version 1 of each of *models*, by its alias and under its name."""
    endpoints = [
        {
            "name": model,
            "model": model,
            "alias": ALIAS,
            "state": "serving",
            "versions": [{"version": "1", "role": "primary", "state": "ready", "share": 1.0}],
        }
        for model in models
    ]
    put(port, f"{API}/gateways/{GATEWAY}", {"interval_s": 300, "endpoints": endpoints})


def put(port: int, path: str, body: object) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("PUT", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path} was refused: {text.decode()}")
