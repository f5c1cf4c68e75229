"""`turnout demo`: the main job on real data, with every claim checked while it is made."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import registry

NAME = "diabetes"
ROWS = 5
START_TIMEOUT_S = 120.0
SWAP_TIMEOUT_S = 60.0
LOAD_BEFORE_AND_AFTER_S = 1.0
LISTENING = re.compile(r"listening on http://[\d.]+:(\d+)")


def run(keep: Path | None, hold: bool) -> int:
    """Everything from training to the swap; 0 only if every step held."""
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{folder.resolve()}/turnout.db"
        client = stack.enter_context(contextlib.closing(registry.connect(uri)))
        rows = _register_two_versions(client)
        port = stack.enter_context(_gateway(folder, uri))
        held = _swap_under_load(client, port, rows)
        if hold:
            click.echo(f"gateway on http://127.0.0.1:{port}, registry {uri}; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
        return 0 if held else 1


def _register_two_versions(client: registry.Registry) -> dict[str, Any]:
    """Train a linear regression and a forest, register both, point champion at the first."""
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression

    features, disease = load_diabetes(return_X_y=True, as_frame=True)
    models = [LinearRegression(), RandomForestRegressor(n_estimators=20, random_state=0)]
    first = last = ""
    for model in models:
        model.fit(features, disease)
        info = registry.log_model(
            model,
            name=NAME,
            registered_model_name=NAME,
            signature=registry.infer_signature(features, model.predict(features)),
            input_example=features.head(2),
            client=client,
        )
        last = str(info.registered_model_version)
        first = first or last
        click.echo(f"registered  {NAME} version {last}: {type(model).__name__}")
    client.set_registered_model_alias(NAME, "champion", first, reason="the demo's first model")
    click.echo(f"alias       champion -> version {first}")
    sample = features.head(ROWS)
    return {
        "first": first,
        "second": last,
        "body": json.dumps({"dataframe_split": sample.to_dict(orient="split")}),
        "expected": {
            version: model.predict(sample).tolist() for version, model in zip((first, last), models, strict=True)
        },
    }


@contextlib.contextmanager
def _gateway(folder: Path, uri: str) -> Iterator[int]:
    """`turnout serve` as a process of its own; gives its port."""
    command = [sys.executable, "-m", "gateway", "serve", "-m", f"models:/{NAME}@champion", "--port", "0"]
    log_path = folder / "gateway.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--registry-uri", uri, "--cache", str(folder / "cache")],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
    try:
        yield _wait_until_ready(process, log_path)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], log_path: Path) -> int:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        listening = LISTENING.search(log_path.read_text())
        if listening:
            connection = http.client.HTTPConnection("127.0.0.1", int(listening[1]))
            with contextlib.closing(connection), contextlib.suppress(OSError):
                connection.request("GET", "/ping")
                if connection.getresponse().status == 200:
                    return int(listening[1])
        time.sleep(0.05)
    raise click.ClickException(f"the gateway did not become ready; its log:\n{log_path.read_text()}")


class _Caller(threading.Thread):
    """Asks without a pause, and keeps what was answered, by whom and when."""

    def __init__(self, port: int, rows: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._rows = rows
        self._stopped = threading.Event()
        self.sent = 0
        self.failed: list[str] = []
        self.first_seen: dict[str, float] = {}
        self.seen = threading.Condition()

    def run(self) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port)) as connection:
            while not self._stopped.is_set():
                self._ask(connection)

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def wait_for(self, version: str) -> bool:
        with self.seen:
            return self.seen.wait_for(lambda: version in self.first_seen, SWAP_TIMEOUT_S)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        self.sent += 1
        try:
            connection.request("POST", "/invocations", self._rows["body"], {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
            version = answer.getheader("X-Model-Version", "")
            if answer.status != 200 or json.loads(text)["predictions"] != self._rows["expected"][version]:
                self.failed.append(f"version {version}: {answer.status} {text[:200]!r}")
        except (OSError, http.client.HTTPException, KeyError, ValueError) as problem:
            self.failed.append(repr(problem))
            connection.close()
            return
        with self.seen:
            self.first_seen.setdefault(version, time.monotonic())
            self.seen.notify_all()


def _swap_under_load(client: registry.Registry, port: int, rows: dict[str, Any]) -> bool:
    caller = _Caller(port, rows)
    caller.start()
    first, second = rows["first"], rows["second"]
    if not caller.wait_for(first):
        caller.stop()
        raise click.ClickException(f"version {first} never answered: {caller.failed[:3]}")
    click.echo(f"predicted   {ROWS} rows, answered by version {first}")
    time.sleep(LOAD_BEFORE_AND_AFTER_S)
    client.set_registered_model_alias(NAME, "champion", second, reason="the demo moves the alias")
    moved = time.monotonic()
    click.echo(f"alias       champion -> version {second}, while a client keeps asking")
    swapped = caller.wait_for(second)
    time.sleep(LOAD_BEFORE_AND_AFTER_S)
    caller.stop()
    if swapped:
        took = (caller.first_seen[second] - moved) * 1000
        click.echo(f"predicted   {ROWS} rows, answered by version {second}, {took:.0f} ms after the alias moved")
    else:
        click.echo(f"version {second} did not answer within {SWAP_TIMEOUT_S:.0f} s")
    click.echo(f"requests    {caller.sent} sent meanwhile, {len(caller.failed)} failed")
    for failure in caller.failed[:3]:
        click.echo(f"            {failure}")
    return swapped and not caller.failed
