"""Every command, option, error and setting is documented, and what the documents say works."""

from __future__ import annotations

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from inspect import getmembers, isclass
from pathlib import Path

import click
import pandas
import pytest
from click.testing import CliRunner

import gateway.errors
import registry
import registry.errors
from gateway.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
COMMAND_LINE = (ROOT / "docs" / "reference" / "cli.md").read_text()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def walk(command: click.Command, path: tuple[str, ...] = ("turnout",)) -> Iterator[tuple[str, click.Command]]:
    """Every command below *command* with its full name."""
    yield " ".join(path), command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from walk(each, (*path, name))


COMMANDS = dict(walk(cli))


@pytest.fixture(params=COMMANDS)
def name(request: pytest.FixtureRequest) -> str:
    """The full name of a command."""
    return str(request.param)


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Path:
    """A page of the documentation."""
    return Path(request.param)


def options_of(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


def test_command_and_options_have_help(name: str):
    """Every command and every option says what it is for."""
    command = COMMANDS[name]

    assert command.help, f"{name} is missing its help"
    assert [each.name for each in options_of(command) if not each.help] == []


def test_command_has_examples(name: str):
    """The help of every command ends with examples."""
    command = COMMANDS[name]

    assert isinstance(command, click.Group) or "Examples:" in (command.epilog or "")


def test_command_and_options_are_documented(name: str):
    """Every command, and in its section every option, stands in docs/reference/cli.md."""
    section = " ".join(name.split()[:2])
    introduction = COMMAND_LINE.partition("\n## ")[0]
    found = re.search(rf"^## {section}$.*?(?=^## |\Z)", COMMAND_LINE, re.MULTILINE | re.DOTALL)
    text = introduction + (found[0] if found else "")

    visible = [each for each in options_of(COMMANDS[name]) if not each.hidden]
    missing = [option for each in visible for option in each.opts if f"`{option}" not in text]
    assert name in text
    assert missing == []


@pytest.mark.parametrize("module", [registry.errors, gateway.errors])
def test_errors_are_documented(module: object):
    """Every error stands in docs/reference/errors.md with its status and its code."""
    lines = (ROOT / "docs" / "reference" / "errors.md").read_text().splitlines()
    rows = {found[1]: line for line in lines if (found := re.match(r"\| `(\w+)`", line))}
    errors = {name: error for name, error in getmembers(module, isclass) if issubclass(error, Exception)}

    assert set(errors) - set(rows) == set()
    for name, error in errors.items():
        base = error.__mro__[1].__name__
        status, code = (cell.strip() for cell in rows[name].split("|")[2:4])
        assert status in (str(error.http_status), "as the replica says", "")
        assert code in (f"`{error.error_code}`", "as the replica says", "")
        assert base in ("Exception", "RegistryError", "GatewayError") or f"`{base}`" in rows[name]


def test_environment_variables_are_documented():
    """Every environment variable that the product reads stands in docs/reference/settings.md."""
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text()
    source = "".join(path.read_text() for package in ("registry", "gateway") for path in (ROOT / package).rglob("*.py"))
    read = set(re.findall(r'"((?:TURNOUT|MLFLOW)_[A-Z_]+[A-Z])"', source))

    assert {each for each in read if f"`{each}`" not in settings} == set()


def test_public_names_are_documented():
    """Every public name of `registry` stands in the reference."""
    folder = ROOT / "docs" / "reference"
    text = (folder / "python.md").read_text() + (folder / "errors.md").read_text()

    assert [each for each in registry.__all__ if not re.search(rf"\b{each}\b", text)] == []


def test_links_lead_somewhere(page: Path):
    """Every relative link of the documentation names a file that is there."""
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    local = [each for each in targets if "://" not in each]

    assert [each for each in local if not (page.parent / each).exists()] == []


def test_one_sentence_per_line(page: Path):
    """Prose has one sentence per line, so that diffs are sentences."""
    prose = [line for line in FENCE.sub("", page.read_text()).splitlines() if not line.startswith(("|", "- "))]

    assert [line for line in prose if re.search(r"[a-z`)]\. +[A-Z`]", line)] == []


def test_python_blocks_parse(page: Path):
    """Every Python block of the documentation is Python."""
    for language, block in FENCE.findall(page.read_text()):
        if language == "python":
            ast.parse(block)


def test_decisions_are_listed():
    """Every decision has its line in the list of decisions."""
    folder = ROOT / "docs" / "decisions"
    listed = (folder / "README.md").read_text()

    assert [each.name for each in folder.glob("0*.md") if f"({each.name})" not in listed] == []


def test_metrics_are_documented():
    """Every metric of the gateway stands in docs/reference/http.md, a counter with the suffix that it is shown with."""
    source = (ROOT / "gateway" / "metrics.py").read_text()
    counters = [f"turnout_{name}_total" for name in re.findall(r'_counter\("(\w+)"', source)]
    gauges = [f"turnout_{name}" for name in re.findall(r'_gauge\("(\w+)"', source)]
    text = (ROOT / "docs" / "reference" / "http.md").read_text()

    assert len(counters) > 2
    assert len(gauges) > 5
    assert [each for each in [*counters, *gauges] if f"| `{each}` |" not in text] == []


def test_dependencies_have_a_reason():
    """Every dependency of pyproject.toml stands in the decision about dependencies."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [each for extra in project["optional-dependencies"].values() for each in extra]
    names = {re.split(r"[^A-Za-z0-9._-]", each)[0] for each in [*project["dependencies"], *extras]}
    text = (ROOT / "docs" / "decisions" / "0010-dependencies.md").read_text()

    assert {each for each in names if not re.search(rf"\| {each} \|", text)} == set()


def test_readme_registers_and_moves_what_train_py_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The README's train.py writes two models, and its registry commands work in their order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNOUT_REGISTRY_URI", f"sqlite:///{tmp_path}/turnout.db")
    [program] = [block for language, block in FENCE.findall(README) if language == "python"]
    shell = "".join(block for language, block in FENCE.findall(README) if not language)
    lines = re.findall(r"^turnout (?:register|alias|rollback) .*$", shell, re.MULTILINE)

    exec(compile(program, "train.py", "exec"), {"__name__": "__main__"})
    results = [CliRunner().invoke(cli, shlex.split(line)[1:]) for line in lines]

    assert [(line, result.output) for line, result in zip(lines, results, strict=True) if result.exit_code] == []
    assert results[-1].output == "wine@champion moved from version 2 to 1\n"
    assert "retrained on October" in results[-2].output
    rows = pandas.DataFrame(**json.loads((tmp_path / "wines.json").read_text())["dataframe_split"])
    for path in ("my-model", "my-better-model"):
        answer = registry.load_model(path).predict(rows).tolist()
        assert f"`{json.dumps(answer, separators=(',', ':'))}`" in README
