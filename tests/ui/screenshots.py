"""Makes a picture of every page in light, in dark and on a phone: `python -m tests.ui.screenshots FOLDER`."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from playwright.sync_api import Browser

from tests.browsers import chromium
from tests.compat.environments import interpreter
from tests.ui.opening import opened
from tests.ui.seeds import Seeded, seeded

LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1200, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1200, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}

DEPLOYMENTS = ("/deployments", "/deployments/gateway-1/risk", "/deployments/gateway-1/risk/try")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["TURNOUT_ACTOR"] = "ana"
    with (
        tempfile.TemporaryDirectory() as place,
        chromium() as browser,
        seeded(Path(place), interpreter("mlflow3"), interpreter("mlflow2")) as site,
    ):
        report_a_gateway(site)
        for look, options in LOOKS.items():
            photograph(browser, site, folder, look, options)
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


def report_a_gateway(site: Seeded) -> None:
    version = {"version": "1", "role": "primary", "state": "ready", "share": 1.0}
    now = datetime.now(UTC).isoformat()
    change = {"from": "2", "to": "1", "at": now, "by": "ana", "reason": "drifted", "took_ms": 840}
    risk = {"name": "risk", "model": "risk", "alias": "champion", "state": "serving", "versions": [version]}
    asleep = {"name": "risk-asleep", "model": "risk", "alias": "champion", "state": "idle"}
    error = {"version": "2", "message": "no wheel of numpy 2.9 for this Python", "at": now}
    failed = {"name": "risk-next", "model": "risk", "alias": "challenger", "state": "failed", "last_error": error}
    for requests in (0, 4_000):
        counters = {"risk": {"1": {"requests": requests, "errors": requests // 50}}}
        report = {
            "address": "http://127.0.0.1:8080",
            "interval_s": 300,
            "endpoints": [risk | {"last_change": change}, asleep, failed],
            "counters": counters,
            "latency_bounds_s": [0.01, 0.1],
            "latencies": {"risk": {"1": [requests, 0, 0]}},
        }
        request = urllib.request.Request(
            f"{site.address}/api/turnout/v1/gateways/gateway-1",
            msgspec.json.encode(report),
            {"content-type": "application/json"},
            method="PUT",
        )
        urllib.request.urlopen(request).close()
        time.sleep(1)


def photograph(browser: Browser, site: Seeded, folder: Path, look: str, options: dict[str, object]) -> None:
    with opened(browser, site.address, **options) as page:
        for address in (*site.pages, *DEPLOYMENTS):
            page.goto(address)
            page.wait_for_load_state("load" if address in DEPLOYMENTS else "networkidle")  # their stream stays open
            named = re.sub(r"(m-)?[0-9a-f]{32}", "id", address)
            name = re.sub(r"[^a-z0-9]+", "-", named.lower()).strip("-") or "models"
            page.screenshot(path=folder / f"{name}.{look}.png", full_page=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
