"""The real mlflow, twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compat.environments import interpreter


@pytest.fixture(scope="session")
def mlflow3() -> Path:
    return interpreter("mlflow3")


@pytest.fixture(scope="session")
def mlflow2() -> Path:
    return interpreter("mlflow2")
