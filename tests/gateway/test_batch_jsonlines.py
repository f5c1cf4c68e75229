"""JSON lines in chunks."""

import io
import json

import pytest

from gateway.batch import jsonlines
from gateway.batch.rows import Limit
from gateway.errors import BadRow


def chunks(text, rows=2, signature=None):
    return list(jsonlines.read(io.BytesIO(text.encode()), Limit(rows), signature or {}))


def test_objects_travel_as_records_and_anything_else_as_inputs():
    """What a line is says how the gateway is asked; type hints take `inputs` alone."""
    hinted = {"is_signature_from_type_hint": True}

    assert [json.loads(each.body()) for each in chunks('{"a": 1}\n\n{"a": 2}\r\n {"a": 3}')] == [
        {"dataframe_records": [{"a": 1}, {"a": 2}]},
        {"dataframe_records": [{"a": 3}]},
    ]
    assert json.loads(chunks("[1, 2]\n[3, 4]\n")[0].body()) == {"inputs": [[1, 2], [3, 4]]}
    assert json.loads(chunks('{"a": 1}\n', signature=hinted)[0].body()) == {"inputs": [{"a": 1}]}


def test_a_row_is_named_with_its_line():
    """Blank lines count as lines, and not as rows."""
    [first, second] = chunks('\ufeff\n{"a": 1}\n\n{"a": 2}\n\n{"a": 3}\n')

    assert [first.cut(0, 1).place(), first.cut(1, 2).place()] == ["row 1 (line 2)", "row 2 (line 4)"]
    assert second.place() == "row 3 (line 6)"


@pytest.mark.parametrize("line", ['{"a": 1}, {"a": 2}', '{"a": 1', '{"a": 1}], "params": {"k": 1}, "x": [{}', "oops"])
def test_a_line_is_one_value(line):
    """Lines are put between others, so none may be read as several; bare NaN is a number, as in a request."""
    with pytest.raises(BadRow, match="it is no JSON"):
        chunks(f'{{"a": 1}}\n{line}\n')[0].check()
    chunks('{"a": NaN}\n[-Infinity]\n')[0].check()


@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff"])
def test_a_file_without_lines_has_no_rows(text):
    """It is one chunk with nothing in it."""
    [only] = chunks(text)

    assert (len(only), only.columns()) == (0, {})


def test_columns_are_those_of_all_lines():
    """A line lacks what it does not say, a value without a name is the input, and a broken line has nothing."""
    [rows] = chunks('{"a": 1}\n{"b": [2]}\n3\n{oops\n', rows=9)

    assert rows.columns() == {"a": [1, None, None, None], "b": [None, [2], None, None], "input": [None, None, 3, None]}


def test_what_json_has_no_number_for_is_null(tmp_path):
    """Every line is JSON that any reader takes, and parts follow each other."""
    part = tmp_path / "part"
    part.write_bytes(jsonlines.encode({"x": [float("nan"), float("inf"), 0.1], "y": ["é\n", None, {"z": [True]}]}))
    whole = io.BytesIO()
    jsonlines.join([part, part], whole)

    lines = [json.loads(line) for line in whole.getvalue().splitlines()]

    assert lines == [{"x": None, "y": "é\n"}, {"x": None, "y": None}, {"x": 0.1, "y": {"z": [True]}}] * 2
