"""Interpreters that have the real mlflow, made by `make envs` or named by the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def interpreter(name: str) -> Path:
    """The Python of the environment `.envs/<name>`, or what TURNOUT_<NAME> says."""
    chosen = os.environ.get(f"TURNOUT_{name.upper()}")
    path = Path(chosen) if chosen else REPOSITORY / ".envs" / name / "bin" / "python"
    if not path.exists():
        message = f"no environment with {name} at {path}: run make envs"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
