"""Bodies as a replica reads them: every form of JSON, CSV and Parquet, and what is wrong with them."""

import io
import json

import numpy
import pandas
import pyarrow
import pyarrow.parquet
import pytest

from gateway.worker import tables
from registry.models import enforcement

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


def column(name, kind, **more):
    return {"type": kind, "required": True} | ({"name": name} if name else {}) | more


def tensor(dtype, shape, name=None):
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}} | ({"name": name} if name else {})


PARAMS = [
    {"name": "k", "type": "long", "default": 1, "shape": None},
    {"name": "w", "type": "string", "default": ["a"], "shape": [-1]},
]
TWO = [column("a", "double"), column("b", "double")]


def scorer(inputs=None, params=None, **more):
    signature = None if inputs is None and params is None else {"inputs": inputs, "params": params} | more
    return tables.Scorer(signature, enforcement)


def read(body, inputs=None, content_type=JSON, **more):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return scorer(inputs, **more).read({"kind": "body", "content_type": content_type}, (memoryview(text),))


def refusal(*args, **more):
    with pytest.raises(tables.Refused) as refused:
        read(*args, **more)
    return refused.value


def split(columns, *rows, **more):
    return {"dataframe_split": {"columns": columns, "data": rows, **more}}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("long", 2.5, 2),
        ("long", "3", 3),
        ("long", True, 1),
        ("integer", 2.7, 2),
        ("double", "3", 3.0),
        ("double", True, 1.0),
        ("boolean", "false", True),
        ("boolean", 0, False),
        ("string", 5, 5),
        ("binary", "aGk=", b"hi"),
        ("datetime", "2020-01-02T03:04:05", pandas.Timestamp("2020-01-02T03:04:05")),
    ],
)
def test_values_of_a_table_are_cast_to_the_signature(kind, value, expected):
    """JSON has few types, so its values are converted plainly before the signature is enforced."""
    data = read(split(["a"], [value]), [column("a", kind)]).data

    assert data["a"].iloc[0] == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("long", None),
        ("long", "3.5"),
        ("long", 2**63),
        ("long", 1e30),
        ("integer", 2**31),
        ("double", "x"),
        ("double", [1]),
        ("binary", None),
        ("datetime", "nonsense"),
    ],
)
def test_values_that_cannot_be_cast_are_refused(kind, value):
    """What has no value of the column's type, or would wrap around, is the client's error and names the column."""
    refused = refusal(split(["a"], [value]), [column("a", kind)])

    assert (refused.status, refused.error_code) == (400, "BAD_REQUEST")
    assert refused.message.startswith("Invalid input. ")
    assert "column a" in refused.message


def test_null_is_missing_in_a_double_column():
    """A null in a column of doubles is NaN."""
    assert numpy.isnan(read(split(["a", "b"], [1, None]), TWO).data.loc[0, "b"])


def test_columns_are_put_in_order_and_extra_ones_left_out():
    """The model gets the signature's columns in its order, under the index that came."""
    data = read(split(["c", "b", "a"], ["z", 2, 1], index=["r"]), TWO).data

    pandas.testing.assert_frame_equal(data, pandas.DataFrame({"a": [1.0], "b": [2.0]}, index=["r"]))


@pytest.mark.parametrize(
    "body",
    [
        split(["a"], [1]),
        {"dataframe_records": []},
        {"inputs": [[1, 2]]},
        {"inputs": {"a": [1], "b": [2, 3]}},
        {"inputs": []},
        {"inputs": None},
        {"prompt": "hi"},
        split(["a", "b", "b"], [1, 2, 3]),
    ],
)
def test_what_the_signature_refuses_is_an_invalid_parameter(body):
    """A body that can be read and does not fit is told as MLflow tells it, without the data."""
    refused = refusal(body, TWO)

    assert (refused.status, refused.error_code) == (400, "INVALID_PARAMETER_VALUE")
    assert "Failed to enforce schema" in refused.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"5",
        b"[]",
        b"{}",
        b'{"inputs": [1]} x',
        b'{"inputs": [1], "instances": [1]}',
        b'{"inputs": ["\xff"]}',
        b'{"inputs": [' + b"9" * 5000 + b"]}",
        b'{"inputs": ' + b"[" * 100_000,
        b'{"inputs": ' + b'{"a":' * 100_000,
        b'{"inputs": [[1], [2, 3]]}',
        b'{"instances": [{"a": 1}, 2]}',
        b'{"instances": [{"a": 1}, {"a": 1, "b": 2}]}',
        b'{"dataframe_split": 5}',
        b'{"dataframe_split": {"columns": ["a"]}}',
        b'{"dataframe_split": {"data": [[1]], "rows": 1}}',
        b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": [[]], "data": 5}}',
        b'{"dataframe_records": {"a": 1}}',
        b'{"dataframe_records": [{"a": 1}, 5]}',
    ],
)
@pytest.mark.parametrize("inputs", [None, TWO, [tensor("float64", [-1, 2])]], ids=["none", "columns", "tensor"])
def test_unreadable_bodies_are_bad_requests(body, inputs):
    """Broken, deep, huge or ambiguous JSON is refused in a short sentence."""
    refused = refusal(body, inputs)

    assert refused.status == 400
    assert refused.error_code == "BAD_REQUEST"
    assert len(refused.message) < 1000


