"""From a command to the first prediction, and the memory that is then held: ours, a FastAPI app and MLServer, in turns.

All serve the same linear model, with one worker each. Memory is the PSS of all processes of a server, our fork server
among them. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import http.client
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

import click
import models
from load import Load, run
from peers import PYTHON, mlserver
from predict import pickle_of
from processes import total_pss_mb
from servers import Endpoint, Server, fastapi, registry_uri, turnout
from verdicts import Verdicts

import registry

NAME = "bench"
MAX_BEHIND_FASTAPI_S = 0.5
USED_S = 0.5  # so long it is asked, so that the pages that serving touches are there

Start = Callable[[Path], AbstractContextManager[Server]]


@dataclass(slots=True)
class Measured:
    """Of one server, an entry for each round."""

    seconds: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)


def starts(folder: Path) -> dict[str, Start]:
    """How each is started: ours on the registry in *folder*, the others in a folder of the round."""
    directory = folder / NAME
    models.save(directory, models.linear())
    client = registry.connect(registry_uri(folder))
    registry.register_model(str(directory), NAME, client=client)
    client.set_registered_model_alias(NAME, "champion", 1)
    endpoints = [Endpoint(NAME, f"models:/{NAME}@champion")]
    return {
        "turnout": lambda _: turnout(folder, endpoints),
        "fastapi": lambda home: fastapi(home, pickle_of(directory)),
        "mlserver": lambda home: mlserver(home, pickle_of(directory), PYTHON, batches=False),
    }


def measure(start: Start, home: Path, measured: Measured) -> None:
    begun_s = monotonic()
    with start(home) as server:
        ask(server)
        measured.seconds.append(monotonic() - begun_s)
        use(server)
        measured.memory_mb.append(total_pss_mb(server.process.pid))


def body_for(server: Server) -> str:
    return models.v2_request_body(1) if server.speaks_v2 else models.request_body(1)


def ask(server: Server) -> None:
    """One prediction."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", server.path, body_for(server), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise SystemExit(f"{server.name}: {response.status} {answer!r}\n{server.log_tail}")


def use(server: Server) -> None:
    """Predictions one after another, every one of them right."""
    expected = {"1" if server.name == "turnout" else "": models.predictions(models.linear(), 1)}
    load = Load(
        port=server.port, path=server.path, body=body_for(server), connections=1, seconds=USED_S, expected=expected,
    )  # fmt: skip
    result = run(load)
    if result.failures or not result.answered:
        raise SystemExit(f"{server.name}: {result.errors} {result.samples}\n{server.log_tail}")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
def main(rounds: int) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
        folder = Path(name)
        servers = starts(folder)
        measured = {each: Measured() for each in servers}
        for number in range(rounds + 1):
            home = folder / f"round{number}"
            home.mkdir()
            for each, start in servers.items():
                # Nothing is kept of the first round, which reads the libraries from the disk.
                measure(start, home, measured[each] if number else Measured())
    seconds = {each: median(of.seconds) for each, of in measured.items()}
    memory = {each: median(of.memory_mb) for each, of in measured.items()}
    for each in measured:
        print(f"        {each}: first prediction after {seconds[each]:.2f} s, {memory[each]:.0f} MB PSS")
    behind_s = seconds["turnout"] - seconds["fastapi"]
    verdicts.check(
        behind_s <= MAX_BEHIND_FASTAPI_S,
        f"first prediction {behind_s:+.2f} s after FastAPI's, in ratio {seconds['turnout'] / seconds['fastapi']:.2f} "
        f"(at most {MAX_BEHIND_FASTAPI_S:+.1f} s)",
    )
    share = memory["turnout"] / memory["mlserver"]
    verdicts.check(share < 1.0, f"memory {share:.2f} of MLServer's (below 1)")
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
