"""A real S3 interface on this machine: moto's server, in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STARTS_WITHIN_S = 60


def find_server() -> Path:
    """moto's command in `.envs/s3`, or what TURNOUT_MOTO_SERVER names."""
    chosen = os.environ.get("TURNOUT_MOTO_SERVER")
    path = Path(chosen) if chosen else REPOSITORY / ".envs" / "s3" / "bin" / "moto_server"
    if not path.exists():
        message = f"no S3 server at {path}: run make envs"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The address of an S3 server without a bucket."""
    log = folder / "s3.log"
    with log.open("wb") as output:
        command = [find_server(), "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        yield _address(process, log)
    finally:
        process.terminate()
        process.wait(30)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the S3 server did not start: {log.read_text()[-2000:]}")


def make_bucket(address: str, name: str) -> None:
    request = urllib.request.Request(f"{address}/{name}", method="PUT")
    urllib.request.urlopen(request).close()


def unfinished_uploads(address: str, name: str) -> list[str]:
    """The names of files of which the bucket keeps parts that nobody sees."""
    with urllib.request.urlopen(f"{address}/{name}?uploads") as answer:
        return re.findall(r"<Key>(.*?)</Key>", answer.read().decode())


def settings(address: str) -> dict[str, str]:
    """The environment in which an S3 client finds the server."""
    return {
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "very-secret-key",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
    }
