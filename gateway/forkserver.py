"""Launches a fork server: the process that imports an environment's libraries once, for every replica.

It imports for about as long as the gateway takes to import itself, to open the registry and to listen. So `turnout
serve` launches the first one before anything else, and this module imports next to nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Self

from gateway.errors import LoadFailed
from registry import ENFORCEMENT, LOADER

LOCAL = Path(sys.executable), f"local python {platform.python_version()}"  # the gateway's own environment
WORKER = Path(__file__).with_name("worker")
STANDALONE = (
    *("accelerate", "ensembles", "frames", "lifetime", "parts", "peers", "replica", "samples", "tables", "timecard"),
    "trees",
)
FILES = {name: str(WORKER / f"{name}.py") for name in STANDALONE} | {
    "loader": str(LOADER),
    "enforcement": str(ENFORCEMENT),
}
# What a model of the scikit-learn flavor or a PythonModel imports while it is unpickled: a fork that finds it
# imported is ready in milliseconds.
PRELOAD = (
    *("ctypes", "threading", "traceback", "cloudpickle", "numpy", "pandas", "scipy.sparse", "joblib"),
    *(
        f"sklearn.{module}"
        for module in (
            *("base", "pipeline", "compose", "preprocessing", "impute", "linear_model", "ensemble", "tree", "svm"),
            *("neighbors", "naive_bayes", "decomposition", "cluster", "feature_extraction.text", "model_selection"),
            "neural_network",
        )
    ),
)
SECRET = re.compile(r"(?i)token|secret|passw|credential|_key$|apikey|auth")
SECRET_VALUE = re.compile(r"://[^/\s]*@")  # an address with a password in it
OURS = ("TURNOUT_", "MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "GCP_", "PG", "PYTHON", "DATABASE_")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# No library may start a thread before the fork: it would be missing in the replicas, with whatever it had locked.
THREADLESS = dict.fromkeys(ONE_THREAD, "1") | {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own pool costs every replica megabytes
}


class ForkServer:
    """A fork server that was launched, and the socket over which it is told what to do: once it is ready, it says so.

    It ends when the socket is closed, or when this process ends.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.control = control
        self._process = process

    @classmethod
    def launch(cls, python: Path, name: str) -> Self:
        """That of the environment *name*, under its interpreter. Raises `LoadFailed` when it could not be started."""
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.setblocking(False)
        options = {"control": theirs.fileno(), "parent": os.getpid(), "files": FILES, "preload": PRELOAD}
        with theirs:
            try:
                process = subprocess.Popen(
                    [python, "-I", "-u", str(WORKER / "main.py"), json.dumps(options)],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=scrubbed(dict(os.environ)),
                    process_group=0,  # Ctrl-C is for the gateway; it ends its replicas itself
                )
            except OSError as problem:
                control.close()
                raise LoadFailed(f"the fork server of {name} could not be started: {problem.strerror}") from None
        return cls(process, control)

    def end(self, farewell_s: float = 0.0) -> int:
        """Kill it, unless it ends by itself within so long; its status. Safe to call twice."""
        self.control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(farewell_s)
        self._process.kill()
        return self._process.wait()


def scrubbed(environment: dict[str, str]) -> dict[str, str]:
    """What a model may see of the environment: no credential of the registry, a database or a store."""
    kept = {
        name: value
        for name, value in environment.items()
        if not (name.startswith(OURS) or SECRET.search(name) or SECRET_VALUE.search(value))
    }
    return kept | THREADLESS
