"""What `turnout predict` refuses before it loads anything."""

import pytest
from click.testing import CliRunner

from gateway.cli import cli


@pytest.fixture
def predict(tmp_path, monkeypatch):
    """The exit code and the message of the command, in a folder with a file of rows and a model folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "model").mkdir()

    def predict(*arguments):
        result = CliRunner().invoke(cli, ["predict", "-m", "./model", *arguments])
        return result.exit_code, " ".join(result.output.split())

    return predict


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "rows", "-o", "out.csv"], "the name 'rows' does not say what format it has; pass --format csv|jsonl|"),
        (["-i", "-", "-o", "out.csv"], "the name '-' does not say what format it has"),
        (["-i", "-", "-o", "out.csv", "--format", "parquet"], "name a file instead of '-'"),
        (["-i", "rows.csv", "-o", "-", "--output-format", "parquet"], "name a file instead of '-'"),
        (["-i", "rows.csv", "-o", "-", "--json"], "would both write to standard output"),
        (["-i", "rows.csv", "-o", "out.csv", "--params", "{"], "--params is no JSON"),
        (["-i", "rows.csv", "-o", "out.csv", "--params", "[1]"], "--params must be a JSON object"),
        (["-i", "rows.csv", "-o", "out.csv", "--predict-timeout", "soon"], "'soon' is not a duration"),
        (["-i", "rows.csv", "-o", "out.csv", "-m", "models:/x"], "names neither an alias nor a version"),
        (["-i", "rows.csv", "-o", "out.csv", "-m", "nowhere"], "it is neither a models:/ reference nor a directory"),
    ],
)
def test_wrong_usage_is_told_with_exit_code_2(predict, arguments, message):
    """One sentence says what was asked, what was found and what to do."""
    code, output = predict(*arguments)

    assert code == 2
    assert message in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-i", "none.csv", "-o", "out.csv"], "Error: none.csv: No such file or directory"),
        (["-i", "rows.csv", "-o", "rows.csv", "--overwrite"], "'rows.csv' is the input too; write to another file"),
        (["-i", "rows.csv", "-o", "model"], "'model' is a folder; name a file in it"),
        (["-i", "rows.csv", "-o", "no/out.csv"], "there is no folder 'no' to write into; make it first"),
        (["-i", "rows.csv", "-o", "out.csv"], "MLmodel"),
    ],
)
def test_what_cannot_be_done_is_told_with_exit_code_1(predict, arguments, message, tmp_path):
    """And nothing of the attempt stays behind."""
    code, output = predict(*arguments)

    assert code == 1
    assert message in output
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["model", "rows.csv"]
