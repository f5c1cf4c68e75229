"""What import-linter cannot say, and that import-linter is content."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODEL_SIDE = [
    *sorted((ROOT / "gateway" / "worker").glob("*.py")),
    ROOT / "registry" / "models" / "loader.py",
    ROOT / "registry" / "models" / "enforcement.py",
]


@pytest.fixture(params=MODEL_SIDE, ids=lambda path: str(path.relative_to(ROOT)))
def model_side_file(request: pytest.FixtureRequest) -> ast.Module:
    """A file that runs under the model's own interpreter, parsed as Python 3.9 reads it."""
    return ast.parse(request.param.read_text(), feature_version=(3, 9))


def test_model_side_files_need_only_the_standard_library(model_side_file: ast.Module):
    """A file that runs in a replica parses as Python 3.9 and imports nothing else at its top."""
    imported = set()
    for node in model_side_file.body:
        if isinstance(node, ast.Import):
            imported |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("." if node.level else str(node.module).partition(".")[0])

    assert imported <= sys.stdlib_module_names


def test_model_side_files_use_no_newer_syntax_in_annotations(model_side_file: ast.Module):
    """Annotations that Python 3.9 would evaluate use no `X | Y`."""
    postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in model_side_file.body)
    annotations = [
        each
        for node in ast.walk(model_side_file)
        for each in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if each is not None
    ]
    unions = [node for each in annotations for node in ast.walk(each) if isinstance(node, ast.BitOr)]

    assert postponed or not unions


def modules_after(statement: str) -> set[str]:
    """The top-level names of every module that *statement* loads in a fresh interpreter."""
    program = (
        f"import sys; before = set(sys.modules)\n{statement}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return set(ran.stdout.split())


def test_registry_loads_only_msgspec():
    """`import registry` loads nothing beyond the standard library and msgspec."""
    assert modules_after("import registry") - sys.stdlib_module_names <= {"registry", "msgspec"}


@pytest.mark.parametrize("module", ["gateway", "gateway.server", "gateway.ingress.member", "gateway.cli"])
def test_ingress_loads_no_model_library(module: str):
    """The ingress process imports neither pandas nor numpy nor scikit-learn."""
    assert not modules_after(f"import {module}") & {"pandas", "numpy", "sklearn", "scipy", "pyarrow", "cloudpickle"}


def test_importing_the_command_loads_no_server():
    """`turnout --help` imports neither the database nor the web server."""
    assert not modules_after("import gateway.cli") & {"sqlalchemy", "starlette", "uvicorn", "uvloop", "alembic"}


def test_layering_contracts_hold():
    """Every import-linter contract of pyproject.toml is kept."""
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))

    ran = subprocess.run(
        [str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_files_stay_small():
    """No file of the product is over 500 lines."""
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for package in ("registry", "gateway")
        for path in (ROOT / package).rglob("*.py")
    }

    assert {name: size for name, size in sizes.items() if size > 500} == {}
