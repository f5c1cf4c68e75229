"""MLflow's scoring protocol in the ingress: what it decodes itself agrees with what a replica would read."""

import json
import struct

import numpy
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import UnsupportedMediaType
from gateway.protocols.mlflow import MAX_PARSED_BYTES, MlflowDialect
from gateway.worker import tables
from gateway.worker.frames import Payload
from registry.models import enforcement

JSON = b"application/json"


def column(name, kind, required=True):
    return {"type": kind, "required": required} | ({"name": name} if name else {})


def tensor(dtype, shape, name=None):
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}} | ({"name": name} if name else {})


SIGNATURES = {
    "doubles": {"inputs": [column("a", "double"), column("b", "double")]},
    "longs": {"inputs": [column("a", "long"), column("b", "long")]},
    "floats": {"inputs": [column("a", "float"), column("b", "float")]},
    "flags": {"inputs": [column("a", "boolean"), column("b", "boolean")]},
    "one": {"inputs": [column("a", "integer")]},
    "mixed": {
        "inputs": [
            column("a", "string"),
            column("b", "boolean"),
            column("c", "integer"),
            column("d", "long"),
            column("e", "float"),
            column("f", "double", required=False),
        ]
    },
    "params": {
        "inputs": [column("a", "double"), column("b", "double")],
        "params": [{"name": "k", "type": "long", "default": 1, "shape": None}],
    },
    "unnamed": {"inputs": [column(None, "double"), column(None, "double")]},
    "unnamed strings": {"inputs": [column(None, "string"), column(None, "string")]},
    "matrix": {"inputs": [tensor("float64", [-1, 2])]},
    "bytes": {"inputs": [tensor("uint8", [-1, 2, 2])]},
    "float32 vector": {"inputs": [tensor("float32", [-1])]},
    "named tensors": {"inputs": [tensor("float64", [-1, 2], "a"), tensor("int64", [-1], "b")]},
}
READERS = {name: (MlflowDialect(each), tables.Scorer(each, enforcement)) for name, each in SIGNATURES.items()}
DOUBLES = {"columns": ["a", "b"], "data": [[1, 2.5], [3, -4]]}


