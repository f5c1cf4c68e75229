"""Open Inference Protocol v2: a tensor means the same whichever way it comes, and nothing hostile does harm."""

import json

import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.errors import GatewayError
from gateway.protocols.outputs import Outputs
from gateway.protocols.tensors import MAX_READ_BYTES, Asked
from gateway.protocols.v2 import V2Dialect
from gateway.worker import elements, tables
from gateway.worker.frames import Payload
from registry.models import enforcement
from tests.gateway import v2

COMMON = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
THOROUGH = settings(COMMON, max_examples=500)

DTYPES = {each.dtype: name for name, each in elements.NUMBERS.items()}
SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, max_side=4)
SIGNATURES = {
    "none": None,
    "doubles": {"inputs": [v2.column("a", "double"), v2.column("b", "double")]},
    "mixed": {
        "inputs": [
            v2.column("a", "string"),
            v2.column("b", "long"),
            v2.column("c", "datetime"),
            v2.column("d", "binary", required=False),
            v2.column("e", "array", items={"type": "float"}),
        ],
        "params": [{"name": "k", "type": "long", "default": 1, "shape": None}],
    },
    "unnamed": {"inputs": [v2.column(None, "boolean"), v2.column(None, "integer")]},
    "any": {"inputs": [v2.column("a", "any", required=False)]},
    "matrix": {"inputs": [v2.tensor("float32", [-1, 2])]},
    "tensors": {"inputs": [v2.tensor("str", [-1], "a"), v2.tensor("float16", [2, -1], "b")]},
    "hint": {"inputs": [v2.column(None, "string")], "is_signature_from_type_hint": True},
}


@st.composite
def numbers(draw):
    """An array of any datatype that has numbers, with its extremes, and without what JSON has no number for."""
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    items = arrays.from_dtype(numpy.dtype(dtype), allow_nan=False, allow_infinity=False)
    return draw(arrays.arrays(dtype, draw(SHAPES), elements=items))


TEXTS = SHAPES.flatmap(lambda shape: arrays.arrays(object, shape, elements=st.text(max_size=5)))


@COMMON
@given(numbers() | TEXTS)
def test_a_tensor_is_the_same_whichever_way_it_comes(array):
    """In JSON, flat or nested, read here or by the replica, and in binary: the model gets the same array."""
    described, _ = v2.given("x", array)
    flat = {**described, "data": array.ravel().tolist()}
    forms = [[v2.given("x", array, binary=True)], [v2.given("x", array)], [(flat, b"")]]

    read = [v2.read(None, inputs) for inputs in forms]
    read += [v2.read(None, inputs, padding=MAX_READ_BYTES) for inputs in forms]

    expected = array if array.dtype != object else numpy.array(array.tolist())
    for each in read:
        numpy.testing.assert_array_equal(each, expected.reshape(array.shape), strict=True)


@COMMON
@given(st.lists(numbers(), min_size=1, max_size=3), st.booleans())
def test_an_answer_says_the_same_in_both_encodings(answers, named):
    """What a client reads from the JSON is what it reads from the bytes, and both are what the model returned."""
    output = {f"o{at}": each for at, each in enumerate(answers)} if named else answers[0]
    meta, buffers = tables.Scorer(None, enforcement).write(output)
    answer = Payload(meta, tuple(buffers))

    text, _ = V2Dialect(None).encode(answer, Asked(), "m", "1")
    body, headers = V2Dialect(None).encode(answer, Asked(is_binary=True), "m", "1")

    in_json = json.loads(text)["outputs"]
    length = int(dict(headers)[b"inference-header-content-length"])
    position, in_binary = length, json.loads(body[:length])["outputs"]
    for theirs, ours, array in zip(in_json, in_binary, answers, strict=False):
        size = ours["parameters"]["binary_data_size"]
        dtype = elements.NUMBERS[ours["datatype"]].dtype
        raw = numpy.frombuffer(body[position : position + size], dtype).reshape(ours["shape"])
        position += size
        numpy.testing.assert_array_equal(raw, array)
        numpy.testing.assert_array_equal(numpy.array(theirs["data"], dtype).reshape(theirs["shape"]), array)
    assert position == len(body)


