"""Requests a second of the registry's REST API: ours and `mlflow server`, in turns, on the same data.

One worker each, a SQLite database each, the same models and versions in both, every request by REST. Exits 1 when
a bound is missed.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median

import click
from processes import total_pss_mb
from rest import Done, Work, get, run, send
from servers import ROOT, Server, mlflow_server, turnout_server
from verdicts import Verdicts

MIN_READ_RATIO = 20.0
MIN_WRITE_RATIO = 6.0
MAX_GROWTH_RATIO = 2.0
MAX_MEMORY_MB = 150.0
FEW_MODELS = 100
NEVER_ASKED = 20_000  # more than a repetition asks
FLOWS = 16  # connections that fill a registry
API = "/api/2.0/mlflow"
MLMODEL = b"flavors:\n  python_function:\n    loader_module: nothing\n"


@dataclass(slots=True)
class Subject:
    """One server under measurement and where its versions come from."""

    server: Server
    source: str = ""
    run_id: str = ""
    made: int = 0
    asked: int = 0
    rates: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    p50_ms: dict[tuple[str, int], list[float]] = field(default_factory=dict)

    def ask(self, requests: list[str], connections: int, seconds: float | None = None) -> Done:
        done = run(Work(port=self.server.port, requests=requests, connections=connections, seconds=seconds))
        if done.wrong:
            raise SystemExit(f"{self.server.name} refused: {done.wrong}\n{self.server.log_tail}")
        return done


@dataclass(frozen=True, slots=True)
class Operation:
    """What is asked: *requests* makes the list for one server; writes are sent once each."""

    name: str
    is_read: bool
    requests: Callable[[Subject, int], list[str]]
    has_bound: bool = True

    @property
    def bound(self) -> float | None:
        if not self.has_bound:
            return None
        return MIN_READ_RATIO if self.is_read else MIN_WRITE_RATIO


def operations(models: int, versions: int) -> list[Operation]:
    """The seven of the comparison, on models `m0`, `m1`, … with the alias `champion`.

    Ours keeps a page until the registry changes, so the search stands here twice: as it is asked again and again, and
    with a question that was never asked before, which no kept page answers.
    """
    names = [f"m{number}" for number in range(models)]
    random.Random(0).shuffle(names)

    def each(path: str) -> Callable[[Subject, int], list[str]]:
        return lambda _, count: [get(path.format(name=name)) for name in names]

    def search_anew(subject: Subject, _: int) -> list[str]:
        subject.asked += NEVER_ASKED
        numbers = range(subject.asked - NEVER_ASKED, subject.asked)
        return [get(f"{API}/registered-models/search?max_results=100&ignored={each}") for each in numbers]

    def create_models(subject: Subject, count: int) -> list[str]:
        subject.made += count
        fresh = range(subject.made - count, subject.made)
        return [send("POST", f"{API}/registered-models/create", {"name": f"new-{each}"}) for each in fresh]

    def create_versions(subject: Subject, count: int) -> list[str]:
        return [version_request(subject, names[each % len(names)]) for each in range(count)]

    def set_aliases(_: Subject, count: int) -> list[str]:
        return [alias_request(names[each % len(names)], 1 + each // len(names) % versions) for each in range(count)]

    return [
        Operation("get model", True, each(f"{API}/registered-models/get?name={{name}}")),
        Operation("get by alias", True, each(f"{API}/registered-models/alias?name={{name}}&alias=champion")),
        Operation("download URI", True, each(f"{API}/model-versions/get-download-uri?name={{name}}&version=1")),
        Operation("search 100", True, lambda *_: [get(f"{API}/registered-models/search?max_results=100")]),
        Operation("search 100 anew", True, search_anew, has_bound=False),
        Operation("create model", False, create_models),
        Operation("create version", False, create_versions),
        Operation("set alias", False, set_aliases),
    ]


def version_request(subject: Subject, name: str) -> str:
    body = {"name": name, "source": subject.source, "run_id": subject.run_id}
    return send("POST", f"{API}/model-versions/create", body)


def alias_request(name: str, version: int) -> str:
    body = {"name": name, "alias": "champion", "version": str(version)}
    return send("POST", f"{API}/registered-models/alias", body)


def fill(subject: Subject, first: int, models: int, versions: int) -> None:
    """Models with versions, and `champion` on the first version of each; by REST, as users would."""
    names = [f"m{number}" for number in range(first, first + models)]
    subject.ask([send("POST", f"{API}/registered-models/create", {"name": name}) for name in names], FLOWS)
    subject.ask([version_request(subject, name) for name in names for _ in range(versions)], FLOWS)
    subject.ask([alias_request(name, 1) for name in names], FLOWS)


def log_run(subject: Subject) -> None:
    """One run with one small model, which every version is made from."""
    connection = http.client.HTTPConnection("127.0.0.1", subject.server.port, timeout=60)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", f"{API}/runs/create", json.dumps({"experiment_id": "0"}), headers)
    run_info = json.loads(connection.getresponse().read())["run"]["info"]
    subject.run_id = run_info["run_id"]
    subject.source = f"{run_info['artifact_uri']}/model"
    path = subject.source.removeprefix("mlflow-artifacts:/")
    connection.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}/MLmodel", MLMODEL)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{subject.server.name} did not take the model: {answer.status}")


def measure(subject: Subject, operation: Operation, clients: int, seconds: float, count: int) -> None:
    """One repetition of one cell."""
    requests = operation.requests(subject, count)
    done = subject.ask(requests, clients, seconds if operation.is_read else None)
    cell = operation.name, clients
    subject.rates.setdefault(cell, []).append(done.rate)
    subject.p50_ms.setdefault(cell, []).append(done.p50_ms)


def compare(ours: Subject, theirs: Subject, cells: Iterator[tuple[Operation, int]], verdicts: Verdicts) -> None:
    """The table, and whether each bound holds."""
    print(f"{'':16}{'clients':>8}{'ours/s':>10}{'mlflow/s':>10}{'ratio':>8}{'p50 ms':>8}{'mlflow':>8}")
    for operation, clients in cells:
        cell = operation.name, clients
        pairs = zip(ours.rates[cell], theirs.rates[cell], strict=True)
        ratio = median(mine / other for mine, other in pairs)
        print(
            f"{operation.name:16}{clients:8}{median(ours.rates[cell]):10.0f}{median(theirs.rates[cell]):10.0f}"
            f"{ratio:8.1f}{median(ours.p50_ms[cell]):8.2f}{median(theirs.p50_ms[cell]):8.2f}"
        )
        if operation.bound is not None:
            claim = f"{operation.name} at {clients}: {ratio:.1f} times mlflow (at least {operation.bound:.0f})"
            verdicts.check(ratio >= operation.bound, claim)


def read_latencies(ours: Subject, versions: int, seconds: float) -> dict[str, float]:
    """The median of each read in milliseconds, one client, on the first few models."""
    reads = [each for each in operations(FEW_MODELS, versions) if each.is_read]
    return {each.name: ours.ask(each.requests(ours, 0), 1, seconds).p50_ms for each in reads}


def check_growth(few: dict[str, float], many: dict[str, float], versions: int, verdicts: Verdicts) -> None:
    """Whether reads stay as quick with a hundred times the versions."""
    for name, before_ms in few.items():
        factor = many[name] / before_ms
        claim = f"{name} with {versions} versions: {factor:.2f} times as slow (at most {MAX_GROWTH_RATIO})"
        verdicts.check(factor <= MAX_GROWTH_RATIO, claim)


@click.command(help=__doc__)
@click.option("--models", default=1000, show_default=True, help="Registered models in both.")
@click.option("--versions", default=10, show_default=True, help="Versions of each.")
@click.option(
    "--large", default=10_000, show_default=True, help="Models in ours for the growth of reads; 0: leave out."
)
@click.option("--rounds", default=3, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Length of one repetition of a read.")
@click.option("--writes", default=300, show_default=True, help="Requests in one repetition of a write.")
@click.option(
    "--mlflow-python",
    type=click.Path(path_type=Path),
    default=os.environ.get("TURNOUT_MLFLOW3", ROOT / ".envs/mlflow3/bin/python"),
    help="An interpreter with mlflow 3.",
)
def main(models: int, versions: int, large: int, rounds: int, seconds: float, writes: int, mlflow_python: Path) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        ours = Subject(running.enter_context(turnout_server(folder)))
        theirs = Subject(running.enter_context(mlflow_server(folder, mlflow_python)))
        for each in (ours, theirs):
            log_run(each)
            fill(each, 0, FEW_MODELS, versions)
        few = read_latencies(ours, versions, seconds)
        for each in (ours, theirs):
            fill(each, FEW_MODELS, models - FEW_MODELS, versions)
        cells = list(product(operations(models, versions), (1, 16)))
        for _ in range(rounds):
            for operation, clients in cells:
                for each in (ours, theirs):
                    measure(each, operation, clients, seconds, writes if each is ours else writes // 4)
        compare(ours, theirs, iter(cells), verdicts)
        memory = {each.server.name: total_pss_mb(each.server.process.pid) for each in (ours, theirs)}
        print(f"memory of the process trees: {memory}")
        verdicts.check(memory[ours.server.name] <= MAX_MEMORY_MB, f"ours: {memory[ours.server.name]:.0f} MB")
        if large:
            fill(ours, models, large - models, versions)
            check_growth(few, read_latencies(ours, versions, seconds), large * versions, verdicts)
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
