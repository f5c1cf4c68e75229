"""Many clients at once on one registry server: mixed reads, writes, uploads and waits, for a minute.

Every answer must be right in kind, and the memory of the server's processes must not grow. Exits 1 otherwise.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

import click
import httpx2
from processes import total_pss_mb
from servers import turnout_server
from verdicts import Verdicts

API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
MODELS = 20
MAX_GROWTH = 1.15  # what the caches of a database and an allocator may still take after the first third
SAMPLE_S = 1.0


@dataclass(slots=True)
class Tally:
    """What came back so far; written by the clients of one event loop."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Client:
    """One user: a connection of its own, and a dice."""

    def __init__(self, number: int, http: httpx2.AsyncClient, run: dict[str, Any], tally: Tally) -> None:
        self._dice = random.Random(number)
        self._number = number
        self._http = http
        self._run = run
        self._tally = tally
        self._made = 0

    async def work(self, until_s: float) -> None:
        tasks = [
            self.read,
            self.read,
            self.read,
            self.search,
            self.alias,
            self.version,
            self.upload,
            self.metric,
            self.wait,
        ]
        while monotonic() < until_s:
            await self._dice.choice(tasks)()

    async def read(self) -> None:
        name = self._some_model()
        path = self._dice.choice(
            ["registered-models/get", "registered-models/alias", "registered-models/get-latest-versions"]
        )
        await self._ask("GET", f"{API}/{path}?name={name}&alias=champion")

    async def search(self) -> None:
        await self._ask(
            "GET",
            f"{API}/registered-models/search?max_results=20&filter={quote('name LIKE ' + chr(39) + 'm%' + chr(39))}",
        )

    async def alias(self) -> None:
        body = {"name": self._some_model(), "alias": "champion", "version": str(self._dice.randint(1, 3))}
        await self._ask("POST", f"{API}/registered-models/alias", body)

    async def version(self) -> None:
        source = {"source": f"{self._run['artifact_uri']}/model", "run_id": self._run["run_id"]}
        await self._ask("POST", f"{API}/model-versions/create", {"name": self._some_model()} | source)

    async def upload(self) -> None:
        self._made = (self._made + 1) % 5
        root = self._run["artifact_uri"].removeprefix("mlflow-artifacts:/")
        path = f"{ARTIFACTS}/{root}/files/{self._number}-{self._made}.bin"
        content = self._dice.randbytes(100_000)
        await self._ask("PUT", path, content=content)
        if (await self._ask("GET", path)).content != content:
            self._tally.wrong.append(f"{path} came back changed")

    async def metric(self) -> None:
        body = {"run_id": self._run["run_id"], "key": f"m{self._number}", "value": self._dice.random(), "timestamp": 1}
        await self._ask("POST", f"{API}/runs/log-metric", body)

    async def wait(self) -> None:
        await self._ask("GET", "/api/turnout/v1/changes?timeout=0.5")

    def _some_model(self) -> str:
        return f"m{self._dice.randrange(MODELS)}"

    async def _ask(self, method: str, path: str, body: object = None, content: bytes | None = None) -> httpx2.Response:
        answer = await self._http.request(method, path, json=body, content=content)
        self._tally.answers[f"{method} {path.split('?', maxsplit=1)[0].rsplit('/', 2)[-2]}"] += 1
        if answer.status_code != 200:
            self._tally.wrong.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer


async def fill(http: httpx2.AsyncClient) -> dict[str, Any]:
    """Models with three versions each, from one run's model; gives the run."""
    run = (await http.post(f"{API}/runs/create", json={"experiment_id": "0"})).json()["run"]["info"]
    root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    await http.put(f"{ARTIFACTS}/{root}/model/MLmodel", content=b"flavors: {}\n")
    for number in range(MODELS):
        await http.post(f"{API}/registered-models/create", json={"name": f"m{number}"})
        for _ in range(3):
            source = {"source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
            await http.post(f"{API}/model-versions/create", json={"name": f"m{number}"} | source)
        body = {"name": f"m{number}", "alias": "champion", "version": "1"}
        (await http.post(f"{API}/registered-models/alias", json=body)).raise_for_status()
    return run


async def soak(port: int, session: int, clients: int, seconds: float) -> tuple[Tally, list[float]]:
    """The load, and the memory of the server's processes each second."""
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    tally, memory = Tally(), []
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", limits=limits, timeout=60) as http:
        run = await fill(http)
        until_s = monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(Client(number, http, run, tally).work(until_s))
            while monotonic() < until_s:
                memory.append(await asyncio.to_thread(total_pss_mb, session))
                await asyncio.sleep(SAMPLE_S)
    return tally, memory


@click.command(help=__doc__)
@click.option("--clients", default=200, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
def main(clients: int, seconds: float) -> None:
    verdicts = Verdicts()
    with tempfile.TemporaryDirectory() as name, turnout_server(Path(name)) as server:
        tally, memory = asyncio.run(soak(server.port, server.process.pid, clients, seconds))
    print(f"{sum(tally.answers.values())} answers: {dict(tally.answers)}")
    print("memory in MB:", " ".join(f"{each:.0f}" for each in memory))
    verdicts.check(not tally.wrong, f"{len(tally.wrong)} wrong answers {tally.wrong[:3]}")
    third = len(memory) // 3
    growth = max(memory[2 * third :]) / max(memory[third : 2 * third])
    verdicts.check(growth <= MAX_GROWTH, f"memory: last third {growth:.2f} times the second (at most {MAX_GROWTH})")
    sys.exit(verdicts.finish())


if __name__ == "__main__":
    main()
