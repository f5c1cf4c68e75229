"""A server whose registry the real mlflow clients have written to."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from registry.connection import connect
from registry.core import ServedRegistry
from tests.registry.serving import served

WRITER = Path(__file__).with_name("written_by_mlflow.py")
WRITES_WITHIN_S = 150


@dataclass(frozen=True)
class Written:
    """What one client wrote: an experiment, its runs, and their logged models where the client has such."""

    experiment: str
    runs: list[str]
    models: list[str]


@dataclass(frozen=True)
class Seeded:
    """A server and what is in it."""

    registry: ServedRegistry
    address: str
    by_3: Written
    by_2: Written

    @property
    def pages(self) -> list[str]:
        """An address of every kind of page, with its forms open and shut."""
        first, second = self.by_3.runs[:2]
        return [
            "/",
            "/?edit=create",
            "/?q=colour = 'red'",
            "/models/risk",
            "/models/risk?edit=alias-2",
            "/models/risk?edit=description",
            "/models/risk?edit=tag",
            "/models/risk?edit=rename",
            "/models/risk/delete",
            "/models/risk/aliases/champion/rollback",
            "/models/risk/compare?a=1&b=2",
            "/models/risk/versions/1?path=MLmodel",
            "/models/risk/versions/1/promote",
            "/models/risk/versions/1/delete",
            f"/runs/{first}?model={self.by_3.models[0]}",
            f"/runs/{first}?path=weights.csv",
            f"/runs/{first}?path=plots/residuals.png",
            f"/runs/{self.by_2.runs[0]}?path=model",
            f"/runs/{first}/metrics?key=loss",
            f"/logged-models/{self.by_3.models[0]}",
            f"/register?model={self.by_3.models[0]}",
            "/experiments",
            f"/experiments/{self.by_3.experiment}",
            f"/compare-runs?run={first}&run={second}",
            "/nowhere",
        ]


@contextmanager
def seeded(folder: Path, mlflow3: Path, mlflow2: Path) -> Iterator[Seeded]:
    """Models, versions, aliases that went to and fro, and a gateway that serves one of them."""
    with connect(f"sqlite:///{folder}/registry.db") as registry, served(registry) as (host, port):
        address = f"http://{host}:{port}"
        with _writing(mlflow3, address, 2) as first, _writing(mlflow2, address, 1) as second:
            by_3, by_2 = _finish(first), _finish(second)
        _organize(registry)
        yield Seeded(registry, address, by_3, by_2)


@contextmanager
def _writing(python: Path, address: str, runs: int) -> Iterator[subprocess.Popen[str]]:
    command = [str(python), str(WRITER), address, str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        try:
            yield writer
        finally:
            writer.kill()


def _finish(writer: subprocess.Popen[str]) -> Written:
    output, errors = writer.communicate(timeout=WRITES_WITHIN_S)
    assert writer.returncode == 0, errors
    return Written(**json.loads(output.splitlines()[-1]))


def _organize(registry: ServedRegistry) -> None:
    description = (
        "Progression of diabetes within a year.\n\n* trained **monthly**\n* [the wiki](https://wiki.example)\n"
    )
    registry.update_registered_model("risk", description)
    registry.set_registered_model_tag("risk", "team", "risk")
    registry.set_model_version_tag("risk", 1, "validated", "yes")
    for version, reason in ((1, "the first"), (2, "retrained on October"), (1, "worse on the newest month")):
        registry.set_registered_model_alias("risk", "champion", version, reason=reason)
    registry.set_registered_model_alias("risk", "challenger", 2)
    for name in ("churn", "fraud-cards", "prices"):
        registry.create_registered_model(name)