def decode(signature, body):
    """The payload as a replica receives it: its meta has been JSON."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    payload = READERS[signature][0].decode(JSON, text)
    return Payload(json.loads(json.dumps(payload.meta)), payload.buffers)


def outcome(scorer, payload):
    """What the model would get, or what the client would."""
    try:
        return scorer.read(payload.meta, payload.buffers)
    except tables.Refused as refused:
        return (refused.status, refused.error_code)


def assert_same(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, pandas.DataFrame):
        pandas.testing.assert_frame_equal(ours, theirs, check_index_type=False, check_column_type=False)
        for name in ours.columns[ours.dtypes.map(lambda dtype: dtype.kind == "f")]:
            assert ours[name].to_numpy().tobytes() == theirs[name].to_numpy().tobytes()
    else:
        numpy.testing.assert_array_equal(ours, theirs, strict=True)


# Bodies that are mostly clean, and all the ways of not being so that a table of examples would miss.

NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.floats(width=32),
    st.sampled_from([0, -0.0, 2**31, 2**63, 2**53 + 1, 5e-324, 1e300, 10**400]),
)
VALUES = st.one_of(NUMBERS, st.booleans(), st.text(max_size=3), st.none(), st.just([1]), st.just("7"), st.just("a\0"))
CLEAN = {
    "double": st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70)),
    "float": st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70)),
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": st.text(max_size=3) | st.just("a\0"),
}


def values_of(spec, is_clean):
    return CLEAN.get(spec["type"], NUMBERS) if is_clean else VALUES


def nested(element, shape):
    for size in reversed(shape):
        element = st.lists(element, min_size=max(size, 0), max_size=size if size >= 0 else 3)
    return element


@st.composite
def contents(draw, inputs, is_clean):
    """One form with its content: rows, records, columns or a tensor."""
    form = draw(st.sampled_from(["dataframe_split", "dataframe_records", "inputs", "instances"]))
    names = [each.get("name") or f"p{at}" for at, each in enumerate(inputs)]
    if inputs[0]["type"] == "tensor" and form in ("inputs", "instances"):
        wanted = inputs[0]["tensor-spec"]["shape"]
        shape = wanted if is_clean else draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
        return form, draw(nested(st.integers(0, 255) if is_clean else VALUES, shape))
    rows = draw(st.lists(st.tuples(*(values_of(each, is_clean) for each in inputs)), max_size=4))
    if draw(st.integers(0, 4)) == 0:
        order = draw(st.permutations(range(len(names))))
        names, rows = [names[at] for at in order], [[row[at] for at in order] for row in rows]
    if form == "dataframe_split":
        standard = list(range(len(rows)))
        index = draw(st.sampled_from([{}, {"index": None}, {"index": standard}, {"index": [7] * len(rows)}]))
        return form, {"columns": names, "data": rows} | index
    records = [dict(zip(names, row, strict=True)) for row in rows]
    shape = draw(st.sampled_from(["records", "columns", "rows"]))
    if form == "dataframe_records" or shape == "records":
        return form, records
    return form, {name: [row[name] for row in records] for name in names} if shape == "columns" else rows


@st.composite
def bodies(draw):
    """A signature's name and a body for it: JSON text that may have been damaged."""
    name = draw(st.sampled_from(list(SIGNATURES)))
    form, content = draw(contents(SIGNATURES[name]["inputs"], draw(st.integers(0, 3)) > 0))
    document = {form: content} | draw(
        st.sampled_from([{}] * 5 + [{"params": None}, {"params": {"k": 2}}, {"params": {"k": "x"}}, {"params": 5}])
    )
    document |= draw(st.sampled_from([{}] * 8 + [{"inputs": [1]}, {"prompt": "hi"}, {"other": 1}]))
    text = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(text)))
        junk = draw(
            st.sampled_from([b"", b"0", b"-", b".", b"e5", b"\xff", b" ", b"\t", b'"', b"null", b",", b"1", b"\0"])
        )
        text = text[:at] + junk + text[at + draw(st.integers(0, 1)) :]
    return name, text


@settings(max_examples=500, deadline=None)
@given(bodies())
def test_a_typed_payload_is_read_as_the_body_would_be(case):
    """Whenever the ingress decodes a body itself, the model gets exactly what the replica would have read."""
    signature, body = case
    payload = decode(signature, body)
    if payload.meta["kind"] == "body":
        return
    scorer = READERS[signature][1]

    ours = outcome(scorer, payload)
    theirs = outcome(scorer, Payload({"kind": "body", "content_type": "application/json"}, (body,)))

    if isinstance(theirs, tuple) and not hasattr(theirs, "data"):
        assert ours == theirs
    else:
        assert_same(ours.data, theirs.data)
        assert ours[1:] == theirs[1:]


@given(st.binary(max_size=40), st.sampled_from(list(SIGNATURES)))
def test_no_body_makes_the_ingress_raise(body, signature):
    """Whatever the bytes are, the ingress passes them on rather than fail."""
    payload = READERS[signature][0].decode(JSON, body)

    assert payload == Payload({"kind": "body", "content_type": "application/json"}, (body,))


