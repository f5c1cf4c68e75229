"""The other servers that predictions are compared with, each as its documentation starts it, with one worker."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from servers import ROOT, Server, free_port, running

PYTHON = ROOT / ".envs/peers/bin/python"
# As MLServer's documentation of adaptive batching has them.
ADAPTIVE_BATCHING = {"max_batch_size": 1024, "max_batch_time": 0.001}


@contextlib.contextmanager
def litserve(folder: Path, model_file: Path, python: Path) -> Iterator[Server]:
    """`bench/litserve_app.py`."""
    command = [str(python), str(ROOT / "bench/litserve_app.py")]
    with running("litserve", lambda _: command, folder, {"MODEL_FILE": str(model_file)}) as server:
        yield server


@contextlib.contextmanager
def mlserver(folder: Path, model_file: Path, python: Path, *, batches: bool) -> Iterator[Server]:
    """`mlserver start` with its scikit-learn runtime and one worker process; it speaks the v2 protocol."""
    name = "mlserver-batching" if batches else "mlserver"
    home = folder / name
    home.mkdir()
    shutil.copy(model_file, home / "model.joblib")
    model = {
        "name": "bench",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    (home / "model-settings.json").write_text(json.dumps(model | (ADAPTIVE_BATCHING if batches else {})))

    def command(port: int) -> list[str]:
        ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings = {"host": "127.0.0.1", "parallel_workers": 1, "debug": False, **ports}
        (home / "settings.json").write_text(json.dumps(settings))
        return [str(python.with_name("mlserver")), "start", "."]

    path = "/v2/models/bench/infer"
    with running(name, command, home, {}, ready="/v2/models/bench/ready", path=path, speaks_v2=True) as server:
        yield server
