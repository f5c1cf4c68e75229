"""Numbers that JSON lacks, logged and read back by the real clients."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from registry.connection import connect
from tests.registry.serving import served

pytestmark = pytest.mark.compat

SCRIPT = Path(__file__).parent / "mlflow_numbers.py"
# A stock server keeps the largest numbers in the place of the infinities.
AS_STOCK = {
    "nan": "nan",
    "infinity": "1.7976931348623157e+308",
    "negative": "-1.7976931348623157e+308",
    "tiny": "5e-324",
    "whole": "3.0",
}


@pytest.mark.parametrize("client", ["mlflow3", "mlflow2"])
def test_odd_numbers_come_back_as_from_a_stock_server(
    client: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """NaN is NaN in a run and in its history, and an infinity is the largest number."""
    python: Path = request.getfixturevalue(client)

    with connect(f"sqlite:///{tmp_path / 'registry.db'}") as registry, served(registry) as (host, port):
        command = [python, SCRIPT, f"http://{host}:{port}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"latest": AS_STOCK, "history": AS_STOCK}
