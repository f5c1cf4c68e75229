"""A real `turnout server` process, driven as its users drive it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import httpx2

START_TIMEOUT_S = 60
API = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class RegistryServer:
    """`turnout server` on a registry's address; starts at once, `close` ends it."""

    def __init__(self, folder, uri, *arguments, port=None, environment=None):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / f"server-{self.port}.log"
        command = [sys.executable, "-m", "gateway", "server", "--registry-uri", uri, "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | (environment or {}),
            )
        self.client = httpx2.Client(base_url=self.url, timeout=30)

    def ready(self):
        """Wait until it answers."""
        give_up = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < give_up:
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(httpx2.HTTPError):
                if self.client.get("/health").status_code == 200:
                    return self
            time.sleep(0.02)
        raise AssertionError(self.log())

    def log(self):
        return self._log.read_text(errors="replace")

    def kill(self):
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self):
        """End it as an operator does; gives its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def close(self):
        self.client.close()
        if self.process.poll() is None:
            self.kill()

    def log_model_of_run(self):
        """A run with one small model: the fields that make a version from it."""
        run = self.client.post(f"{API}/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]
        root = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
        path = f"{ARTIFACTS}/{root}/model/MLmodel"
        self.client.put(path, content=b"flavors: {}\n").raise_for_status()
        return {"source": f"{run['artifact_uri']}/model", "run_id": run["run_id"]}
