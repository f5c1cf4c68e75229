"""Predictions a second: ours, `mlflow models serve`, a hand-written FastAPI app, LitServe and MLServer, in turns.

All serve the same model and get the same rows; every answer is compared with the model's own. MLServer is asked in
the protocol that it speaks. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import click
import models
import yaml
from load import Load, Result, run
from peers import PYTHON, litserve, mlserver
from servers import ROOT, Endpoint, Server, fastapi, mlflow, registry_uri, turnout, wait_until_proven
from verdicts import Verdicts

import registry

MANY = 32  # clients
MIN_TIMES_MLFLOW = 40.0
MIN_FASTAPI_RATIO = 0.95
# By the model, and by whether a request has many rows.
MIN_TIMES_THE_FASTEST = {("linear", False): 6.0, ("linear", True): 3.0, ("forest", False): 6.0, ("forest", True): 1.0}
MAX_P50_SHARE = {"linear": 0.5, "forest": 0.1}
MAX_P99_SHARE = 1 / 3

PLAIN = "turnout-plain"
OURS = ("turnout", PLAIN)
SERVERS = ("turnout", "mlflow", "fastapi", "litserve", "mlserver", "mlserver-batching")


@dataclass(frozen=True, slots=True)
class Cell:
    """One row of the table."""

    model: str
    rows: int
    clients: int


@dataclass(slots=True)
class Measured:
    """The results of one cell, by server, one a round."""

    results: dict[str, list[Result]] = field(default_factory=dict)

    def rate(self, server: str) -> float:
        return median(each.requests_per_second for each in self.results[server])

    def latency(self, server: str, which: str) -> float:
        return median(each.percentiles[which] for each in self.results[server])

    def ratio(self, ours: str, other: str) -> float:
        """The median over the rounds of ours divided by the other in the same round."""
        pairs = zip(self.results[ours], self.results[other], strict=True)
        return median(a.requests_per_second / b.requests_per_second for a, b in pairs)


@contextlib.contextmanager
def serving(folder: Path, name: str, model: Any, names: list[str], mlflow_python: Path) -> Iterator[list[Server]]:
    """The servers called *names*, all of them up with *model*."""
    directory = folder / name
    models.save(directory, model)
    client = registry.connect(registry_uri(folder))
    registry.register_model(str(directory), name, client=client)
    client.set_registered_model_alias(name, "champion", 1)
    endpoints = [Endpoint(name, f"models:/{name}@champion")]
    start = {
        "turnout": lambda: turnout(folder, endpoints),
        PLAIN: lambda: turnout(folder, endpoints, ["--accelerate", "off"], PLAIN),
        "mlflow": lambda: mlflow(folder, directory, mlflow_python),
        "fastapi": lambda: fastapi(folder, pickle_of(directory)),
        "litserve": lambda: litserve(folder, pickle_of(directory), PYTHON),
        "mlserver": lambda: mlserver(folder, pickle_of(directory), PYTHON, batches=False),
        "mlserver-batching": lambda: mlserver(folder, pickle_of(directory), PYTHON, batches=True),
    }
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(start[each]()) for each in names]
        for server in servers:
            if server.name in OURS:
                wait_until_proven(server)
        yield servers


def pickle_of(directory: Path) -> Path:
    """The file in a model directory that holds the pickled estimator."""
    described = yaml.safe_load((directory / "MLmodel").read_text())
    return directory / described["flavors"]["sklearn"]["pickled_model"]


def measure(servers: list[Server], model: Any, cells: list[Cell], rounds: int, seconds: float) -> dict[Cell, Measured]:
    """Every cell in every round, the servers in turns; each round begins with another server."""
    measured = {cell: Measured() for cell in cells}
    for number, cell in product(range(rounds), cells):
        expected = models.predictions(model, cell.rows)
        first = number % len(servers)
        for server in servers[first:] + servers[:first]:
            versions = {"1" if server.name in OURS else "": expected}
            body = models.v2_request_body(cell.rows) if server.speaks_v2 else models.request_body(cell.rows)
            load = Load(
                port=server.port, path=server.path, body=body, connections=cell.clients, seconds=seconds,
                expected=versions,
            )  # fmt: skip
            if number == 0:
                run(warm_up(load))
            result = run(load)
            if result.failures or not result.answered:
                raise SystemExit(f"{server.name}, {cell}: {result.errors} {result.samples}\n{server.log_tail}")
            measured[cell].results.setdefault(server.name, []).append(result)
        print(".", end="", flush=True)
    return measured


def warm_up(load: Load) -> Load:
    """The same load for as long as it takes to fill caches."""
    return Load(
        port=load.port, path=load.path, body=load.body, connections=load.connections, seconds=0.5,
        expected=load.expected,
    )  # fmt: skip


def report(measured: dict[Cell, Measured], names: list[str]) -> None:
    """One line a cell: requests a second and p99 of each server, and how ours compares."""
    print("\n\nmedians over the rounds: requests/s (p50, p99 ms)")
    print(f"{'model':7}{'rows':>5}{'clients':>8}" + "".join(f"{name:>30}" for name in names), end="")
    others = [name for name in names if name != "turnout"] if "turnout" in names else []
    print("".join(f"{'/' + name:>10}" for name in others))
    for cell, each in measured.items():
        line = f"{cell.model:7}{cell.rows:>5}{cell.clients:>8}"
        for name in names:
            spread = f"({each.latency(name, 'p50'):.2f}, {each.latency(name, 'p99'):.2f})"
            line += f"{each.rate(name):>14.0f} {spread:>15}"
        print(line + "".join(f"{each.ratio('turnout', name):>10.2f}" for name in others))


def judge(measured: dict[Cell, Measured], names: list[str]) -> Verdicts:
    """How ours compares with the best of the others in each cell."""
    verdicts = Verdicts()
    others = [name for name in names if name not in OURS]
    for cell, each in measured.items():
        at = f"{cell.model}, {cell.rows} rows, {cell.clients} clients"
        if cell.clients == MANY and others:
            least = MIN_TIMES_THE_FASTEST[cell.model, cell.rows > 1]
            times, fastest = min((each.ratio("turnout", name), name) for name in others)
            verdicts.check(times >= least, f"{at}: {times:.2f} times {fastest} >= {least}")
        if cell.clients == MANY and cell.rows == 1:
            _judge_latency(verdicts, each, others, at, "p99", MAX_P99_SHARE)
            if cell.model == "linear" and "mlflow" in names:
                times = each.ratio("turnout", "mlflow")
                verdicts.check(times >= MIN_TIMES_MLFLOW, f"{at}: {times:.2f} times mlflow >= {MIN_TIMES_MLFLOW}")
        if cell.clients == 1 and cell.rows == 1:
            _judge_latency(verdicts, each, others, at, "p50", MAX_P50_SHARE[cell.model])
        if "fastapi" in names:
            ratio = each.ratio("turnout", "fastapi")
            verdicts.check(ratio >= MIN_FASTAPI_RATIO, f"{at}: {ratio:.2f} of FastAPI >= {MIN_FASTAPI_RATIO}")
    return verdicts


def _judge_latency(verdicts: Verdicts, each: Measured, others: list[str], at: str, which: str, most: float) -> None:
    if others:
        best, name = min((each.latency(name, which), name) for name in others)
        share = each.latency("turnout", which) / best
        verdicts.check(share <= most, f"{at}: {which} {share:.2f} of {name}'s <= {most:.2f}")


@click.command(help=__doc__)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="How long each server is asked, cell and round.")
@click.option("--models", "kinds", default="linear,forest", show_default=True)
@click.option("--rows", default="1,100", show_default=True)
@click.option("--clients", default="1,32", show_default=True)
@click.option(
    "--servers",
    "names",
    default=",".join(SERVERS),
    show_default=True,
    help=f"Or {PLAIN} among them: ours with --accelerate off, to see what arrays and treelite give.",
)
@click.option(
    "--mlflow-python",
    type=click.Path(path_type=Path),
    default=os.environ.get("TURNOUT_MLFLOW3", ROOT / ".envs/mlflow3/bin/python"),
    help="The interpreter of an environment with mlflow; default: $TURNOUT_MLFLOW3.",
)
def main(rounds: int, seconds: float, kinds: str, rows: str, clients: str, names: str, mlflow_python: Path) -> None:
    chosen = names.split(",")
    if "mlflow" in chosen and not mlflow_python.exists():
        raise click.UsageError(f"no interpreter with mlflow at {mlflow_python}: name it with --mlflow-python")
    if {"litserve", "mlserver", "mlserver-batching"} & set(chosen) and not PYTHON.exists():
        raise click.UsageError(f"no interpreter with MLServer and LitServe at {PYTHON}: run `make peers`")
    measured: dict[Cell, Measured] = {}
    for kind in kinds.split(","):
        cells = [Cell(kind, int(r), int(c)) for r, c in product(rows.split(","), clients.split(","))]
        model = {"linear": models.linear, "forest": models.forest}[kind]()
        with (
            tempfile.TemporaryDirectory(prefix="turnout-bench-") as folder,
            serving(Path(folder), kind, model, chosen, mlflow_python) as servers,
        ):
            measured |= measure(servers, model, cells, rounds, seconds)
    report(measured, chosen)
    sys.exit(judge(measured, chosen).finish() if "turnout" in chosen else 0)


if __name__ == "__main__":
    main()
