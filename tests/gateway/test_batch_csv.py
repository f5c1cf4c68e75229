"""CSV in chunks: cut as pandas would read it, and written as pandas does."""

import io
import random
from csv import QUOTE_ALL

import pandas
import pytest

from gateway.batch import csv
from gateway.batch.rows import Limit
from gateway.errors import BadRow


def chunks(text, rows=2, types=None):
    return list(csv.read(io.BytesIO(text.encode()), Limit(rows), types or {}))


def values(text, **options):
    """All chunks' bodies, read by pandas."""
    frames = [pandas.read_csv(io.BytesIO(each.body()), dtype=str) for each in chunks(text, **options)]
    return pandas.concat(frames, ignore_index=True)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n5,6",
        "a,b\r\n1,2\r\n3,4\r\n5,6\r\n",
        "\ufeffa,b\n1,2\n3,4\n5,6\n",
        "\n\na,b\n\n1,2\n   \n3,4\n5,6\n\n\n",
        'a,b\n1,"two\nlines, and ""quotes"""\n3,4\n"5\n\n",6\n',
        'a,"b\nc"\n1,5" of pipe\n3,4\n5,"6"\n',
        'a\n""\n1\n"  "\n',
        "a,b\n1\n3,4\n5,\n",
        "a,b\nä,€\n𝄞,4\n5,6\n",
    ],
)
def test_chunks_hold_the_rows_that_pandas_finds_in_the_whole(text):
    """Quoted line ends, blank lines, byte order marks and short rows are cut where pandas cuts them."""
    whole = pandas.read_csv(io.StringIO(text), dtype=str)

    pandas.testing.assert_frame_equal(values(text), whole)
    assert [len(each) for each in chunks(text)] == [2, len(whole) - 2]


def test_any_table_is_cut_where_pandas_cuts_it():
    """Tables of random cells, with every character that means something to CSV, come back whole."""
    point = random.Random(7)
    for _ in range(200):
        cells = [["".join(point.choices('a1 ,"\n\r\t;', k=point.randrange(6))) for _ in range(3)] for _ in range(9)]
        text = pandas.DataFrame(cells, columns=["x", "y", "z"]).to_csv(index=False, quoting=QUOTE_ALL)

        whole = pandas.read_csv(io.StringIO(text), dtype=str)
        pandas.testing.assert_frame_equal(values(text, rows=point.randrange(1, 5)), whole)


def test_a_row_is_named_with_its_line():
    """Rows are counted from the first below the header; lines as an editor counts them."""
    [first, second] = chunks('a,b\n\n1,"x\ny"\n3,4\n\n\n5,6\n')

    assert first.place() == "rows 1 to 2"
    assert first.cut(0, 1).place() == "row 1 (line 3)"
    assert first.cut(1, 2).place() == "row 2 (line 5)"
    assert second.place() == "row 3 (line 8)"


def test_a_field_too_many_in_the_first_row_is_no_index():
    """pandas would take the first column for row names, and answer wrongly for the whole chunk."""
    [first, second] = chunks("a,b\n1,2\n3,4\n5,6,\n")

    first.check()
    with pytest.raises(BadRow, match="it has 3 fields, and the header names 2 columns"):
        second.check()


def test_a_carriage_return_alone_is_refused():
    """pandas ends a row there, and an editor does not: no answer could be put beside the right one."""
    with pytest.raises(BadRow, match="a carriage return stands alone"):
        chunks("a,b\n1,2\r3,4\n")[0].check()
    with pytest.raises(BadRow, match="is no CSV"):
        chunks('a,b\n"1",2\r3,4\n')


def test_long_rows_make_short_chunks():
    """A chunk ends at its bytes as well as at its rows."""
    found = csv.read(io.BytesIO(b"a\n" + b"x" * 99 + b"\n" + b"y\n" * 9), Limit(5, 50), {})

    assert [len(each) for each in found] == [1, 5, 4]


@pytest.mark.parametrize(("text", "message"), [("", "is empty"), ("\n \n", "is empty"), ('a\n"x', None)])
def test_a_file_without_a_header_is_refused(text, message):
    """No header is an error; a quote that stays open is left to whoever reads the row."""
    if message is None:
        assert len(chunks(text)) == 1
        return
    with pytest.raises(BadRow, match=message):
        chunks(text)


def test_a_header_alone_is_a_table_without_rows():
    """It has its columns, so that an empty output has them too."""
    [only] = chunks("a,b\n")

    assert (len(only), only.columns()) == (0, {"a": [], "b": []})


def test_columns_have_the_types_that_are_asked_for():
    """Text stays text, a missing value is None, and so is what is not of its type."""
    types = {"n": "long", "x": "double", "is": "boolean"}
    [rows] = chunks("id,n,x,is\n007,1,1e3,True\n,NA,nan,false\nNA,x,,", rows=9, types=types)

    assert rows.columns() == {
        "id": ["007", None, "NA"],
        "n": [1, None, None],
        "x": [1000.0, None, None],
        "is": [True, False, None],
    }


def test_two_columns_of_one_name_have_no_values_of_their_own():
    """They could not be told apart in the output."""
    with pytest.raises(BadRow, match="two columns are called 'a'; rename one"):
        chunks("a,a\n1,2\n")[0].columns()


def test_parts_become_one_file_that_pandas_reads(tmp_path):
    """NaN and None are missing values, lists are JSON, and the header stands once, though it has a line end in it."""
    columns = {
        "a\nb": [1.5, float("nan"), None, -0.1],
        "c": ["x,y", 'q"', "", "1\n2\r3"],
        "d": [[1], {"e": None}, b"f", 0],
    }
    paths = [tmp_path / "0", tmp_path / "1"]
    for path in paths:
        path.write_bytes(csv.encode(columns))
    with (tmp_path / "whole.csv").open("wb") as whole:
        csv.join(paths, whole)

    frame = pandas.read_csv(tmp_path / "whole.csv", keep_default_na=False)

    assert frame.columns.tolist() == ["a\nb", "c", "d"]
    assert frame["a\nb"].tolist() == ["1.5", "", "", "-0.1"] * 2
    assert frame["c"].tolist() == ["x,y", 'q"', "", "1\n2\r3"] * 2
    assert frame["d"].tolist() == ["[1]", '{"e": null}', "Zg==", "0"] * 2