def test_the_last_of_two_equal_keys_wins():
    """Duplicate JSON keys are read as everywhere in the product: the last one counts."""
    assert read(b'{"inputs": [1], "inputs": [2]}').data.tolist() == [2]


def test_odd_numbers_and_texts_are_exact():
    """A byte order mark is skipped, 1e400 is infinite, large integers and lone surrogates stay what they are."""
    assert read(b'\xef\xbb\xbf{"inputs": [1e400]}').data.tolist() == [float("inf")]
    assert read({"inputs": [2**70]}).data.tolist() == [2**70]
    assert read(b'{"inputs": ["\\ud800"]}').data.tolist() == ["\ud800"]


def test_without_a_signature_the_form_decides():
    """Tables become DataFrames, arrays arrays, and lists of objects lists or columns of arrays."""
    assert list(read(split(["a"], [1])).data.columns) == ["a"]
    assert read({"inputs": [[1, 2]]}).data.dtype == numpy.int64
    assert read({"inputs": {"a": [1]}}).data["a"].tolist() == [1]
    assert read({"inputs": [{"a": 1}]}).data == [{"a": numpy.array(1)}]
    assert read({"instances": [{"a": 1}, {"a": 2}]}).data["a"].tolist() == [1, 2]
    assert read({"inputs": []}).data == []


def test_inputs_become_the_signatures_tensors():
    """An array takes the tensor's type; several tensors come by name, one without a name comes alone."""
    named = [tensor("float64", [-1, 2], "x"), tensor("int64", [-1], "y")]

    alone = read({"inputs": [["1", 2]]}, [tensor("float32", [-1, 2])]).data
    several = read({"inputs": {"x": [[1, 2]], "y": [3]}}, named).data
    rows = read({"dataframe_records": [{"x": [1, 2], "y": 3}]}, named).data

    numpy.testing.assert_array_equal(alone, numpy.array([[1, 2]], "float32"), strict=True)
    assert several["x"].tolist() == rows["x"].tolist() == [[1.0, 2.0]]
    assert several["y"].tolist() == rows["y"].tolist() == [3]
    assert refusal({"inputs": {"x": [1]}}, [tensor("float32", [-1])]).error_code == "BAD_REQUEST"
    assert refusal({"inputs": [[1, 2, 3]]}, [tensor("float32", [-1, 2])]).error_code == "INVALID_PARAMETER_VALUE"


def test_inputs_become_the_signatures_columns():
    """Arrays by name, objects by row and a list for the only column all become the table."""
    assert read({"inputs": {"a": [1, 2], "b": 5}}, TWO).data.to_numpy().tolist() == [[1.0, 5.0], [2.0, 5.0]]
    assert read({"inputs": [{"a": 1, "b": 2, "c": 3}]}, TWO).data.to_numpy().tolist() == [[1.0, 2.0]]
    assert read({"instances": {"a": [1], "b": ["2"]}}, TWO).data.to_numpy().tolist() == [[1.0, 2.0]]
    assert read({"inputs": ["2.5", 3]}, [column("a", "double")]).data["a"].tolist() == [2.5, 3.0]
    assert read({"inputs": ["x", None]}, [column("a", "string")]).data["a"].tolist() == ["x", "None"]
    assert read({"inputs": "x"}, [column(None, "string")]).data[0].tolist() == ["x"]


def test_nested_columns_are_enforced():
    """Objects and arrays in a table are checked and widened inside."""
    inputs = [column("o", "object", properties={"q": {"type": "double", "required": True}})]

    assert read({"dataframe_records": [{"o": {"q": 1.5}}]}, inputs).data["o"].tolist() == [{"q": 1.5}]
    assert refusal({"dataframe_records": [{"o": {"z": 1}}]}, inputs).error_code == "BAD_REQUEST"


def test_params_are_enforced():
    """Defaults are filled in, unknown names dropped; wrong types are an invalid parameter."""
    assert read(split(["a", "b"], [1, 2]), TWO, params=PARAMS).params == {"k": 1, "w": ["a"]}
    assert read({"inputs": [1], "params": {"k": 3, "z": 1}}, params=PARAMS).params == {"k": 3, "w": ["a"]}
    assert read({"inputs": [1], "params": {"k": 3}}).params == {}
    assert refusal({"inputs": [1], "params": {"k": "x"}}, params=PARAMS).error_code == "INVALID_PARAMETER_VALUE"
    assert refusal({"inputs": [1], "params": [1]}, params=PARAMS).error_code == "INVALID_PARAMETER_VALUE"


def test_an_llm_request_is_the_models_input_and_its_answer_stands_alone():
    """With `messages`, `prompt` or `input` the whole object is the input but for params, and nothing is wrapped."""
    request = read({"prompt": "hi", "k": 3, "other": 1}, params=PARAMS)

    assert request.data == {"prompt": "hi", "other": 1}
    assert request.params == {"k": 3, "w": ["a"]}
    assert scorer().write({"text": "ho"}, request) == ({"kind": "json", "whole": True}, [b'{"text": "ho"}'])
    assert scorer().write(numpy.array([1.0]), request) == ({"kind": "json", "whole": True}, [b"[1.0]"])


