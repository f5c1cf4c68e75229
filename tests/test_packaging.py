"""What the wheel holds. `.ci/wheel` goes on: it installs the wheel elsewhere and runs the demo there."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEFTOVERS = {"__pycache__"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_the_two_packages_and_nothing_else(wheel: zipfile.ZipFile):
    """Every file of registry/ and gateway/ is in the wheel, and nothing beside them."""
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {
        path.relative_to(ROOT).as_posix()
        for package in ("registry", "gateway")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not LEFTOVERS & set(path.parts)
    }

    assert packed == files


def test_wheel_brings_the_command_the_types_and_the_licence(wheel: zipfile.ZipFile):
    """The wheel declares `turnout`, marks both packages as typed and carries the licence."""
    names = wheel.namelist()
    [entry_points] = [name for name in names if name.endswith("entry_points.txt")]

    assert "turnout = gateway.cli:main" in wheel.read(entry_points).decode()
    assert {"registry/py.typed", "gateway/py.typed"} <= set(names)
    assert any(name.endswith("LICENSE") for name in names)


@pytest.mark.parametrize("name", ["base", "test", "build"])
def test_requirements_are_hashed_and_name_no_index(name: str):
    """Every requirement file pins with hashes, and holds no address."""
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    pinned = [number for number, line in enumerate(lines) if "==" in line]

    assert pinned
    assert all(lines[number + 1].strip().startswith("--hash=sha256:") for number in pinned)
    assert not [line for line in lines if "://" in line or line.startswith("-")]


@pytest.mark.parametrize(("name", "extras"), [("base", False), ("test", True)])
def test_every_dependency_is_pinned(name: str, extras: bool):
    """What pyproject.toml asks for is in the requirement files; `make lock` writes them again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    if extras:
        wanted += [each for extra in project["optional-dependencies"].values() for each in extra]
    names = {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in wanted}
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))

    assert names - pinned == set()
