"""`turnout predict` as its users run it: the same answers as `load_model`, and nothing lost on the way."""

import json
import os
import re
import signal

import pandas
import pytest

import registry
from tests.e2e.batches import MODELS, python_model, read, save, turnout_predict, write
from tests.e2e.gateways import eventually

END_TIMEOUT_S = 120


@pytest.fixture
def predict(tmp_path):
    """Run the command to its end; gives its exit code and what it wrote on standard output and error."""

    def predict(*arguments, **attributes):
        process = turnout_predict(tmp_path, *arguments, **attributes)
        output, log = process.communicate(timeout=END_TIMEOUT_S)
        return process.returncode, output, log

    return predict


@pytest.fixture
def acting(tmp_path):
    """The folder of a model that does as the column `do` says."""
    frame = pandas.DataFrame({"do": ["nothing"], "x": [1.0]})
    params = {"marker": str(tmp_path / "marker")}
    registry.save_model(
        tmp_path / "acting", python_model("Acting"), signature=registry.infer_signature(frame, params=params)
    )
    return tmp_path / "acting"


def doing(**words):
    """A hundred rows that count up, and do nothing but where told: `_7="raise"` for the seventh."""
    do = ["nothing"] * 100
    for row, word in words.items():
        do[int(row[1:]) - 1] = word
    return pandas.DataFrame({"do": do, "x": [float(at) for at in range(1, 101)]})


def expected(path, frame, params):
    """What `load_model` answers, as a table."""
    answer = registry.load_model(path).predict(frame, params)
    if isinstance(answer, pandas.DataFrame):
        return answer
    name = "later" if getattr(answer, "name", None) == "later" else "prediction"
    return pandas.DataFrame({name: pandas.Series(list(answer))})


@pytest.mark.parametrize("name", MODELS)
def test_a_file_is_answered_as_load_model_answers_its_rows(name, tmp_path, predict):
    """CSV, JSON lines and Parquet give the answers of `load_model(...).predict(frame)`, row by row, in order."""
    frame, params = save(name, tmp_path / "model")
    asked = ["--params", json.dumps(params)] if params else []
    wanted = expected(tmp_path / "model", frame, params)

    for ending in ("csv", "jsonl", "parquet"):
        write(frame, tmp_path / f"rows.{ending}")
        code, _, log = predict(
            "-m", "./model", "-i", f"rows.{ending}", "-o", f"answer.{ending}", "--chunk-rows", 30, *asked
        )
        assert code == 0, log
        answer = read(tmp_path / f"answer.{ending}")
        if name == "datetimes":
            assert (answer["later"].dtype.kind == "M") is (ending == "parquet")
            answer = answer.apply(pandas.to_datetime).astype(wanted.dtypes)
        pandas.testing.assert_frame_equal(answer, wanted, check_dtype=False, check_exact=True)


def test_a_run_that_is_killed_is_gone_on_with(client, add, tmp_path, acting, predict):
    """After SIGKILL the same command predicts only what is not finished, with the version with which it began."""
    for _ in range(2):
        registry.register_model(acting, "m", client=client)
    client.set_registered_model_alias("m", "champion", "1")
    write(doing(_55="wait"), tmp_path / "rows.csv")
    uri = ["--registry-uri", f"sqlite:///{tmp_path}/turnout.db"]
    command = ["-m", "models:/m@champion", *uri, "-i", "rows.csv", "-o", "out.csv", "--chunk-rows", 10]
    command += ["--params", json.dumps({"marker": str(tmp_path / "marker")})]

    process = turnout_predict(tmp_path, *command)
    eventually((tmp_path / "marker").exists, "the row that waits is reached")
    eventually(lambda: len(list((tmp_path / "out.csv.parts").glob("*.part"))) == 5, "what is before is written")
    process.kill()
    process.communicate()
    client.set_registered_model_alias("m", "champion", "2")
    (tmp_path / "marker").unlink()
    write(doing(), tmp_path / "rows.csv")  # the same rows but for the one that waits
    code, output, log = predict(*command, "--json")

    assert code == 0, log
    summary = json.loads(output)
    assert (summary["version"], summary["rows"], summary["parts"], summary["parts_reused"]) == ("1", 100, 10, 5)
    assert "version 2 by now; this run goes on with version 1" in log
    assert read(tmp_path / "out.csv")["prediction"].tolist() == doing()["x"].tolist()
    assert not (tmp_path / "out.csv.parts").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_to_go_on(number, tmp_path, acting):
    """Ctrl-C ends the run and its replicas at once, whatever the model does, with a sentence about what is kept."""
    write(doing(_15="pid", _16="wait"), tmp_path / "rows.csv")
    marker = tmp_path / "marker"
    params = json.dumps({"marker": str(marker)})
    process = turnout_predict(
        tmp_path, "-m", acting, "-i", "rows.csv", "-o", "out.csv", "--chunk-rows", 5, "--params", params
    )
    eventually(marker.exists, "the model waits")
    eventually(lambda: len(list((tmp_path / "out.csv.parts").glob("*.part"))) == 3, "what is before is written")

    process.send_signal(number)
    output, log = process.communicate(timeout=10)

    assert (process.returncode, output) == (130, "")
    assert log.endswith("stopped; 3 finished parts kept in 'out.csv.parts', from where the same "
                        "command goes on\n")  # fmt: skip
    assert not (tmp_path / "out.csv").exists()


