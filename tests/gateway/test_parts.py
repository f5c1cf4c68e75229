"""Payloads joined and answers cut apart: nothing is mixed, and what is cut is what was joined."""

import json

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols import clean
from gateway.worker import parts

NAMED = [
    {"name": "a", "type": "double", "required": True},
    {"name": "b", "type": "long", "required": True},
    {"name": "word", "type": "string", "required": True},
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
rows = st.lists(st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**63), 2**63 - 1), texts))


def mixed(values):
    """A payload of one buffer a column, as the ingress reads it."""
    names = [each["name"] for each in NAMED]
    payload = clean.reader({"inputs": NAMED})(
        json.dumps({"dataframe_split": {"columns": names, "data": values}}).encode()
    )
    return payload.meta, payload.buffers


def packed(values, columns=("a", "b"), **more):
    values = numpy.asarray(values, dtype="float64")
    meta = {"kind": "table", "columns": list(columns), "dtypes": ["float64"] * 2, "rows": len(values), "packed": True}
    return meta | more, [values.tobytes()]


def tensor(values, dtype="float64"):
    values = numpy.asarray(values, dtype=dtype)
    return {"kind": "tensor", "dtype": dtype, "shape": list(values.shape)}, [values.tobytes()]


def content(meta, buffers):
    """Every value, whatever the layout."""
    if meta["kind"] == "tensor" or meta.get("packed"):
        return [bytes(each) for each in buffers]
    dtypes = meta["dtypes"]
    return [
        json.loads(bytes(each)) if dtype == "str" else bytes(each) for dtype, each in zip(dtypes, buffers, strict=True)
    ]


@given(st.lists(rows.filter(len), min_size=2, max_size=4))
def test_parts_of_what_was_joined_are_what_was_given(tables):
    """For columns of numbers and of texts, whatever stands in them."""
    payloads = [mixed(each) for each in tables]

    meta, buffers = parts.join(payloads)

    assert meta["parts"] == [len(each) for each in tables]
    assert meta["rows"] == sum(meta["parts"])
    start = 0
    for payload, size in zip(payloads, meta["parts"], strict=True):
        own, its_buffers = parts.part(meta, buffers, start, start + size)
        assert own == {name: value for name, value in payload[0].items() if name != "parts"}
        assert content(own, its_buffers) == content(*payload)
        start += size


@pytest.mark.parametrize("make", [packed, tensor])
def test_rows_in_one_buffer(make):
    """Packed tables and tensors are joined and cut by their rows' width."""
    payloads = [make([[1.0, 2.0]]), make([[3.0, 4.0], [5.0, 6.0]])]

    meta, buffers = parts.join(payloads)

    assert numpy.frombuffer(b"".join(buffers)).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert parts.rows(meta) == 3
    assert numpy.frombuffer(parts.part(meta, buffers, 1, 3)[1][0]).tolist() == [3.0, 4.0, 5.0, 6.0]


def test_what_may_be_joined():
    """The same columns, types and params; never a body that nobody has read, and never a number without rows."""
    same = parts.key(packed([[1, 2]])[0])
    assert same == parts.key(packed([[3, 4], [5, 6]])[0])
    others = [
        parts.key(packed([[1, 2]], columns=("b", "a"))[0]),
        parts.key(packed([[1, 2]], params={"a": 1})[0]),
        parts.key(packed([[1, 2]], params={"a": 2})[0]),
        parts.key(packed([[1, 2]], params={})[0]),
        parts.key(tensor([[1, 2]])[0]),
        parts.key(tensor([[1, 2]], "float32")[0]),
        parts.key(tensor([[1, 2, 3]])[0]),
        parts.key(mixed([(1.0, 1, "x")])[0]),
    ]
    assert len({same, *others}) == 1 + len(others)
    assert parts.key({"kind": "body", "content_type": "text/csv"}) is None
    assert parts.key({"kind": "tensor", "dtype": "float64", "shape": []}) is None


def test_an_array_is_cut_by_rows():
    """Each gets the entries of its own rows, however many an entry has."""
    meta, buffers = tensor([[1, 2], [3, 4], [5, 6]], "int32")

    first, second = parts.cut(meta, buffers, [1, 2])

    assert (first[0]["shape"], numpy.frombuffer(first[1][0], "int32").tolist()) == ([1, 2], [1, 2])
    assert (second[0]["shape"], numpy.frombuffer(second[1][0], "int32").tolist()) == ([2, 2], [3, 4, 5, 6])


def test_answers_that_come_in_parts():
    """A part that failed has no buffer, and the others keep theirs."""
    error = {"kind": "error", "status": 400, "code": "BAD_REQUEST", "message": "no"}
    meta = {"kind": "parts", "parts": [{"kind": "json"}, error, {"kind": "json"}]}

    assert parts.cut(meta, [b"[1]", b"[3]"], [1, 1, 1]) == [
        ({"kind": "json"}, [b"[1]"]),
        (error, []),
        ({"kind": "json"}, [b"[3]"]),
    ]
