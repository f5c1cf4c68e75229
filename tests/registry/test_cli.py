"""The registry's commands, run in this process on a real SQLite registry in a temporary folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import registry
from registry.cli import ReportingCommand, cli

Run = Callable[..., Result]


class Model(registry.PythonModel):
    """Answers with the input."""

    def predict(self, context, model_input, params=None):
        return model_input


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/registry.db"


@pytest.fixture
def turnout(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that must succeed; `exit_code=` expects another end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNOUT_REGISTRY_URI", uri)
    monkeypatch.setenv("TURNOUT_ACTOR", "ana")

    def run(*arguments: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == exit_code, result.output
        return result

    return run


@pytest.fixture
def wine(uri: str, tmp_path: Path) -> Path:
    """A model directory, and the model wine with two versions of it."""
    path = tmp_path / "my-model"
    with closing(registry.connect(uri)) as client:
        registry.save_model(path, Model())
        registry.register_model(str(path), "wine", client=client)
        registry.register_model(str(path), "wine", client=client)
    return path


def test_register_tells_version_digest_and_alias(turnout: Run, wine: Path, uri: str):
    """`register` prints the new version's number, its digest and the alias that points at it."""
    result = turnout("register", str(wine), "--name", "wine", "--alias", "champion", "--tag", "year=2026")

    with closing(registry.connect(uri)) as client:
        version = client.get_model_version_by_alias("wine", "champion")
    assert (version.version, version.tags["year"]) == ("3", "2026")
    assert result.stdout.splitlines() == [
        "Registered wine version 3",
        f"digest  {version.digest}",
        "alias   champion",
    ]


def test_register_as_json_with_description(turnout: Run, wine: Path):
    """`register --json` prints the version with ISO times, its digest and its aliases."""
    result = turnout("register", str(wine), "--name", "port", "--alias", "a", "--description", "Sweet", "--json")

    version = json.loads(result.stdout)
    assert (version["name"], version["version"], version["aliases"]) == ("port", "1", ["a"])
    assert version["description"] == "Sweet"
    assert version["digest"].startswith("sha256:")
    assert version["creation_timestamp"].endswith("Z")


def test_register_refuses_what_is_no_model(turnout: Run, tmp_path: Path):
    """Registering a folder without a model fails with one sentence on stderr and no traceback."""
    (tmp_path / "empty").mkdir()

    result = turnout("register", "./empty", "--name", "wine", exit_code=1)

    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(turnout: Run):
    """With --debug a failure is raised as it is."""
    result = CliRunner().invoke(cli, ["--debug", "models", "show", "nothing"])

    assert isinstance(result.exception, registry.Unavailable)


