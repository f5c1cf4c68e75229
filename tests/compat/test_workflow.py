"""MLflow's registry workflow with the unmodified clients of both majors: ours answers as a stock server does.

The judge is a stock `mlflow server`: the same script goes through the same steps against it and against ours,
and what the client got is compared field by field, identifiers and times aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.compat.servers import stock_server, turnout_server
from tests.compat.workflow.differences import DIFFERENCES, DIGEST, NOTHING
from tests.compat.workflow.steps import in_order

pytestmark = [pytest.mark.compat, pytest.mark.timeout(600)]  # the first test waits for all five walks

WALKS = ["stock-3", "stock-2", "sqlite-3", "sqlite-2", "postgresql-3"]
CASES = [
    pytest.param(walk, name, id=f"{walk}-{name}")
    for walk in WALKS
    if not walk.startswith("stock")
    for name, step in in_order()
    if int(walk[-1]) in step.majors and not (walk.startswith("postgresql") and step.starts_processes)
]


@pytest.fixture(scope="session")
def walks(mlflow3, mlflow2, postgres_cluster, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """What each step observed, by walk: the script against a server of its own, two walks at a time."""
    clients = {"3": mlflow3, "2": mlflow2}
    database = postgres_cluster.new_database("base")

    def walk(name: str) -> dict[str, Any]:
        kind, _, major = name.partition("-")
        folder = tmp_path_factory.mktemp(name)
        with contextlib.ExitStack() as stack:
            if kind == "stock":
                addresses = [stack.enter_context(stock_server(mlflow3, folder))]
            elif kind == "sqlite":
                addresses = [stack.enter_context(turnout_server(folder, f"sqlite:///{folder}/registry.db"))]
            else:  # two processes share the database, and the steps alternate between them
                addresses = [stack.enter_context(turnout_server(folder, database)) for _ in range(2)]
            return observe(clients[major], folder, addresses, "requests" if kind == "postgresql" else "all")

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(WALKS, pool.map(walk, WALKS), strict=True))


def observe(python: Path, folder: Path, addresses: list[str], wanted: str) -> dict[str, Any]:
    """Walk through the workflow under mlflow's interpreter."""
    work = folder / "client"
    work.mkdir()
    # A server error shows at once: the client's retries would make it a hang of minutes.
    environment = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [python, "-m", "workflow.driver", work, wanted, *addresses],
        capture_output=True,
        text=True,
        check=False,
        cwd=work,
        env=os.environ | environment | {"PYTHONPATH": str(Path(__file__).parent)},
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((work / "observed.json").read_text())


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path, without errors' messages (their codes stay) and without the tag that only we set."""
    if isinstance(value, dict):
        left_out = {DIGEST, "message"} if "error_code" in value else {DIGEST}
        parts = {key: part for key, part in value.items() if key not in left_out}
    elif isinstance(value, list):
        parts = dict(enumerate(value))
    else:
        return {path: value}
    leaves = [flat(part, f"{path}/{key}") for key, part in parts.items()]
    return {place: leaf for part in leaves for place, leaf in part.items()} or {path: type(value)()}


def on_purpose(walk: str, name: str) -> dict[str, tuple[Any, Any]]:
    """The listed differences of a step: each must be there, so the list cannot go stale."""
    return {
        found.path: (found.stock, found.ours)
        for found in DIFFERENCES
        if found.step == name and int(walk[-1]) in found.majors
    }


@pytest.mark.parametrize("major", ["3", "2"])
def test_a_stock_server_passes_every_step(walks, major):
    """The script itself is right: against MLflow's own server no step fails."""
    observed = walks[f"stock-{major}"]

    assert {name: seen["failed"] for name, seen in observed.items() if "failed" in seen} == {}


@pytest.mark.parametrize(("walk", "name"), CASES)
def test_the_client_gets_what_a_stock_server_gives(walks, walk, name):
    """Each value and each error code is the stock server's, but for the listed differences."""
    theirs, ours = flat(walks[f"stock-{walk[-1]}"][name]), flat(walks[walk][name])

    differing = {
        path: (theirs.get(path, NOTHING), ours.get(path, NOTHING))
        for path in theirs.keys() | ours.keys()
        if theirs.get(path, NOTHING) != ours.get(path, NOTHING)
    }

    assert differing == on_purpose(walk, name)


@pytest.mark.parametrize("walk", ["sqlite-3", "sqlite-2", "postgresql-3"])
def test_the_documents_source_is_refused_with_the_one_to_use(walks, walk):
    """`source="mlruns/0/…"` is answered with the URI that registers the same model."""
    refusal = walks[walk]["sources_that_are_refused"]["document"]

    assert refusal["error_code"] == "INVALID_PARAMETER_VALUE"
    assert "runs:/<1>/sklearn-model" in refusal["message"]


@pytest.mark.parametrize("walk", ["sqlite-3", "sqlite-2", "postgresql-3"])
def test_an_alias_that_differs_by_case_is_set_with_a_warning(walks, walk):
    """`Champion` beside `champion` is two aliases, and the answer's header says so."""
    seen = walks[walk]["aliases_that_differ_by_case"]

    assert seen["both"] == ["1", "2"]
    assert "Champion" in seen["warning"]
    assert "champion" in seen["warning"]
