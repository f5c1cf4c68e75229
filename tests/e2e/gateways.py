"""A real gateway process, driven as its users drive it, and models that behave as told."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import psutil
import pytest

import registry

START_TIMEOUT_S = 90
SETTLE_TIMEOUT_S = 30

# Classes that live in __main__ travel inside the pickle, as those of a training script do.
MODEL_SOURCE = '''
import os, sys, time

class Behaving({base}):
    """Answers its number; does what the input, or its own constructor, says."""

    def __init__(self, number, on_load="nothing"):
        self.number, self.on_load = number, on_load

    def load_context(self, context):
        self.act(self.on_load)

    def predict(self, context, model_input, params=None):
        word = model_input["do"].iloc[0]
        self.act(word)
        if word == "pid":
            return [os.getpid()]
        if word == "environment":
            return [sorted(os.environ)]
        if word == "child":
            import subprocess
            return [subprocess.Popen(["sleep", "1000"]).pid]
        if word == "random":
            import numpy
            return [numpy.random.random()]
        return [self.number] * len(model_input)

    def act(self, word):
        if word == "raise":
            raise ValueError("bad luck")
        if word == "hang":
            time.sleep(1000)
        if word == "spin":
            sum(range(10**14))
        if getattr(self, "is_sour", False):
            raise ValueError("gone sour")
        self.is_sour = word == "sour"
        if word == "exit":
            os._exit(3)
        if word == "die":
            os.kill(os.getpid(), 9)
        if word == "eat":
            self.hoard = [bytearray(64 << 20) for _ in range(1000)]
        if word.startswith("burn "):
            end = time.thread_time() + float(word.split()[1])
            while time.thread_time() < end:
                pass
        while word == "shout":
            print("x")
        if word == "print":
            print("the model says hello")
        if word.startswith("sleep "):
            print("the model sleeps")
            time.sleep(float(word.split()[1]))
'''


def behaving(number, on_load="nothing"):
    """A model that answers *number*, or misbehaves on demand."""
    namespace = {"__name__": "__main__", "Base": registry.PythonModel}
    exec(MODEL_SOURCE.format(base="Base"), namespace)
    return namespace["Behaving"](number, on_load)


def eventually(condition, what, within_s=SETTLE_TIMEOUT_S):
    """Wait until *condition* gives something true, and give it; the deadline is generous and always an error."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"never happened within {within_s} s: {what}")


class Gateway:
    """`turnout serve` as a process, and a client of it."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str] | None = None) -> None:
        self.log_path = folder / f"gateway-{time.monotonic_ns()}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--port", "0", *arguments],
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": str(Path(registry.__file__).parents[1])} | (environment or {}),
                cwd=folder,
            )
        port = eventually(self._port, "the gateway listens")
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)

    def log(self) -> str:
        return self.log_path.read_text()

    def _port(self):
        if self.process.poll() is not None:
            pytest.fail(f"the gateway ended:\n{self.log()}")
        listening = re.search(r"listening on http://127\.0\.0\.1:(\d+)", self.log())
        return listening and int(listening[1])

    def ready(self, within_s=SETTLE_TIMEOUT_S):
        eventually(lambda: self.client.get("/ping").status_code == 200, f"ready; log:\n{self.log()}", within_s)
        return self

    def is_busy(self):
        """Whether a request that sleeps is under way: the model said so."""
        return "the model sleeps" in self.log()

    def status(self, endpoint=0):
        return self.client.get("/status").json()["endpoints"][endpoint]

    def serves(self, version, endpoint=0, within_s=SETTLE_TIMEOUT_S):
        """Wait until /status says that *version* is the primary."""

        def primary():
            versions = self.status(endpoint)["versions"]
            return any(row["role"] == "primary" and row["version"] == str(version) for row in versions)

        what = f"version {version} serves; status: {self.status(endpoint)}; log:\n{self.log()[-3000:]}"
        eventually(primary, what, within_s)

    def ask(self, word="nothing", path="/invocations", **attributes):
        body = {"dataframe_records": [{"do": word}]}
        return self.client.post(path, json=body, **attributes)

    def replicas(self):
        """Every process below the fork server."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [each for each in children if each.ppid() != self.process.pid]
        return []

    def family(self):
        return psutil.Process(self.process.pid).children(recursive=True)

    def stop(self, number=signal.SIGTERM, timeout=30):
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def close(self):
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Clients:
    """Threads that ask without a pause until told to stop, and keep what was wrong with any answer."""

    def __init__(self, gateway, count):
        self.wrong, self.versions, self.answered = [], set(), 0
        self._stopped = threading.Event()
        self._url = str(gateway.client.base_url)
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self):
        with httpx2.Client(base_url=self._url, timeout=30) as client:
            while not self._stopped.is_set():
                answer = client.post("/invocations", json={"dataframe_records": [{"do": "nothing"}]})
                version = answer.headers.get("X-Model-Version")
                if answer.status_code != 200 or answer.json() != {"predictions": [int(version)]}:
                    self.wrong.append((answer.status_code, version, answer.text))
                self.versions.add(version)
                self.answered += 1

    def stop(self):
        self._stopped.set()
        for thread in self._threads:
            thread.join()
