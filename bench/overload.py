"""Five times what a gateway can do: it goes on doing what it can, refuses the rest at once, and recovers.

For a model that is the bottleneck, and for one so quick that the gateway is: the capacity in a closed loop, then an
open loop of five times that with health probes beside it, then the closed loop again. The gateway and its replica have
one core, the generators and the probes the others, so that a flood of requests takes nothing but what it asks for.
Exits 1 when a bound is missed.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import contextlib
import http.client
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import click
import models
from load import Load, Result, RunningLoad, percentile, read_records
from processes import rss_mb
from servers import Endpoint, Server, ask, registry_uri, turnout
from verdicts import Verdicts

import registry

FACTOR = 5.0
MIN_GOODPUT = 0.8
MAX_REFUSAL_MS = 50.0
MAX_HEALTH_MS = 50.0
MAX_GROWTH_MB = 50.0
MAX_RECOVERY_S = 2.0
FULL_SPEED = 0.9  # of the capacity, for as long as a window
WINDOW_S = 0.25
PROBE_S = 0.05
PROBED = ("/ping", "/status", "/metrics")
DEADLINE_S = 2.0
GENERATORS = 2
CONNECTIONS = 256  # of each generator: together more than may wait, so that a slow model has to refuse
NICENESS = 10  # of the generators, so that the probes need not wait for them
WARM_S = 1.0

MODELS = {"slow model": lambda: models.Sleeps(0.004), "quick model": models.linear}


@dataclass(slots=True)
class Probes:
    """What somebody sees who asks for the gateway's health, each time on a connection of its own."""

    port: int
    pid: int
    latencies_ms: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PROBED})
    memory_mb: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        stop = Event()
        thread = Thread(target=self._probe, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _probe(self, stop: Event) -> None:
        while not stop.is_set():
            for path in PROBED:
                begun_s = monotonic()
                try:
                    status, _ = ask(self.port, path)
                except (OSError, http.client.HTTPException) as problem:
                    self.failures.append(f"{path}: {problem!r}")
                    continue
                self.latencies_ms[path].append((monotonic() - begun_s) * 1000)
                if status != 200:
                    self.failures.append(f"{path}: {status}")
                stop.wait(PROBE_S)
            self.memory_mb.append(rss_mb(self.pid))


@dataclass(frozen=True, slots=True)
class Bench:
    """One gateway with one model under test."""

    name: str
    folder: Path
    server: Server
    load: Load
    verdicts: Verdicts

    def check(self, holds: bool, claim: str) -> None:
        self.verdicts.check(holds, f"{self.name}: {claim}")

    def closed(self, seconds: float) -> RunningLoad:
        return RunningLoad(self._load(seconds=seconds, connections=32, records=str(self.folder / "records")))

    def open(self, seconds: float, rate: float) -> list[RunningLoad]:
        share = self._load(seconds=seconds, connections=CONNECTIONS, rate=rate / GENERATORS, niceness=NICENESS)
        return [RunningLoad(share) for _ in range(GENERATORS)]

    def _load(self, **changes: object) -> Load:
        return Load(**{name: getattr(self.load, name) for name in self.load.__struct_fields__} | changes)


def measure(bench: Bench, seconds: float) -> None:
    """The three stretches and what is to be said of them."""
    bench.closed(WARM_S).wait()
    calm = bench.closed(min(seconds, 10.0)).wait()
    capacity = calm.requests_per_second
    print(f"        {bench.name}: {capacity:.0f}/s at full speed, p99 {calm.percentiles['p99']:.1f} ms")
    probes = Probes(bench.server.port, bench.server.process.pid)
    with probes.beside():
        results = [each.wait() for each in bench.open(seconds, FACTOR * capacity)]
    ended_s = monotonic()
    judge(bench, results, capacity)
    judge_probes(bench, probes)
    judge_recovery(bench, capacity, ended_s)


def judge(bench: Bench, results: list[Result], capacity: float) -> None:
    """Goodput, and how soon whoever was answered or refused heard of it."""
    answered, refused, unsent = (
        sum(getattr(each, name) for each in results) for name in ("answered", "refused", "unsent")
    )
    seconds = max(each.seconds for each in results)
    due = (answered + refused + unsent) / seconds / capacity
    counts = f"{answered} answered, {refused} refused, {unsent} never sent, for no connection was free"
    print(f"        {bench.name}: {due:.1f} times the capacity fell due: {counts}")
    failed = {kind: count for each in results for kind, count in each.errors.items()}
    bench.check(not failed, f"everything is answered, or refused with Retry-After {failed}")
    ratio = answered / seconds / capacity
    bench.check(ratio >= MIN_GOODPUT, f"goodput {ratio:.2f} of the capacity (at least {MIN_GOODPUT})")
    p99_ms = max(each.percentiles["p99"] for each in results)
    bench.check(p99_ms <= DEADLINE_S * 1000, f"p99 of the accepted {p99_ms:.0f} ms (at most {DEADLINE_S * 1000:.0f})")
    refusal_ms = max(each.refusal_percentiles.get("p99", 0.0) for each in results)
    bench.check(not refused or refusal_ms <= MAX_REFUSAL_MS, f"p99 of refusals {refusal_ms:.0f} ms ({MAX_REFUSAL_MS})")


def judge_probes(bench: Bench, probes: Probes) -> None:
    """Health, and memory: what was there in the beginning is not growth."""
    bench.check(not probes.failures, f"every probe was answered {probes.failures[:3]}")
    for path, latencies_ms in probes.latencies_ms.items():
        worst_ms, p99_ms = max(latencies_ms), percentile(sorted(latencies_ms), 0.99)
        bench.check(
            p99_ms <= MAX_HEALTH_MS, f"{path} p99 {p99_ms:.0f} ms, worst {worst_ms:.0f} (at most {MAX_HEALTH_MS})"
        )
    half = len(probes.memory_mb) // 2
    growth_mb = max(probes.memory_mb[half:]) - max(probes.memory_mb[: max(1, half)])
    bench.check(growth_mb <= MAX_GROWTH_MB, f"memory grew by {growth_mb:.0f} MB in the second half ({MAX_GROWTH_MB})")


def judge_recovery(bench: Bench, capacity: float, ended_s: float) -> None:
    """When, after the last of the overload, so many are answered again as before it."""
    running = bench.closed(MAX_RECOVERY_S * 2)
    result = running.wait()
    done = read_records(running.load.records, result.answered).done
    wanted = max(1, int(capacity * FULL_SPEED * WINDOW_S))
    full = next((late for early, late in zip(done, done[wanted - 1 :], strict=False) if late - early <= WINDOW_S), None)
    took_s = float("inf") if full is None else full - max(ended_s, running.started_s)
    bench.check(took_s <= MAX_RECOVERY_S, f"full speed again after {took_s:.2f} s (at most {MAX_RECOVERY_S})")
    bench.check(not result.failures, f"nothing fails or is refused then {result.errors}")


@contextlib.contextmanager
def apart(start: contextlib.AbstractContextManager[Server]) -> Iterator[Server]:
    """A server with one core for itself, while this process and what it starts keep to the others."""
    cores = os.sched_getaffinity(0)
    first, *others = sorted(cores)
    os.sched_setaffinity(0, {first})
    try:
        with start as server:
            os.sched_setaffinity(0, others or cores)
            yield server
    finally:
        os.sched_setaffinity(0, cores)


def prepare(name: str, folder: Path) -> Load:
    """Register the model, and give the request that it is asked with."""
    model = MODELS[name]()
    client = registry.connect(registry_uri(folder))
    models.save(folder / "model", model)
    registry.register_model(str(folder / "model"), "bench", client=client)
    client.set_registered_model_alias("bench", "champion", 1)
    right = [1.0] if isinstance(model, models.Sleeps) else models.predictions(model, 1)
    return Load(
        port=0, path="/invocations", body=models.request_body(1), connections=1, seconds=1.0,
        expected={"1": right}, refusable=True,
    )  # fmt: skip


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True, help="Length of the overload.")
@click.option("--model", "names", multiple=True, type=click.Choice(list(MODELS)), help="Only this one; repeatable.")
def main(seconds: float, names: tuple[str, ...]) -> None:
    verdicts = Verdicts()
    for name in names or MODELS:
        with tempfile.TemporaryDirectory(prefix="turnout-bench-") as path:
            folder = Path(path)
            load = prepare(name, folder)
            options = ["--predict-timeout", f"{DEADLINE_S:.0f}s"]
            with apart(turnout(folder, [Endpoint("bench", "models:/bench@champion")], options)) as server:
                load.port = server.port
                measure(Bench(name, folder, server, load, verdicts), seconds)
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