def test_a_type_hinted_model_takes_inputs_as_they_came():
    """Such a model checks its own input; every other form is refused."""
    hinted = {"is_signature_from_type_hint": True}

    assert read({"inputs": ["a", 1]}, [column(None, "string")], **hinted).data == ["a", 1]
    assert read(b"x\nq\n", [column(None, "string")], CSV, **hinted).data == ["q"]
    assert refusal(split(["a"], ["a"]), [column(None, "string")], **hinted).error_code == "INVALID_PARAMETER_VALUE"


def test_csv_is_read_with_the_signatures_types():
    """Text keeps its leading zeros, times are parsed, and a missing double is NaN."""
    inputs = [column("s", "string"), column("d", "double"), column("t", "datetime")]

    data = read(b"t,d,s,x\n2020-01-02,,007,1\n", inputs, CSV).data

    assert list(data.columns) == ["s", "d", "t"]
    assert data["s"].tolist() == ["007"]
    assert data["d"].isna().all()
    assert data["t"].tolist() == [pandas.Timestamp("2020-01-02")]
    assert read(b"p,q\n1,2\n", [column(None, "double")] * 2, CSV).data.dtypes.tolist() == ["float64"] * 2


@pytest.mark.parametrize("body", [b"", b"a,b\n1,x\n", b"a\n\xff\n", b"a,b\n1,2,3\n1,2,3,4,5\n"])
def test_bad_csv_is_a_bad_request(body):
    """CSV that cannot be read with the signature's types is refused in a sentence."""
    assert refusal(body, TWO, CSV).error_code == "BAD_REQUEST"


def test_bad_csv_names_the_column():
    """The refusal says in which column the text stands that is not of the signature's type."""
    assert "Error: Column b: could not convert string to float: 'x'" in refusal(b"a,b\n1,2\n3,x\n", TWO, CSV).message
    whole = [column("a", "double"), column("b", "long")]
    assert "Error: Column b: Integer column has NA values" in refusal(b"b,a\n1,2\n,3\n", whole, CSV).message


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"a,b\n1,2\n", CSV), (b'{"dataframe_records": [{"a": 1, "b": 2}]}', JSON)]
)
def test_params_may_come_beside_the_body(body, content_type):
    """A payload's own params go with a body that has none, and are enforced as those of a body."""
    payload = {"kind": "body", "content_type": content_type, "params": {"k": 7}}

    request = scorer(TWO, PARAMS).read(payload, (memoryview(body),))

    assert request.params == {"k": 7, "w": ["a"]}


def test_csv_cannot_carry_tensors():
    """A model of arrays refuses CSV, as under MLflow."""
    assert refusal(b"a,b\n1,2\n", [tensor("float64", [-1, 2])], CSV).error_code == "BAD_REQUEST"


def test_parquet_is_read_and_enforced_without_casts():
    """Parquet has types of its own, so an integer column is no double column."""

    def parquet(**columns):
        file = io.BytesIO()
        pandas.DataFrame(columns).to_parquet(file)
        return file.getvalue()

    assert read(parquet(a=[1.5], b=[2.5]), TWO, PARQUET).data.to_numpy().tolist() == [[1.5, 2.5]]
    assert refusal(parquet(a=[5], b=[2]), TWO, PARQUET).error_code == "INVALID_PARAMETER_VALUE"
    assert refusal(b"junk", TWO, PARQUET).error_code == "BAD_REQUEST"


def test_a_small_parquet_file_of_very_many_rows_is_refused():
    """A constant column takes a few bytes a million rows in the file; what it would take in memory is bounded."""
    file = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(file, pyarrow.schema([("a", pyarrow.float64())])) as writer:
        part = pyarrow.table({"a": numpy.zeros(1 << 22)})
        for _ in range(33):
            writer.write_table(part)

    refused = refusal(file.getvalue(), None, PARQUET)

    assert refused.status == 413
    assert str(33 << 22) in refused.message


def test_one_long_text_does_not_pad_all_others():
    """An array of texts takes the longest one's room for each: far too much is refused, a table takes it as it is."""
    texts = ["x" * 100_000] + ["a"] * 10_000

    assert refusal({"inputs": texts}).error_code == "BAD_REQUEST"
    assert refusal({"inputs": texts}, [tensor("str", [-1])]).error_code == "BAD_REQUEST"
    assert read({"inputs": texts}, [column("a", "string")]).data["a"].tolist() == texts


def test_another_content_type_is_refused():
    """A type that no reader knows is 415 here too."""
    assert refusal(b"x", None, "text/plain").status == 415


def test_a_refusal_never_repeats_the_data_at_length():
    """A long value in a message is cut, however long the client made it."""
    refused = refusal(split(["a", "b"], ["x" * 100_000, 2]), TWO)

    assert len(refused.message) < 1000