def test_reading_makes_no_registry(turnout: Run, tmp_path: Path):
    """A command that only reads fails where there is no registry, and leaves no file behind."""
    assert "registry.db" in turnout("models", "list", exit_code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_name_is_wrong_usage(turnout: Run, wine: Path):
    """A missing option is exit code 2."""
    turnout("register", str(wine), exit_code=2)


def test_models_from_creation_to_deletion(turnout: Run):
    """A model is created, found, renamed and deleted."""
    turnout("models", "create", "wine", "--description", "Cultivars", "--tag", "team=cellar")
    turnout("models", "create", "port")
    found = turnout("models", "search", "tags.team = 'cellar'", "--json")
    turnout("models", "rename", "wine", "cultivars")
    listed = turnout("models", "list")
    turnout("models", "delete", "cultivars")
    missing = turnout("models", "show", "cultivars", exit_code=1)

    assert [each["name"] for each in json.loads(found.stdout)["registered_models"]] == ["wine"]
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAME", "cultivars", "port"]
    assert "cultivars" in missing.stderr


def test_list_gives_every_model(turnout: Run, uri: str):
    """`models list` and `models search` follow pages to the end, or to --max-results."""
    with closing(registry.connect(uri)) as client:
        for number in range(103):
            client.create_registered_model(f"m{number:03}")

    everything = json.loads(turnout("models", "list", "--json").stdout)["registered_models"]
    some = json.loads(turnout("models", "search", "", "--max-results", "2", "--json").stdout)["registered_models"]

    assert len(everything) == 103
    assert [each["name"] for each in some] == ["m000", "m001"]


def test_show_model(turnout: Run, wine: Path):
    """`models show` prints the latest version and where aliases point."""
    turnout("alias", "set", "wine", "champion", "1")

    shown = turnout("models", "show", "wine").stdout
    facts = json.loads(turnout("models", "show", "wine", "--json").stdout)

    assert "latest version  2\naliases         champion=1\n" in shown
    assert facts["aliases"] == {"champion": "1"}


def test_versions_are_listed_newest_first_with_their_aliases(turnout: Run, wine: Path):
    """`versions list` prints the newest version first, and the aliases of each."""
    turnout("alias", "set", "wine", "champion", "1")

    rows = turnout("versions", "list", "wine").stdout.splitlines()
    versions = json.loads(turnout("versions", "list", "wine", "--json").stdout)["model_versions"]

    assert [row.split()[0] for row in rows] == ["VERSION", "2", "1"]
    assert [each["aliases"] for each in versions] == [[], ["champion"]]


@pytest.mark.parametrize("name", ["o'brien", 'the "best"', "'a' or \"b\"", "100%_'\""])
def test_versions_of_a_model_with_quotes_in_its_name(turnout: Run, wine: Path, uri: str, name: str):
    """Only that model's versions are listed, whatever quotes and wildcards its name holds."""
    with closing(registry.connect(uri)) as client:
        registry.register_model("models:/wine/1", name, client=client)
        registry.register_model("models:/wine/1", name.replace("'", "-").replace('"', "-"), client=client)

    versions = json.loads(turnout("versions", "list", name, "--json").stdout)["model_versions"]

    assert [(each["name"], each["version"]) for each in versions] == [(name, "1")]


@pytest.mark.parametrize("words", [("--alias", "latest"), ("--alias", "a b"), ("--tag", "a$=x")], ids=" ".join)
def test_a_refused_registration_leaves_nothing(turnout: Run, wine: Path, words: tuple[str, ...]):
    """A bad alias or tag is refused before the model and the version are made."""
    turnout("register", str(wine), "--name", "ghost", *words, exit_code=1)

    assert "ghost" not in turnout("models", "list").stdout


def test_versions_of_a_missing_model(turnout: Run, wine: Path):
    """Listing versions of a model that is not there fails."""
    assert "port" in turnout("versions", "list", "port", exit_code=1).stderr


def test_version_shown_copied_and_deleted(turnout: Run, wine: Path):
    """A version is shown, copied to another model with its digest, and deleted."""
    shown = json.loads(turnout("versions", "show", "wine", "2", "--json").stdout)
    copied = json.loads(turnout("versions", "copy", "models:/wine/2", "port", "--json").stdout)
    turnout("versions", "delete", "wine", "2")
    gone = turnout("versions", "show", "wine", "2", exit_code=1)

    assert (copied["name"], copied["version"], copied["digest"]) == ("port", "1", shown["digest"])
    assert "2" in gone.stderr


def test_alias_moves_and_history(turnout: Run, wine: Path):
    """Each move is told, kept with actor and reason, and undone by rollback."""
    first = turnout("alias", "set", "wine", "champion", "1")
    second = turnout("alias", "set", "wine", "champion", "2", "--reason", "retrained")
    back = turnout("rollback", "wine", "champion", "--json")
    moves = json.loads(turnout("alias", "history", "wine", "champion", "--json").stdout)

    assert first.stdout == "wine@champion points at version 1\n"
    assert second.stdout == "wine@champion moved from version 1 to 2\n"
    assert (json.loads(back.stdout)["from"], json.loads(back.stdout)["to"]) == ("2", "1")
    assert moves["alias"] == "champion"
    assert [(each["from"], each["to"], each["by"], each["reason"]) for each in moves["moves"][1:]] == [
        ("1", "2", "ana", "retrained"),
        (None, "1", "ana", None),
    ]


def test_rollback_without_a_past(turnout: Run, wine: Path):
    """A rollback that has nowhere to go fails."""
    turnout("alias", "set", "wine", "champion", "1")

    turnout("rollback", "wine", "champion", exit_code=1)


def test_expectation(turnout: Run, wine: Path):
    """--expect moves an alias only from where it is expected to be; none means not set."""
    turnout("alias", "set", "wine", "champion", "1", "--expect", "none")
    turnout("alias", "set", "wine", "champion", "2", "--expect", "2", exit_code=1)
    turnout("alias", "set", "wine", "champion", "2", "--expect", "none", exit_code=1)
    turnout("alias", "set", "wine", "champion", "2", "--expect", "1")

    assert json.loads(turnout("alias", "list", "wine", "--json").stdout)["aliases"] == {"champion": "2"}


@pytest.mark.parametrize(
    "words",
    [
        ("alias", "set", "wine", "champion", "2", "--expect", "bogus"),
        ("alias", "set", "wine", "champion", "bogus"),
        ("alias", "set", "wine", "a b", "2"),
        ("rollback", "wine", "champion", "--expect", "bogus"),
        ("tag", "set", "wine", "a$=x"),
        ("models", "create", "a/b"),
    ],
    ids=" ".join,
)
def test_what_the_registry_refuses_is_a_failure(turnout: Run, wine: Path, words: tuple[str, ...]):
    """A name, version, alias or tag that can be none is exit code 1, wherever it stands."""
    refused = turnout(*words, exit_code=1)

    assert refused.stderr.startswith("Error: ")
    assert "fault in Turnout" not in refused.stderr


def test_alias_at_a_moment(turnout: Run, wine: Path):
    """--at tells where the alias pointed then; a time that is none is wrong usage."""
    turnout("alias", "set", "wine", "champion", "1")
    moment = json.loads(turnout("alias", "history", "wine", "champion", "--json").stdout)["moves"][0]["at"]
    turnout("alias", "set", "wine", "champion", "2")

    then = turnout("alias", "history", "wine", "champion", "--at", moment, "--json")
    turnout("alias", "history", "wine", "champion", "--at", "2020-01-01", exit_code=1)
    turnout("alias", "history", "wine", "champion", "--at", "noon", exit_code=2)

    assert json.loads(then.stdout)["version"] == "1"


def test_alias_deleted(turnout: Run, wine: Path):
    """A deleted alias is gone from the list and its deletion is in the history."""
    turnout("alias", "set", "wine", "champion", "1")
    turnout("alias", "delete", "wine", "champion")

    assert turnout("alias", "list", "wine").stdout == "ALIAS  VERSION\n"
    assert turnout("alias", "history", "wine", "champion").stdout.splitlines()[1].split()[3:6] == ["1", "-"]


def test_alias_that_differs_by_case_warns(turnout: Run, wine: Path):
    """An alias that differs from another only by case is set, with a warning on stderr."""
    turnout("alias", "set", "wine", "champion", "1")

    result = turnout("alias", "set", "wine", "Champion", "2")

    assert result.stderr.startswith("Warning: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == "wine@Champion points at version 2\n"


def test_tags_of_models_and_versions(turnout: Run, wine: Path):
    """Tags are set and deleted on a model and on a version; values may hold equals signs."""
    turnout("tag", "set", "wine", "team=cellar", "formula=a=b")
    turnout("tag", "set", "wine", "2", "note=new barrels")
    turnout("tag", "delete", "wine", "team")
    model = json.loads(turnout("models", "show", "wine", "--json").stdout)
    version = json.loads(turnout("versions", "show", "wine", "2", "--json").stdout)
    turnout("tag", "delete", "wine", "2", "note")
    after = json.loads(turnout("versions", "show", "wine", "2", "--json").stdout)

    assert model["tags"] == {"formula": "a=b"}
    assert version["tags"]["note"] == "new barrels"
    assert "note" not in after["tags"]


@pytest.mark.parametrize(
    "words", [("set", "wine", "2"), ("set", "wine", "2", "note"), ("delete", "wine", "2", "a", "b")]
)
def test_tag_usage(turnout: Run, words: tuple[str, ...]):
    """A tag without a value, or too many words, is wrong usage."""
    turnout("tag", *words, exit_code=2)


def test_registry_uri_before_or_after_the_command(turnout: Run, tmp_path: Path):
    """--registry-uri wins over the environment, on the group and on the command."""
    other = f"sqlite:///{tmp_path}/other.db"
    turnout("models", "create", "wine")
    turnout("--registry-uri", other, "models", "create", "port")

    assert "port" in turnout("models", "list", "--registry-uri", other).stdout
    assert "port" not in turnout("models", "list").stdout


def test_terminal_escapes_are_printed_as_text(turnout: Run):
    """A description with control characters can not steer the terminal."""
    turnout("models", "create", "wine", "--description", "\x1b[2Jgone\nnext")

    assert "\\x1b[2Jgone\\nnext" in turnout("models", "list").stdout


def test_unusable_address(turnout: Run):
    """An address that is no registry's fails with a sentence that names it."""
    assert "Databricks" in turnout("models", "list", "--registry-uri", "databricks", exit_code=1).stderr


def test_help_loads_no_database():
    """`--help` imports neither a database nor pandas, so that it answers at once."""
    program = (
        "import sys; sys.argv = ['turnout', 'register', '--help']\n"
        "from registry.cli import cli\n"
        "try: cli()\n"
        "finally: print('\\nLOADED', *(m for m in ('sqlalchemy', 'pandas', 'sklearn', 'yaml') if m in sys.modules))"
    )

    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ran.stdout.splitlines()[-1] == "LOADED"


def test_interrupt_is_quiet():
    """Ctrl-C ends a command without a word, with the exit code that shells expect."""

    @click.command(cls=ReportingCommand)
    def wait() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(wait)

    assert (result.exit_code, result.output) == (130, "")


def test_unexpected_failure_is_a_sentence():
    """A fault of ours is told in one line that names --debug."""

    @click.command(cls=ReportingCommand)
    def fail() -> None:
        raise ValueError("first\nsecond")

    result = CliRunner().invoke(fail)

    assert result.exit_code == 1
    assert result.stderr == "Error: ValueError: first second; that is a fault in Turnout, --debug shows where\n"
