"""What a model directory says must be installed, taken at its word only as far as a model may have a say.

A model names packages and versions. Where they come from is the operator's word, so an index, an address, a path or
another file in its place is refused; nothing of it reaches a command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from gateway.errors import LoadFailed

REQUIREMENTS = "requirements.txt"
CONSTRAINTS = "constraints.txt"  # MLflow writes it beside the other
PYTHON_ENV = "python_env.yaml"
CONDA = "conda.yaml"
WORKER_NEEDS = ("pandas",)  # replicas answer in its tables; MLflow brings it with itself
MAX_FILE_BYTES = 256 << 10
MAX_SHOWN = 120
PYTHON = re.compile(r"(\d+\.\d+)(?:\.\d+\w*)?")
CONDA_PYTHON = re.compile(r"python\s*={1,2}\s*([\w.]+?)(?:\.\*)?")
CONDA_INSTALLER = re.compile(r"(python|pip|setuptools|wheel)\b")
COMMENT = re.compile(r"(^|\s)#.*$")


@dataclass(frozen=True, slots=True)
class Requirements:
    """Packages by name, none by address, and the minor version of Python that the model was saved under."""

    packages: tuple[str, ...]
    constraints: tuple[str, ...] = ()
    python: str | None = None


def read_requirements(folder: Path) -> Requirements:
    """Read python_env.yaml and requirements.txt of a model directory, or the pip part of conda.yaml.

    Raises `LoadFailed` where there is none of them, or one holds more than names of packages.
    """
    python_env, conda = _read_yaml(folder / PYTHON_ENV), _read_yaml(folder / CONDA)
    if (folder / REQUIREMENTS).is_file():
        lines, source = list(_lines(_read(folder / REQUIREMENTS))), REQUIREMENTS
    elif conda is not None:
        lines, source = _pip_of(conda), CONDA
    else:
        raise LoadFailed(
            f"the model has neither {REQUIREMENTS} nor {CONDA}, so there is nothing to install; "
            "save it again, or serve it with --env-manager local"
        )
    packages, constraints = [], []
    for line in lines:
        if line.split() in (["-c", CONSTRAINTS], ["--constraint", CONSTRAINTS]):
            constraints = [_package(each, CONSTRAINTS) for each in _lines(_read(folder / CONSTRAINTS))]
        else:
            packages.append(_package(line, source))
    named = {canonicalize_name(Requirement(each).name) for each in packages}
    packages += [each for each in WORKER_NEEDS if each not in named]
    return Requirements(tuple(packages), tuple(constraints), _python(python_env, conda))


def _lines(text: str) -> Iterator[str]:
    for line in re.sub(r"\\\r?\n", "", text).splitlines():
        content = COMMENT.sub("", line).strip()
        if content:
            yield content


def _package(line: str, source: str) -> str:
    """One requirement in its plain form."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        raise _refused(line, source) from None
    if requirement.url is not None:
        raise _refused(line, source)
    return str(requirement)


def _refused(line: str, source: str) -> LoadFailed:
    shown = line if len(line) <= MAX_SHOWN else f"{line[:MAX_SHOWN]}…"
    return LoadFailed(
        f"{source} of the model holds {shown!r}, and a model may only name packages, such as scikit-learn==1.6.1; "
        "indexes are the gateway's to set, and what lies at an address belongs into an index as a wheel"
    )


def _pip_of(conda: dict[str, Any]) -> list[str]:
    """The pip part of conda.yaml; conda's own packages cannot be had without conda."""
    lines: list[str] = []
    for each in _list(conda, CONDA):
        if isinstance(each, dict):
            lines += [str(line) for line in each.get("pip") or ()]
        elif not CONDA_INSTALLER.match(str(each)):
            raise LoadFailed(
                f"{CONDA} of the model names the conda package {str(each)[:MAX_SHOWN]!r}, which only conda installs; "
                f"add a {REQUIREMENTS} with what pip calls it, or serve it with --env-manager local"
            )
    return lines


def _python(python_env: dict[str, Any] | None, conda: dict[str, Any] | None) -> str | None:
    wanted = (python_env or {}).get("python")
    if wanted is None and conda is not None:
        found = [CONDA_PYTHON.fullmatch(each) for each in _list(conda, CONDA) if isinstance(each, str)]
        wanted = next((match[1] for match in found if match), None)
    if wanted is None:
        return None
    version = PYTHON.fullmatch(str(wanted))
    if version is None:
        raise LoadFailed(f"the model asks for Python {str(wanted)[:MAX_SHOWN]!r}, which is no version such as 3.11.7")
    return version[1]


def _list(conda: dict[str, Any], source: str) -> list[Any]:
    dependencies = conda.get("dependencies") or []
    if not isinstance(dependencies, list):
        raise LoadFailed(f"the dependencies in {source} of the model are no list")
    return dependencies


def _read_yaml(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        # This loader leaves 3.10 a text, and being Python it ends deep nesting with an error and no crash.
        content = yaml.load(_read(path), yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as problem:
        raise LoadFailed(
            f"{path.name} of the model is not plain YAML: {' '.join(str(problem).split())[:300]}"
        ) from None
    if not isinstance(content, dict):
        raise LoadFailed(f"{path.name} of the model holds no mapping")
    return content


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise LoadFailed(f"{path.name} of the model is longer than {MAX_FILE_BYTES} bytes")
        return data.decode()
    except FileNotFoundError:
        raise LoadFailed(f"the model names {path.name}, and has no such file") from None
    except UnicodeDecodeError:
        raise LoadFailed(f"{path.name} of the model is not UTF-8") from None
