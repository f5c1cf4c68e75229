"""What a model needs installed: found by what it imports, written as MLflow writes it."""

from __future__ import annotations

import ast
import dis
import json
import pickletools
import platform
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from registry.errors import InvalidParameter

REQUIREMENTS = "requirements.txt"
CONDA = "conda.yaml"
PYTHON_ENV = "python_env.yaml"
_IMPORTS = object()  # stands for cloudpickle's function that imports a module by its name
NOT_REQUIRED = {"mlflow", "registry", "gateway", "turnout", "__main__", "builtins"}


def parse_requirements(requirements: Sequence[str] | str) -> list[str]:
    """The lines that a user gave: a list of them, or the path of a requirements file."""
    if isinstance(requirements, str):
        lines = Path(requirements).read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    for line in requirements:
        if not isinstance(line, str) or not line.strip() or "\n" in line or "\r" in line:
            raise InvalidParameter(f"pip_requirements holds {line!r}, which is not one requirement")
    return list(requirements)


def infer_requirements(modules: Iterable[str], local: Iterable[str] = ()) -> list[str]:
    """The distributions behind these modules, each pinned to the version that is installed here.

    Modules of the standard library, of the model's own code (*local*) and of nobody are left out.
    """
    skipped = NOT_REQUIRED | set(local) | sys.stdlib_module_names
    tops = {module.split(".")[0] for module in modules} - skipped
    from importlib.metadata import packages_distributions

    distributions = packages_distributions()
    names = {distribution for top in tops for distribution in distributions.get(top, ())}
    return sorted(f"{name}=={installed_version(name)}" for name in names)


def installed_version(distribution: str) -> str:
    """The version that is installed here."""
    from importlib.metadata import version  # 20 ms, which only those who save a model should pay

    return version(distribution)


def write_environment(directory: Path, requirements: Sequence[str]) -> None:
    """Write requirements.txt, conda.yaml and python_env.yaml."""
    import yaml

    python = platform.python_version()
    (directory / REQUIREMENTS).write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": list(requirements)}],
        "name": "mlflow-env",
    }
    python_env = {
        "python": python,
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": [f"-r {REQUIREMENTS}"],
    }
    for name, content in ((CONDA, conda), (PYTHON_ENV, python_env)):
        (directory / name).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def modules_of_pickle(path: Path) -> Iterator[str]:
    """Every module that a pickle names, without loading it: those of its globals, and those it imports whole."""
    memo: list[object] = []
    before: object = None
    last: object = None  # the two values pushed last, where they are texts
    with path.open("rb") as file:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name in ("MEMOIZE", "PROTO", "FRAME"):
                if opcode.name == "MEMOIZE":
                    memo.append(last)
                continue
            pushed: object = argument if isinstance(argument, str) else None
            if opcode.name == "GLOBAL":
                yield str(argument).split(" ", maxsplit=1)[0]
            elif opcode.name == "STACK_GLOBAL":
                yield str(before)
                pushed = _IMPORTS if last == "subimport" else None
            elif isinstance(argument, int) and opcode.name in ("BINGET", "LONG_BINGET") and argument < len(memo):
                pushed = memo[argument]
            if last is _IMPORTS and isinstance(pushed, str):
                yield pushed
            before, last = last, pushed


def modules_of_skops(path: Path) -> Iterator[str]:
    """Every module that a skops file names."""
    with zipfile.ZipFile(path) as archive:
        schema = archive.read("schema.json").decode()
    json.loads(schema)
    yield from re.findall(r'"__module__":\s*"([\w.]+)"', schema)
    yield "skops"


def modules_of_class(python_model: Any) -> Iterator[str]:
    """Every module that the functions of the object's classes import when they run."""
    if hasattr(python_model, "__code__"):
        yield from _imports_of_code(python_model.__code__)
    for each in type(python_model).__mro__:
        for member in vars(each).values():
            code = getattr(getattr(member, "__func__", member), "__code__", None)
            if isinstance(code, CodeType):
                yield from _imports_of_code(code)


def _imports_of_code(code: CodeType) -> Iterator[str]:
    yield from (str(step.argval) for step in dis.get_instructions(code) if step.opname == "IMPORT_NAME")
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _imports_of_code(constant)


def modules_of_sources(directory: Path) -> Iterator[str]:
    """Every module that the Python files below the directory import."""
    for source in sorted(directory.rglob("*.py")):
        try:
            tree = ast.parse(source.read_bytes())
        except (SyntaxError, ValueError):
            continue  # not for this Python, so not imported by it either
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module
