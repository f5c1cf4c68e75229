"""Hundreds of endpoints in one gateway: all of them warm, then under a memory limit that holds a few.

Every answer is compared with its own model's. Exits 1 when a bound is missed.
"""

from __future__ import annotations

import place  # noqa: F401  # before anything that imports the product

# isort: split

import http.client
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import click
import models
from processes import of_session, total_pss_mb
from servers import Server, ask, registry_uri, status, turnout
from verdicts import Verdicts

import registry

MAX_WARM_MB = 4000.0
MAX_FIRST_LOAD_MS = 100.0
START_LIMIT_S = 600.0
CLIENTS = 8
BODY = models.request_body(1)


class Client:
    """One keep-alive connection that knows what each model must answer."""

    def __init__(self, port: int, expected: Sequence[float]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._expected = expected
        self.failures: list[str] = []

    def predict(self, number: int) -> float:
        """Ask one endpoint; the milliseconds that it took."""
        begun_s = monotonic()
        headers = {"Content-Type": "application/json"}
        self._connection.request("POST", f"/endpoints/m{number}/invocations", BODY, headers)
        response = self._connection.getresponse()
        text = response.read()
        taken_ms = (monotonic() - begun_s) * 1000
        if response.status != 200 or abs(json.loads(text)["predictions"][0] - self._expected[number]) > 1e-6:
            self.failures.append(f"m{number}: {response.status} {text[:200]!r}")
        return taken_ms


def register(folder: Path, count: int) -> list[float]:
    """As many registered models, and a configuration file with an endpoint for each; what each must answer."""
    client = registry.connect(registry_uri(folder))
    directory, expected = folder / "model", []
    for number in range(count):
        model = models.linear(shift=float(number))
        models.save(directory / str(number), model)
        registry.register_model(str(directory / str(number)), f"m{number}", client=client)
        client.set_registered_model_alias(f"m{number}", "champion", 1)
        expected += models.predictions(model, 1)
    sections = [f'[endpoints.m{number}]\nmodel = "models:/m{number}@champion"\n' for number in range(count)]
    (folder / "turnout.toml").write_text("".join(sections))
    return expected


def states(server: Server) -> dict[str, str]:
    return {each["name"]: each["state"] for each in status(server.port)["endpoints"]}


def wait_until_warm(server: Server) -> None:
    give_up_s = monotonic() + START_LIMIT_S
    while set(states(server).values()) != {"serving"}:
        if monotonic() > give_up_s:
            raise SystemExit(f"not all endpoints serve after {START_LIMIT_S:.0f} s\n{server.log_tail}")
        sleep(0.5)


def use_all(server: Server, expected: Sequence[float], rounds: int) -> list[str]:
    """Several clients ask every endpoint in an order of their own; what failed."""

    def run(seed: int) -> list[str]:
        client, order = Client(server.port, expected), list(range(len(expected)))
        for _ in range(rounds):
            random.Random(seed).shuffle(order)
            for number in order:
                client.predict(number)
        return client.failures

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [failure for failures in pool.map(run, range(CLIENTS)) for failure in failures]


def first_loads_ms(server: Server, expected: Sequence[float], count: int) -> list[float]:
    """How long the first request to a sleeping endpoint waits, one after another."""
    client, taken = Client(server.port, expected), []
    for _ in range(count):
        asleep = [int(name[1:]) for name, state in states(server).items() if state == "idle"]
        taken.append(client.predict(random.choice(asleep)))
    if client.failures:
        raise SystemExit(f"first loads failed: {client.failures[:5]}\n{server.log_tail}")
    return taken


def measured_bytes(server: Server) -> int:
    """What the loaded models hold, as the gateway measures it."""
    lines = ask(server.port, "/metrics")[1].decode().splitlines()
    return int(float(next(each for each in lines if each.startswith("turnout_models_memory_bytes ")).split()[1]))


@click.command(help=__doc__)
@click.option("--endpoints", "count", default=300, show_default=True)
@click.option("--holds", default=20, show_default=True, help="How many models the memory limit holds.")
@click.option("--rounds", default=3, show_default=True, help="How often every endpoint is asked by every client.")
@click.option("--first-loads", default=200, show_default=True, help="How many of them are timed.")
def main(count: int, holds: int, rounds: int, first_loads: int) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
        folder = Path(name)
        expected = register(folder, count)
        with turnout(folder, [], ["--config", "turnout.toml"]) as server:
            wait_until_warm(server)
            failures = use_all(server, expected, 1)
            total = total_pss_mb(server.process.pid)
            verdicts.check(not failures, f"{count} warm endpoints: {len(failures)} failed requests {failures[:3]}")
            verdicts.check(total < MAX_WARM_MB, f"{count} warm endpoints: {total:.0f} MB PSS < {MAX_WARM_MB:.0f}")
        with turnout(folder, [], ["--config", "turnout.toml", "--models-memory", "1000GB"]) as server:
            probe = Client(server.port, expected)
            for number in range(holds):
                probe.predict(number)
            sleep(6)  # the gateway measures every five seconds
            limit = measured_bytes(server)
        with turnout(folder, [], ["--config", "turnout.toml", "--models-memory", f"{limit}B"]) as server:
            failures = use_all(server, expected, rounds)
            awake = sum(state != "idle" for state in states(server).values())
            waits = first_loads_ms(server, expected, first_loads)
            processes = len(of_session(server.process.pid))
        verdicts.check(not failures, f"a limit of {limit >> 20} MiB: {len(failures)} failed requests {failures[:3]}")
        verdicts.check(awake <= holds * 1.5, f"a limit for {holds}: {awake} were awake, {processes} processes")
        wait = median(waits)
        verdicts.check(wait < MAX_FIRST_LOAD_MS, f"first load: median {wait:.0f} ms < {MAX_FIRST_LOAD_MS:.0f}")
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
