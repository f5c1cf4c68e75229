"""Alias moves under load: nothing fails, nothing is wrong, nothing comes from a version that was left.

Three stretches: (a) closed-loop clients, the alias moved as soon as /status shows the last move served; (b) the
same with a move every second, served or not; (c) a fixed rate of 30 % of the capacity, with and without moves
in turns. Then the three again with every second version broken. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import median
from time import sleep

import click
import models
from load import Load, Records, RunningLoad, percentile, read_records, run
from moves import Mover
from processes import of_session
from servers import Endpoint, Server, registry_uri, status, turnout
from verdicts import Verdicts

import registry

NAME, ALIAS = "bench", "champion"
GOOD = 4
MAX_P99_RATIO = 1.5
MAX_MEDIAN_MS = 150.0
CAPACITY_SHARE = 0.3
SETTLE_LIMIT_S = 30.0
QUIET_END_S = 1.0  # nobody moves in the last second of a stretch, so that the last one can win
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Versions:
    """What was registered: versions that work, their right answers, and versions broken on purpose."""

    good: list[int]
    expected: dict[str, list[float]]
    broken: list[int]

    def in_turn(self, with_broken: bool) -> Iterator[int]:
        """Endless; the first good one is what the alias points at in the beginning."""
        broken = cycle(self.broken)
        for good in cycle(self.good[1:] + self.good[:1]):
            if with_broken:
                yield next(broken)
            yield good


@dataclass(slots=True)
class Bench:
    """One gateway under test, and what is known about it."""

    folder: Path
    server: Server
    mover: Mover
    versions: Versions
    clients: int
    verdicts: Verdicts
    body: str

    def load(self, seconds: float, rate: float | None = None) -> Load:
        return Load(
            port=self.server.port, path="/invocations", body=self.body, connections=self.clients,
            seconds=seconds, rate=rate, expected=self.versions.expected, records=str(self.folder / "records"),
        )  # fmt: skip

    def finish(self, running: RunningLoad, title: str) -> Records:
        """Wait for the load and judge every answer."""
        result = running.wait()
        records = read_records(running.load.records, result.answered)
        shown = ", ".join(f"{name} {result.percentiles[name]:.1f} ms" for name in ("p50", "p99", "max"))
        print(f"        {title}: {result.answered} answers, {result.requests_per_second:.0f}/s, {shown}")
        self.verdicts.check(not result.failures, f"{title}: {result.failures} failed or wrong {result.samples}")
        if result.failures:
            print(self.server.log_tail)
        self.no_stale(records, title)
        return records

    def no_stale(self, records: Records, title: str) -> None:
        stale = self.mover.timeline.stale(records) + self.mover.timeline.went_back
        self.verdicts.check(not stale, f"{title}: {len(stale)} from a version left behind {stale[:3]}")


def register(client: registry.Registry, folder: Path) -> Versions:
    """Register the versions in the order good, broken, good, broken."""
    expected, good, broken = {}, [], []
    breaking = [models.Raises(), models.Hangs(), models.Exits(), None]
    for number in range(GOOD):
        model = models.linear(shift=10.0 * number)
        good.append(_add(client, folder / f"good{number}", model))
        expected[str(good[-1])] = models.predictions(model, 1)
        before = set((folder / "artifacts").rglob("*"))
        wrecked = breaking[number] or models.linear(shift=-1000.0)
        broken.append(_add(client, folder / f"broken{number}", wrecked))
        if breaking[number] is None:
            _corrupt(set((folder / "artifacts").rglob("*")) - before)
    client.set_registered_model_alias(NAME, ALIAS, good[0])
    return Versions(good, expected, broken)


def _add(client: registry.Registry, directory: Path, model: object) -> int:
    models.save(directory, model)
    return int(registry.register_model(str(directory), NAME, client=client).version)


def _corrupt(files: set[Path]) -> None:
    """Flip a bit in the model's own file, as it lies in the artifact root."""
    pickled = next(each for each in files if each.suffix == ".pkl")
    content = bytearray(pickled.read_bytes())
    content[len(content) // 2] ^= 1
    pickled.chmod(0o644)
    pickled.write_bytes(content)


def one_after_another(bench: Bench, seconds: float, order: Iterator[int], title: str) -> None:
    """(a) The next move as soon as the last one is served, or known to have failed."""
    running = RunningLoad(bench.load(seconds))
    moved = 0
    while running.left_s > QUIET_END_S:
        bench.mover.move(next(order))
        moved += 1
        if not bench.mover.settle(SETTLE_LIMIT_S):
            bench.verdicts.check(False, f"{title}: move to {bench.mover.current.version} not settled")
            break
    bench.finish(running, f"{title} {moved} moves")
    rest(bench, order, title)


def every_second(bench: Bench, seconds: float, order: Iterator[int], title: str) -> None:
    """(b) A move every second whether the last one is served or not."""
    running = RunningLoad(bench.load(seconds))
    due_s, moved = running.left_s, 0
    while running.left_s > QUIET_END_S:
        if running.left_s <= due_s:
            bench.mover.move(next(order))
            moved += 1
            due_s -= 1.0
        bench.mover.look()
        sleep(0.005)
    bench.finish(running, f"{title} {moved} moves")
    rest(bench, order, title)


def rest(bench: Bench, order: Iterator[int], title: str) -> None:
    """Move on to a good version, and see that the last move won and nothing was left behind."""
    while bench.mover.current.version not in bench.versions.good:
        bench.mover.move(next(order))
    settled = bench.mover.settle(SETTLE_LIMIT_S)
    served = bench.mover.current.version
    bench.verdicts.check(settled, f"{title}: the last move won, version {served} is served")


def capacity(bench: Bench, seconds: float) -> float:
    """Requests a second of closed-loop clients while nothing moves."""
    return run(bench.load(seconds)).requests_per_second


def fixed_rate(bench: Bench, seconds: float, pairs: int, order: Iterator[int], title: str) -> tuple[float, list[float]]:
    """(c) Stretches without and with moves in turns; gives p99 with over p99 without, and the swaps' times."""
    rate = CAPACITY_SHARE * capacity(bench, min(5.0, seconds / 4))
    latencies: dict[bool, list[float]] = {False: [], True: []}
    swaps: list[float] = []
    for moves in [False, True] * pairs:
        before = len(bench.mover.timeline.moves)
        running = RunningLoad(bench.load(seconds / pairs / 2, rate))
        _each_second(bench, running, order if moves else None)
        records = bench.finish(running, f"{title} {'with' if moves else 'without'} moves")
        latencies[moves].extend(records.latencies)
        good = [each for each in bench.mover.timeline.moves[before:] if each.version in bench.versions.good]
        swaps.extend(records.first_of(each.version, each.begun_s) - each.begun_s for each in good)
        rest(bench, order, title)
    with_moves, without = (percentile(sorted(latencies[each]), 0.99) for each in (True, False))
    print(f"        {title}: p99 {with_moves * 1000:.2f} ms with moves, {without * 1000:.2f} ms without")
    return with_moves / without, swaps


def _each_second(bench: Bench, running: RunningLoad, order: Iterator[int] | None) -> None:
    """A move every second, if any, and half a second later a look at /status."""
    due_s = running.left_s
    while running.left_s > QUIET_END_S:
        if order is not None:
            bench.mover.move(next(order))
        due_s -= 0.5
        sleep(max(0.0, running.left_s - due_s))
        bench.mover.look()
        due_s -= 0.5
        sleep(max(0.0, running.left_s - due_s))


def stretches(bench: Bench, seconds: float, pairs: int, with_broken: bool) -> None:
    """(a), (b) and (c), with their bounds."""
    kind = "every second version broken" if with_broken else "good versions"
    print(f"\n{kind}")
    order = bench.versions.in_turn(with_broken)
    one_after_another(bench, seconds, order, "(a)")
    every_second(bench, seconds, order, "(b)")
    ratio, swaps = fixed_rate(bench, seconds, pairs, order, "(c)")
    swap_ms = median(swaps) * 1000 if swaps else float("nan")
    shown = f"(c): p99 with moves {ratio:.2f} times p99 without"
    took = f"(c): alias commit, with itself, to first answer, median of {len(swaps)}: {swap_ms:.0f} ms"
    if with_broken:
        print(f"        {shown}; {took}")
        return
    bench.verdicts.check(ratio <= MAX_P99_RATIO, f"{shown} (at most {MAX_P99_RATIO})")
    bench.verdicts.check(swap_ms <= MAX_MEDIAN_MS, f"{took} (at most {MAX_MEDIAN_MS:.0f})")


@click.command(help=__doc__)
@click.option("--seconds", default=60.0, show_default=True, help="Length of each stretch.")
@click.option("--pairs", default=3, show_default=True, help="How often (c) changes between without and with moves.")
@click.option("--clients", default=32, show_default=True)
@click.option("--http-workers", default=1, show_default=True, help="Ingress processes of the gateway.")
@click.option("--env-manager", default="local", show_default=True, type=click.Choice(["local", "uv"]))
@click.option("--load-timeout", default="2s", show_default=True, help="What a version that hangs is given.")
def main(seconds: float, pairs: int, clients: int, http_workers: int, env_manager: str, load_timeout: str) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
        folder = Path(name)
        client = registry.connect(registry_uri(folder))
        versions = register(client, folder)
        endpoint = Endpoint(NAME, f"models:/{NAME}@{ALIAS}")
        options = ["--load-timeout", load_timeout, "--http-workers", str(http_workers), "--env-manager", env_manager]
        with turnout(folder, [endpoint], options) as server:
            while len(status(server.port)["http_workers"]) < http_workers:
                sleep(POLL_S)
            mover = Mover(client, NAME, ALIAS, server.port)
            bench = Bench(folder, server, mover, versions, clients, verdicts, models.request_body(1))
            capacity(bench, min(2.0, seconds))
            before = len(of_session(server.process.pid))
            for with_broken in (False, True):
                stretches(bench, seconds, pairs, with_broken)
            sleep(QUIET_END_S)
            after = len(of_session(server.process.pid))
            verdicts.check(after <= before, f"processes in the end: {after}, in the beginning {before}")
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