# Hostile input: requests that are right, with one thing in them changed at random.

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([2**31, 2**62, 2**63, 10**30, 10**400])
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["a" * 1000, "\ud800", "\0", "BYTES", "FP16", "UINT64"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ITEMS = {"BOOL": st.booleans(), "BYTES": st.text(max_size=2) | st.just("2024-01-01")}


@st.composite
def inputs(draw, name, datatype, rank):
    """One input and the bytes behind the JSON for it."""
    shape = [2, *draw(st.lists(st.integers(0, 3), min_size=rank - 1, max_size=rank - 1))]
    datatype = draw(st.sampled_from([datatype, datatype, datatype, "FP64", "INT8", "BYTES", "BOOL"]))
    count = elements.count_of(shape)
    values = draw(st.lists(ITEMS.get(datatype, st.integers(-1, 100)), min_size=count, max_size=count))
    described = {"name": name, "datatype": datatype, "shape": shape}
    if draw(st.booleans()) or (datatype.startswith("U") and -1 in values):
        return {**described, "data": values}, b""
    is_text = datatype == "BYTES"
    raw = elements.joined([each.encode() for each in values]) if is_text else elements.packed(values, datatype)
    return {**described, "parameters": {"binary_data_size": len(raw)}}, raw


@st.composite
def requests(draw, dialect):
    """The headers and the body of a request for a model."""
    wanted = dialect.metadata()["inputs"] or [{"name": "x", "datatype": "FP32", "shape": [-1]}]
    pairs = [draw(inputs(each["name"], each["datatype"], len(each["shape"]))) for each in wanted]
    if draw(st.integers(0, 3)) == 0:
        pairs = [draw(inputs("x", "FP64", 2))]
    document = {"id": "1", "inputs": [each for each, _ in pairs], "parameters": {"k": 1, "binary_data_output": True}}
    if draw(st.booleans()):
        document["outputs"] = [{"name": "predict", "parameters": {"binary_data": True}}]
    if draw(st.booleans()):
        change(draw, document)
    text = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    text += b" " * draw(st.sampled_from([0, 0, 0, MAX_READ_BYTES]))
    raw = b"".join(raw for _, raw in pairs)
    length = b"%d" % len(text)
    if draw(st.integers(0, 7)) == 0:
        length = draw(st.sampled_from([b"0", b"1", b"", b"-1", b"x", b"%d" % (len(text) + 1)]))
    body = text + raw + draw(st.sampled_from([b"", b"", b"", b"\xff"]))
    if draw(st.integers(0, 7)) == 0:
        body = body[: draw(st.integers(0, len(body)))]
    return {b"inference-header-content-length": length} if raw or draw(st.booleans()) else {}, body


def change(draw, document):
    """Another value, or none, for one of the values somewhere in the document."""
    holder = document
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if not isinstance(holder[key], dict | list) or draw(st.integers(0, 3)) == 0:
            break
        holder = holder[key]
    if draw(st.booleans()):
        holder[key] = draw(JSON_VALUES)
    else:
        del holder[key]


@THOROUGH
@given(st.sampled_from(sorted(SIGNATURES)), st.data())
def test_nothing_is_worse_than_refused(name, data):
    """Whatever is sent, the ingress or the replica takes it or says 4xx, in so many words."""
    dialect, scorer = V2Dialect(SIGNATURES[name]), tables.Scorer(SIGNATURES[name], enforcement)

    headers, body = data.draw(requests(dialect))
    status, said = 200, ""
    try:
        payload, _ = dialect.decode(headers, body)
        payload = v2.received(payload)
        scorer.read(payload.meta, payload.buffers)
    except GatewayError as problem:
        status, said = problem.http_status, str(problem)
    except tables.Refused as refused:
        status, said = refused.status, refused.message

    assert status < 500
    assert len(said) < 5000


@THOROUGH
@given(JSON_VALUES, st.booleans(), st.sampled_from(["long", "float", "string", "boolean"]))
def test_every_answer_can_be_written(value, is_binary, declared):
    """Whatever JSON a model's answer is, it has a form as tensors, and one that is JSON."""
    answer = Payload({"kind": "json"}, (json.dumps(value).encode(),))
    signature = {"outputs": [v2.column("o", declared)]}

    body, length = Outputs(signature).body(answer, Asked(is_binary=is_binary), {})

    document = json.loads(body[:length], parse_constant=pytest.fail)
    for each in document["outputs"]:
        if "data" in each:
            assert len(each["data"]) == elements.count_of(each["shape"])