@pytest.mark.parametrize(
    ("signature", "body", "kind"),
    [
        ("doubles", {"dataframe_split": DOUBLES}, "table"),
        ("doubles", {"dataframe_split": DOUBLES | {"index": [0, 1]}}, "table"),
        ("doubles", {"dataframe_split": {"columns": ["b", "a"], "data": [[1, 2]]}}, "table"),
        ("doubles", {"dataframe_records": [{"b": 1, "a": 2}]}, "table"),
        ("doubles", {"inputs": {"a": [1, 2], "b": [3, 4]}}, "table"),
        ("doubles", {"inputs": [{"a": 1, "b": 3}]}, "table"),
        ("doubles", {"instances": [{"a": 1, "b": 3}]}, "table"),
        ("params", {"dataframe_split": DOUBLES, "params": {"k": 2}}, "table"),
        ("unnamed", {"inputs": [[1, 2]]}, "table"),
        ("unnamed", {"dataframe_split": DOUBLES}, "table"),
        ("matrix", {"inputs": [[1, 2]]}, "tensor"),
        ("bytes", {"instances": [[[1, 2], [3, 255]]]}, "tensor"),
        ("doubles", {"dataframe_split": DOUBLES | {"index": [5, 6]}}, "body"),
        ("doubles", {"dataframe_split": DOUBLES, "messages": []}, "body"),
        ("doubles", {"dataframe_split": DOUBLES, "inputs": [1]}, "body"),
        ("doubles", {"dataframe_split": {"columns": ["a", "b"], "data": []}}, "body"),
        ("doubles", {"dataframe_split": {"columns": ["a", "b"], "data": [[1, None]]}}, "body"),
        ("doubles", {"dataframe_split": {"columns": ["a", "b"], "data": [["1", 2]]}}, "body"),
        ("doubles", {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1, 2, 3]]}}, "body"),
        ("doubles", {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [3]]}}, "body"),
        ("doubles", b'{"dataframe_split": {"columns": ["a", "b"], "data": [[NaN, 1]]}}', "body"),
        ("doubles", {"inputs": {"a": [1], "b": [2, 3]}}, "body"),
        ("longs", {"dataframe_records": [{"a": 2**63, "b": 0}]}, "body"),
        ("one", {"dataframe_records": [{"a": 2**31}]}, "body"),
        ("bytes", {"inputs": [[[1, 2], [3, 256]]]}, "body"),
        ("matrix", {"inputs": [[1, 2, 3]]}, "body"),
        ("matrix", {"inputs": []}, "body"),
        ("named tensors", {"inputs": {"a": [[1, 2]], "b": [3]}}, "body"),
    ],
)
def test_only_clean_bodies_are_decoded(signature, body, kind):
    """What has exactly the signature's types becomes numbers in the ingress; all else goes on whole."""
    assert decode(signature, body).meta["kind"] == kind


def test_rows_are_packed_in_the_signatures_order():
    """A body that names its columns in another order gives the same buffer."""
    payload = decode("doubles", {"dataframe_split": {"columns": ["b", "a"], "data": [[2, 1], [4, 3]]}})

    assert payload.meta == {
        "kind": "table",
        "columns": ["a", "b"],
        "dtypes": ["float64", "float64"],
        "rows": 2,
        "packed": True,
    }
    assert payload.buffers == (struct.pack("<4d", 1, 2, 3, 4),)


@pytest.mark.parametrize("signature", [None, {}, {"inputs": None}, {"inputs": [column("a", "datetime")]}])
def test_without_plain_types_every_body_goes_on_whole(signature):
    """A model without a signature, or with types that need pandas, is read by its replica."""
    payload = MlflowDialect(signature).decode(JSON, b'{"inputs": [1]}')

    assert payload == Payload({"kind": "body", "content_type": "application/json"}, (b'{"inputs": [1]}',))


def test_a_signature_from_type_hints_is_left_to_the_replica():
    """Such a model takes `inputs` as they came, so the ingress makes no table of them."""
    signature = {"inputs": [column("a", "double")], "is_signature_from_type_hint": True}

    payload = MlflowDialect(signature).decode(JSON, b'{"dataframe_records": [{"a": 1.0}]}')

    assert payload.meta["kind"] == "body"