def test_a_bad_row_is_named_and_what_is_finished_is_kept(tmp_path, acting, predict):
    """The error says which row, which column and what to do; the mended file is gone on with."""
    text = doing().to_csv(index=False).splitlines()
    good = text[57]
    text[57] = "nothing,many"
    (tmp_path / "rows.csv").write_text("\n".join(text))
    command = ["-m", acting, "-i", "rows.csv", "-o", "out.csv", "--chunk-rows", 10]

    code, _, log = predict(*command)
    text[57] = good
    (tmp_path / "rows.csv").write_text("\n".join(text))
    code_after, output, log_after = predict(*command, "--json")

    assert code == 1
    assert re.search(r"^Error: row 57 \(line 58\): .*Column x: could not convert string to float: 'many'; mend it", log)
    assert "5 finished parts kept" in log
    assert code_after == 0, log_after
    assert json.loads(output)["parts_reused"] == 5


def test_bad_rows_are_left_without_a_prediction_where_that_is_allowed(tmp_path, acting, predict):
    """With --max-bad-rows the rows that the model refuses are null, all others answered; one more stops the run."""
    write(doing(_7="raise", _8="raise", _93="raise"), tmp_path / "rows.jsonl")
    command = ["-m", acting, "-i", "rows.jsonl", "-o", "out.jsonl", "--chunk-rows", 20, "--max-bad-rows"]

    code, _, log = predict(*command, 2)
    code_after, output, _ = predict(*command, 3, "--json")

    assert code == 1
    assert "more than 2 bad rows, as --max-bad-rows allows; row 93 (line 93): " in log
    assert "bad luck" in log
    assert code_after == 0
    assert json.loads(output)["bad_rows"] == 3
    answers = [json.loads(line)["prediction"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert answers == [None if at in (7, 8, 93) else float(at) for at in range(1, 101)]


def test_a_replica_that_dies_is_replaced_and_its_rows_tried_again(tmp_path, acting, predict):
    """A death costs nothing but time; rows that kill every replica are named after three attempts."""
    command = ["-m", acting, "-i", "rows.parquet", "-o", "out.parquet", "--chunk-rows", 10, "--params"]
    write(doing(_33="die once"), tmp_path / "rows.parquet")
    code, _, log = predict(*command, json.dumps({"marker": str(tmp_path / "marker")}))
    write(doing(_33="die"), tmp_path / "rows.parquet")
    code_of_death, _, log_of_death = predict(*command, "{}", "--overwrite")

    assert code == 0, log
    assert code_of_death == 1
    assert "rows 31 to 40 could not be predicted in 3 attempts: a replica of" in log_of_death
    assert "was killed by SIGKILL" in log_of_death
    assert read(tmp_path / "out.parquet")["prediction"].tolist() == doing()["x"].tolist()


def test_replicas_work_side_by_side_and_rows_stay_in_order(tmp_path, acting, predict):
    """With --replicas 3 three processes answer, and the rows come out as they went in, beside their input."""
    write(doing(**{f"_{at}": "pid" for at in range(10, 101, 10)}), tmp_path / "rows.csv")

    code, output, log = predict(
        *("-m", acting, "-i", "rows.csv", "-o", "-", "--chunk-rows", 10, "--replicas", 3, "--with-input")
    )

    assert code == 0, log
    rows = [line.split(",") for line in output.splitlines()]
    assert rows[0] == ["do", "x", "prediction"]
    assert [float(x) for _, x, _ in rows[1:]] == doing()["x"].tolist()
    assert len({pid for _, _, pid in rows[1:]}) == 3


def test_standard_input_and_output_carry_nothing_but_rows(acting, predict, tmp_path):
    """What the model prints goes to the log on standard error; the predictions alone to standard output."""
    write(doing(_2="print"), tmp_path / "rows.jsonl")
    with (tmp_path / "rows.jsonl").open() as rows:
        code, output, log = predict(
            *("-m", acting, "-i", "-", "-o", "-", "--format", "jsonl", "--output-format", "csv"), stdin=rows
        )

    assert code == 0, log
    assert output.splitlines() == ["prediction", *(str(float(at)) for at in range(1, 101))]
    assert "the model says hello" in log
    assert re.search(r"predicted 100 rows with .*/acting in [0-9.]+ s: -$", log)


def test_what_would_be_lost_or_mixed_is_refused(tmp_path, acting, predict):
    """An output that is there stays, parts of other params are not joined, and --restart begins anew."""
    write(doing(_15="raise"), tmp_path / "rows.csv")
    (tmp_path / "old.csv").write_text("precious")
    command = ["-m", acting, "-i", "rows.csv", "--chunk-rows", 10, "-o"]

    code, _, log = predict(*command, "old.csv")
    assert (code, "pass --overwrite" in log) == (1, True)
    assert (tmp_path / "old.csv").read_text() == "precious"

    assert predict(*command, "out.csv")[0] == 1
    code, _, log = predict(*command, "out.csv", "--params", '{"marker": "x"}')
    assert code == 1
    assert "holds 1 finished part of a run whose params was None, and {'marker': 'x'} is asked; pass --restart" in log

    code, output, _ = predict(
        *command, "out.csv", "--params", '{"marker": "x"}', "--restart", "--max-bad-rows", 1, "--json"
    )
    assert (code, json.loads(output)["parts_reused"]) == (0, 0)


def test_a_full_disk_loses_nothing_that_is_finished(tmp_path, acting, predict):
    """Where no more can be written the run fails with a sentence, and goes on once there is room."""
    write(doing(), tmp_path / "rows.csv")
    command = ["-m", acting, "-i", "rows.csv", "-o", "out.csv", "--chunk-rows", 10, "--with-input"]

    def limit_files():
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))

    registry.snapshot_directory(acting, tmp_path / "cache" / "models")
    code, _, log = predict(*command, preexec_fn=limit_files)
    code_after, _, log_after = predict(*command)

    assert code == 1
    assert "File too large" in log
    assert "10 finished parts kept" in log
    assert code_after == 0
    assert "10 of 10 parts from an earlier run" in log_after
    assert len(read(tmp_path / "out.csv")) == 100


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_file_larger_than_its_share_of_memory_is_streamed(ending, tmp_path, acting):
    """A file of tens of megabytes costs neither the command nor its replica more than a few of them."""
    small, large = tmp_path / f"small.{ending}", tmp_path / f"large.{ending}"
    frame = pandas.DataFrame({"do": "nothing", "x": 1.5, "rest": [os.urandom(500).hex() for _ in range(50_000)]})
    write(frame.head(2000), small)
    write(frame, large)
    assert large.stat().st_size > 25_000_000

    peaks = [peak_bytes(tmp_path, "-m", acting, "-i", path, "-o", f"{path}.csv", "--chunk-rows", 500, "--with-input")
             for path in (small, large)]  # fmt: skip

    assert (tmp_path / f"large.{ending}.csv").stat().st_size > 50_000_000
    assert peaks[1] - peaks[0] < 10 << 20


def peak_bytes(folder, *arguments):
    """The most memory that one process of the command had."""
    process = turnout_predict(folder, *arguments, stderr=None)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0
    return usage.ru_maxrss << 10
