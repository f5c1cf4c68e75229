"""Parquet in chunks, and types that hold for the whole file."""

import io
import json
from datetime import UTC, datetime

import pandas
import pyarrow
import pyarrow.parquet
import pytest

from gateway.batch import csv, jsonlines, parquet
from gateway.batch.rows import Limit
from gateway.errors import BadRow, BatchFailed


@pytest.fixture
def chunks(tmp_path):
    def chunks(frame, rows=2, signature=None, **options):
        table = frame if isinstance(frame, pyarrow.Table) else pyarrow.Table.from_pandas(frame)
        pyarrow.parquet.write_table(table, tmp_path / "rows.parquet", **options)
        with parquet.opened(tmp_path / "rows.parquet") as file:
            return list(parquet.read(file, Limit(rows), signature or {}))

    return chunks


def frames(chunks):
    return [pandas.read_parquet(io.BytesIO(each.body())) for each in chunks]


@pytest.mark.parametrize("options", [{}, {"row_group_size": 2}, {"write_statistics": False}])
def test_integers_with_a_null_anywhere_are_floats_everywhere(chunks, options):
    """As `pandas.read_parquet` makes them; but not where the model takes integers, for there a null is a bad row."""
    table = pyarrow.table({"n": [1, 2, 3, None], "m": [1, 2, 3, 4]})
    integers = {"inputs": [{"name": "n", "type": "long"}]}

    assert [each.dtypes.astype(str).tolist() for each in frames(chunks(table, **options))] == [["float64", "int64"]] * 2
    assert str(frames(chunks(table, signature=integers, **options))[0]["n"].dtype) == "int64"


def test_rows_are_what_pandas_reads_of_the_whole(chunks):
    """Texts, times, nulls, lists and a named index survive the way in chunks."""
    frame = pandas.DataFrame(
        {
            "text": ["a", None, "c"],
            "at": [datetime(2026, 1, 1, tzinfo=UTC), None, datetime(2026, 1, 2, tzinfo=UTC)],
            "list": [[1], [], None],
        },
        index=pandas.Index([5, 6, 7], name="id"),
    )

    found = pandas.concat(frames(chunks(frame)))

    pandas.testing.assert_frame_equal(found, frame, check_dtype=False)
    assert [each.place() for each in chunks(frame)] == ["rows 1 to 2", "row 3"]


def test_columns_are_values_for_an_output_that_has_no_types(tmp_path):
    """Numbers stay numbers and times become ISO 8601 in JSON lines and CSV."""
    table = pyarrow.table({"n": [1, None], "at": pandas.to_datetime(["2026-01-01T12:00:00", None]), "list": [[1], []]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")

    with parquet.opened(tmp_path / "rows.parquet") as file:
        [rows] = parquet.read(file, Limit(9), {}, keeps_types=False)

    assert [json.loads(line) for line in jsonlines.encode(rows.columns()).splitlines()] == [
        {"n": 1, "at": "2026-01-01T12:00:00", "list": [1]},
        {"n": None, "at": None, "list": []},
    ]
    assert csv.encode(rows.columns()) == b"n,at,list\n1,2026-01-01T12:00:00,[1]\n,,[]\n"


def test_types_stay_where_the_output_has_them(chunks):
    """A column of the input is written as it was read."""
    table = pyarrow.table(
        {"n": pyarrow.array([1, 2], "int32"), "at": pyarrow.array([1, 2], pyarrow.timestamp("ms", "UTC"))}
    )

    written = parquet.encode(chunks(table)[0].columns(), {})

    assert pyarrow.parquet.read_schema(io.BytesIO(written)).types == table.schema.types


def test_parts_of_different_types_become_one_file(tmp_path):
    """Nulls take the type of the others, whole numbers become floats, and an absent column is null."""
    parts = [{"x": [None, None]}, {"x": [1, 2], "y": ["a", float("nan")]}, {"x": [0.5, None]}]
    for at, columns in enumerate(parts):
        (tmp_path / str(at)).write_bytes(parquet.encode(columns, {}))
    with (tmp_path / "whole").open("wb") as whole:
        parquet.join([tmp_path / "0", tmp_path / "1", tmp_path / "2"], whole)

    frame = pandas.read_parquet(tmp_path / "whole")

    assert frame["x"].astype(object).where(frame["x"].notna(), None).tolist() == [None, None, 1.0, 2.0, 0.5, None]
    assert frame["y"].astype(object).where(frame["y"].notna(), None).tolist() == [None, None, "a", None, None, None]


def test_outputs_have_the_types_of_the_signature():
    """A time that came as text is a time again; what the model answers against its signature stays as it is."""
    columns = {"at": ["2026-01-01T00:00:00"], "small": [1.5], "odd": ["later"]}
    types = {"at": "datetime", "small": "float", "odd": "datetime"}

    schema = pyarrow.parquet.read_schema(io.BytesIO(parquet.encode(columns, types)))

    assert [str(each) for each in schema.types] == ["timestamp[us]", "float", "string"]


def test_what_is_no_parquet_is_refused(tmp_path):
    """The error says so; mixed values in a column are told with what to do."""
    (tmp_path / "rows.parquet").write_bytes(b"a,b\n1,2\n")

    with pytest.raises(BadRow, match="the file is no Parquet"):
        parquet.opened(tmp_path / "rows.parquet")
    with pytest.raises(BatchFailed, match=r"has no one type: .*; write JSON lines or CSV"):
        parquet.encode({"x": [1, "a"]}, {})