def test_a_large_body_is_not_parsed_in_the_ingress():
    """Over 1 MiB a body goes on whole: parsing it would hold up every other request."""
    rows = [[0.123456789, 1.0]] * (MAX_PARSED_BYTES // 16)

    assert decode("doubles", {"dataframe_split": {"columns": ["a", "b"], "data": rows}}).meta["kind"] == "body"


@pytest.mark.parametrize(
    "content_type",
    ["application/json", b"application/json; charset=UTF-8", " application/json ;charset=utf-8 "],
)
def test_json_is_accepted_with_its_charset(content_type):
    """The charset is the one parameter that may be given, in any case."""
    assert READERS["doubles"][0].decode(content_type, b"{}").meta["content_type"] == "application/json"


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "Application/JSON",
        "application/json;",
        "application/json; charset",
        "application/json; charset=latin-1",
        'application/json; charset="utf-8"',
        "application/json; Charset=utf-8",
        "application/json; format=pandas-split",
        b"application/json; \xff=1",
    ],
)
def test_other_content_types_are_refused(content_type):
    """Anything but the three types is 415, also where MLflow's own server crashes."""
    with pytest.raises(UnsupportedMediaType) as refused:
        READERS["doubles"][0].decode(content_type, b"{}")

    assert refused.value.http_status == 415


@pytest.mark.parametrize("content_type", ["text/csv", "application/vnd.apache.parquet"])
def test_other_formats_go_on_whole(content_type):
    """CSV and Parquet are read where pandas is."""
    payload = READERS["doubles"][0].decode(content_type, b"a,b\n1,2\n")

    assert payload == Payload({"kind": "body", "content_type": content_type}, (b"a,b\n1,2\n",))


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "\ud800", 0])
def test_columns_that_the_ingress_cannot_name_go_on_whole(name):
    """A column's name that is no plain text, as a table without names has it, is for the replica to find."""
    dialect = MlflowDialect({"inputs": [column("x", "double"), {**column("y", "double"), "name": name}]})

    assert dialect.decode(JSON, b"{}").meta["kind"] == "body"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (numpy.array([1.5, 2.0]), b"[1.5,2.0]"),
        (numpy.array([[1, 2], [3, 4]], dtype="int32"), b"[[1,2],[3,4]]"),
        (numpy.array([0.1], dtype="float32"), b"[0.10000000149011612]"),
        (numpy.array([[0.5], [2.0]], dtype="float16"), b"[[0.5],[2.0]]"),
        (numpy.array([True, False]), b"[true,false]"),
        (numpy.array([2**64 - 1], dtype="uint64"), b"[18446744073709551615]"),
        (numpy.array([numpy.nan, numpy.inf, -numpy.inf, 1.0]), b"[NaN, Infinity, -Infinity, 1.0]"),
        (numpy.zeros((1, 2, 1)), b"[[[0.0],[0.0]]]"),
    ],
)
def test_arrays_are_written_as_nested_lists(array, text):
    """Raw numbers from a replica become JSON; what JSON has no number for is written as MLflow writes it."""
    meta, buffers = READERS["doubles"][1].write(array)

    assert meta["kind"] == "tensor"
    assert READERS["doubles"][0].encode(Payload(meta, tuple(buffers))) == b'{"predictions": ' + text + b"}"


@pytest.mark.parametrize(("shape", "text"), [([0], b"[]"), ([0, 3], b"[]"), ([2, 0], b"[[],[]]")])
def test_empty_arrays_keep_their_shape(shape, text):
    """An array without elements is as many empty lists as it has rows."""
    answer = Payload({"kind": "tensor", "dtype": "float64", "shape": shape}, (b"",))

    assert READERS["doubles"][0].encode(answer) == b'{"predictions": ' + text + b"}"


def test_a_whole_answer_is_not_wrapped():
    """The answer to an LLM request is the reply itself; any other JSON text stands under `predictions`."""
    dialect = READERS["doubles"][0]

    assert dialect.encode(Payload({"kind": "json"}, (memoryview(b'{"a": 1}'),))) == b'{"predictions": {"a": 1}}'
    assert dialect.encode(Payload({"kind": "json", "whole": True}, (memoryview(b'{"a": 1}'),))) == b'{"a": 1}'
