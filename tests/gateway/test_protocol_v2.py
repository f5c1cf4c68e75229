"""Open Inference Protocol v2 in the ingress: what becomes of inputs, and what answers look like."""

import json
import struct

import numpy
import pandas
import pytest

from gateway.errors import BadRequest
from gateway.protocols.mlflow import MlflowDialect
from gateway.protocols.tensors import MAX_READ_BYTES, Asked
from gateway.protocols.v2 import V2Dialect
from gateway.worker import elements, parts, tables
from gateway.worker.frames import Payload
from registry.models import enforcement
from tests.gateway.v2 import column, encoded, given, read, tensor

TWO = {"inputs": [column("a", "double"), column("b", "double")]}
MIXED = {"inputs": [column("a", "long"), column("b", "double"), column("c", "boolean")]}
FRAME = pandas.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.5]})
MATRIX = FRAME.to_numpy()
ALL_IN_JSON = Asked()
FRAME_OF = pandas.testing.assert_frame_equal


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_columns_by_name(binary, shape):
    """Inputs named as columns become the table that the model takes, in whatever order they come."""
    inputs = [given(name, FRAME[name].to_numpy().reshape(shape), binary) for name in ("b", "a")]

    FRAME_OF(read(TWO, inputs), FRAME)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64"])
def test_one_tensor_for_all_columns(binary, dtype):
    """A matrix of any name stands for numeric columns; a narrower type is widened, whole numbers are taken."""
    matrix = MATRIX.astype(dtype)

    FRAME_OF(read(TWO, [given("anything", matrix, binary)]), pandas.DataFrame(matrix.astype(float), columns=["a", "b"]))


def test_a_matrix_for_columns_of_several_types():
    """Each column gets its own type where the values allow it, as those of whole numbers and flags do."""
    matrix = numpy.array([[1, 2.5, 0], [3, 4.5, 1]])

    frame = read(MIXED, [given("x", matrix, True)])

    FRAME_OF(frame, pandas.DataFrame({"a": [1, 3], "b": [2.5, 4.5], "c": [False, True]}))


@pytest.mark.parametrize("value", [1.5, numpy.nan, 2.0**63, -(2.0**64)])
def test_numbers_that_would_change_are_refused(value):
    """A fraction in a column of whole numbers, or one that does not fit, is refused by the replica with 400."""
    with pytest.raises(tables.Refused, match="Can not safely convert float64 to int64"):
        read(MIXED, [given("x", numpy.array([[value, 1, 1]]), True)])


def test_a_whole_number_that_a_double_cannot_hold_is_refused():
    """2**53 + 1 is not rounded in silence."""
    with pytest.raises(tables.Refused, match="Can not safely convert int64 to float64"):
        read(TWO, [given("x", numpy.array([[2**53 + 1, 1]]), True)])


def test_binary_numbers_are_never_looked_at():
    """A matrix goes on as the bytes that came, without a copy."""
    body, headers = encoded([given("x", MATRIX, True)])

    payload, _ = V2Dialect(TWO).decode(headers, body)

    assert isinstance(payload.buffers[0], memoryview)
    assert payload.buffers[0].obj is body
    assert bytes(payload.buffers[0]) == MATRIX.tobytes()


def test_both_protocols_have_one_key():
    """Requests of MLflow's protocol and of this one, whichever way they come, may become one call."""
    split = {"dataframe_split": {"columns": ["a", "b"], "data": MATRIX.tolist()}}
    mlflow = MlflowDialect(TWO).decode("application/json", json.dumps(split).encode())
    forms = [[given("x", MATRIX, True)], [given(name, FRAME[name].to_numpy(), False) for name in "ab"]]
    payloads = [V2Dialect(TWO).decode(headers, body)[0] for body, headers in map(encoded, forms)]

    keys = [parts.key(each.meta) for each in [mlflow, *payloads]]
    assert keys[0] is not None
    assert keys == [keys[0]] * 3
    assert [bytes(each.buffers[0]) for each in payloads] == [bytes(mlflow.buffers[0])] * 2


def test_params():
    """Parameters that the signature declares are the model's; others are the client's own business."""
    signature = {**TWO, "params": [{"name": "k", "type": "long", "default": 1, "shape": None}]}
    body, headers = encoded([given("x", MATRIX, True)], parameters={"k": 3, "priority": 1, "timeout": 5})

    payload, _ = V2Dialect(signature).decode(headers, body)

    assert payload.meta["params"] == {"k": 3}
    assert tables.Scorer(signature, enforcement).read(payload.meta, payload.buffers).params == {"k": 3}


@pytest.mark.parametrize("binary", [True, False])
def test_columns_that_are_no_numbers(binary):
    """Texts, times, bytes and lists come as their column's type."""
    signature = {
        "inputs": [
            column("text", "string"),
            column("time", "datetime"),
            column("raw", "binary"),
            column("list", "array", items={"type": "double"}),
        ]
    }
    inputs = [
        given("text", numpy.array(["hé", ""], object), binary),
        given("time", numpy.array(["2024-01-02T03:04:05", "1969-12-31T00:00:00"], object), binary),
        given("raw", numpy.array(["a", "b"], object), binary),
        given("list", numpy.array([[1.0, 2.0], [3.0, 4.0]]), binary),
    ]

    frame = read(signature, inputs)

    assert frame["text"].tolist() == ["hé", ""]
    assert frame["time"].tolist() == [pandas.Timestamp("2024-01-02T03:04:05"), pandas.Timestamp("1969-12-31")]
    assert frame["raw"].tolist() == [b"a", b"b"]
    assert frame["list"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_objects_come_as_json():
    """What no datatype can hold is BYTES of JSON, inwards as outwards; what is no JSON is refused."""
    signature = {
        "inputs": [
            column("o", "object", properties={"a": {"type": "double", "required": True}}),
            column("m", "map", values={"type": "string"}),
            column("l", "array", items={"type": "object", "properties": {"b": {"type": "string", "required": True}}}),
        ]
    }
    texts = {"o": '{"a": 1.5}', "m": '{"x": "y"}', "l": '[{"b": "c"}, {"b": "d"}]'}

    frame = read(signature, [given(name, numpy.array([text], object)) for name, text in texts.items()])

    assert frame.to_dict("records") == [{name: json.loads(text) for name, text in texts.items()}]
    for fault in ("{", "[" * 100_000):
        with pytest.raises(tables.Refused, match="Invalid input"):
            read(signature, [given(name, numpy.array([fault], object)) for name in texts])


@pytest.mark.parametrize("binary", [True, False])
def test_many_texts_are_read_by_the_replica(binary):
    """A large column of texts goes on as it came, and the model gets the same."""
    signature = {"inputs": [column("text", "string"), column("raw", "binary"), column("n", "long")]}
    words = numpy.array(["wörter " * 20, ""] * 500, object)
    inputs = [given("text", words, binary), given("raw", words, binary), given("n", numpy.arange(1000))]
    body, headers = encoded(inputs)

    payload, _ = V2Dialect(signature).decode(headers, body)
    frame = read(signature, inputs)

    assert [each[0] if each else None for each in payload.meta["unread"]] == [
        *["bytes" if binary else "json"] * 2,
        None,
    ]
    assert frame["text"].tolist() == words.tolist()
    assert frame["raw"].tolist() == [each.encode() for each in words]
    assert frame["n"].tolist() == list(range(1000))


def test_bytes_that_are_no_text():
    """They reach a binary column unchanged, and are refused for a column of texts."""
    raw = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 11}}
    elements_of_it = struct.pack("<I2sI1s", 2, b"\xff\0", 1, b"\0")

    frame = read({"inputs": [column("x", "binary")]}, [(raw, elements_of_it)])

    assert frame["x"].tolist() == [b"\xff\0", b"\0"]
    with pytest.raises(BadRequest, match="Input 'x' holds what is no UTF-8 text"):
        read({"inputs": [column("x", "string")]}, [(raw, elements_of_it)])


@pytest.mark.parametrize("binary", [True, False])
def test_tensors(binary):
    """A tensor alone may have any name; several have those of the signature, and come as a dictionary."""
    images = numpy.arange(8, dtype="float32").reshape(2, 2, 2)
    alone = {"inputs": [tensor("float32", [-1, 2, 2])]}
    two = {"inputs": [tensor("float32", [-1, 2, 2], "image"), tensor("str", [-1], "word")]}

    array = read(alone, [given("any", images, binary)])
    arrays = read(
        two,
        [given("word", numpy.array(["a", "b"], object), binary), given("image", images, binary), given("x", images)],
    )

    numpy.testing.assert_array_equal(array, images, strict=True)
    numpy.testing.assert_array_equal(arrays["image"], images, strict=True)
    numpy.testing.assert_array_equal(arrays["word"], numpy.array(["a", "b"]), strict=True)
    assert set(arrays) == {"image", "word"}


def test_without_a_signature():
    """One input is an array, several are columns, and a table of one is made on request."""
    words = given("word", numpy.array(["a", "b"], object))
    numbers = given("number", numpy.array([1, 2]))

    numpy.testing.assert_array_equal(read(None, [given("x", MATRIX)]), MATRIX, strict=True)
    FRAME_OF(read(None, [words, numbers]), pandas.DataFrame({"word": ["a", "b"], "number": [1, 2]}))
    FRAME_OF(read(None, [words], parameters={"content_type": "pd"}), pandas.DataFrame({"word": ["a", "b"]}))
    assert set(read(None, [given("x", MATRIX), numbers])) == {"x", "number"}


def test_type_hints():
    """A model whose signature comes from type hints gets a list."""
    signature = {"inputs": [column(None, "string")], "is_signature_from_type_hint": True}

    assert read(signature, [given("x", numpy.array(["a", "b"], object))]) == ["a", "b"]


def test_columns_without_names():
    """They are taken as one tensor, or one by one by the names that the metadata gives them."""
    signature = {"inputs": [column(None, "double"), column(None, "double")]}
    frame = pandas.DataFrame(MATRIX)

    FRAME_OF(read(signature, [given("x", MATRIX)]), frame, check_column_type=False)
    one_by_one = [given(f"input-{at}", MATRIX[:, at]) for at in range(2)]
    FRAME_OF(read(signature, one_by_one), frame, check_column_type=False)
    assert [each["name"] for each in V2Dialect(signature).metadata()["inputs"]] == ["input-0", "input-1"]


def test_columns_named_by_numbers():
    """The columns of a table without names are numbers, and their inputs are called so."""
    signature = {"inputs": [{**column("x", "double"), "name": at} for at in range(2)]}

    by_name = read(signature, [given(str(at), MATRIX[:, at]) for at in range(2)])

    FRAME_OF(by_name, pandas.DataFrame(MATRIX), check_column_type=False)
    FRAME_OF(read(signature, [given("x", MATRIX)]), pandas.DataFrame(MATRIX), check_column_type=False)


def test_missing_numbers():
    """Null is a missing number where the datatype has one."""
    body = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [None, 1]}

    FRAME_OF(read(TWO, [(body, b"")]), pandas.DataFrame({"a": [numpy.nan], "b": [1.0]}))


def test_a_body_of_raw_bytes():
    """Without any JSON the body is the only input, and its size tells the shape; the answer is binary too."""
    payload, asked = V2Dialect(TWO).decode({b"inference-header-content-length": b"0"}, MATRIX.tobytes())
    text = {"inputs": [column("x", "string")]}
    word, _ = V2Dialect(text).decode({b"inference-header-content-length": b"0"}, b"hello")

    FRAME_OF(tables.Scorer(TWO, enforcement).read(payload.meta, payload.buffers).data, FRAME)
    assert asked == Asked(is_binary=True)
    assert tables.Scorer(text, enforcement).read(word.meta, word.buffers).data["x"].tolist() == ["hello"]


FP64 = {"name": "a", "datatype": "FP64", "shape": [2]}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "The body is no inference request of the Open Inference Protocol v2: Input data was truncated."),
        ([], "The body is no inference request of the Open Inference Protocol v2: Expected `object`, got `array`."),
        (
            {},
            "Object missing required field `inputs`.",
        ),
        ({"inputs": [{**FP64, "shape": [-1], "data": []}]}, "Expected `int` >= 0 - at `$.inputs[0].shape[0]`"),
        (
            {"inputs": [{**FP64, "datatype": "FP8", "data": []}]},
            "Input 'a' has the datatype 'FP8'; there are BOOL, INT8",
        ),
        ({"inputs": [{**FP64, "data": [1]}]}, "Input 'a' has 1 elements, but its shape [2] has 2."),
        (
            {"inputs": [{**FP64, "data": [1, "x"]}]},
            "Input 'a' holds text, but FP64 takes fractions or null or whole numbers.",
        ),
        ({"inputs": [{**FP64, "data": 1}]}, "Input 'a' has data that is whole numbers; send a list."),
        ({"inputs": [{**FP64, "data": [10**400, 1]}]}, "Input 'a' holds a number that FP64 cannot hold."),
        (
            {"inputs": [{**FP64, "datatype": "INT8", "data": [128, 1]}]},
            "Input 'a' holds a number that INT8 cannot hold.",
        ),
        (
            {"inputs": [{**FP64, "datatype": "INT64", "data": [1.0, 1]}]},
            "holds fractions, but INT64 takes whole numbers.",
        ),
        ({"inputs": [{**FP64, "datatype": "INT64", "data": [True, 1]}]}, "holds true or false, but INT64 takes"),
        ({"inputs": [{**FP64, "datatype": "BOOL", "data": [True, None]}]}, "holds null, but BOOL takes true or false."),
        ({"inputs": [{**FP64, "shape": [2, 2], "data": [[1, 2], [3]]}]}, "not nested as its shape [2, 2] says"),
        ({"inputs": [FP64]}, "Input 'a' has no data: send 'data', or the parameter 'binary_data_size'"),
        (
            {"inputs": [{**FP64, "parameters": {"binary_data_size": 16}}]},
            "has the binary_data_size 16, but 0 bytes are there.",
        ),
        ({"inputs": [{**FP64, "parameters": {"binary_data_size": "x"}}]}, "has the binary_data_size x, but 0 bytes"),
        ({"inputs": [{**FP64, "data": [1, 2], "parameters": {"binary_data_size": 0}}]}, "has both 'data' and"),
        (
            {"inputs": [{**FP64, "shape": [0], "parameters": {"binary_data_size": 0}}] * 2},
            "Two inputs are called 'a'; each may come once.",
        ),
        (
            {"inputs": [{**FP64, "data": [1, 2]}]},
            "Inputs are missing: b; the model takes a (FP64 [-1]), b (FP64 [-1]), and",
        ),
        (
            {"inputs": [{**FP64, "data": [1, 2]}, {**FP64, "name": "b", "shape": [1], "data": [1]}]},
            "different numbers of rows",
        ),
        ({"inputs": [{**FP64, "name": "x", "shape": [1, 3], "data": [1, 2, 3]}]}, "Inputs are missing: a, b;"),
        ({"inputs": [{**FP64, "data": [1, 2]}], "parameters": {"binary_data_output": 1}}, "must be true or false."),
        (
            {"inputs": [{**FP64, "data": [1, 2]}], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
            "not offered",
        ),
    ],
)
def test_refusals(document, message):
    """What is wrong is said in a sentence."""
    body = document if isinstance(document, str) else json.dumps(document)

    with pytest.raises(BadRequest) as refused:
        V2Dialect(TWO).decode({}, body.encode())

    assert message in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        (
            {"inputs": [tensor("float32", [-1, 2])]},
            [given("x", MATRIX)],
            "has the datatype FP64; the model takes FP32.",
        ),
        (
            {"inputs": [tensor("float64", [-1, 3])]},
            [given("x", MATRIX)],
            "has the shape [2, 2]; the model takes [-1, 3].",
        ),
        ({"inputs": [tensor("float64", [-1], "a")] * 1}, [given("a", MATRIX)], "the model takes [-1]."),
        (TWO, [given("a", MATRIX), given("b", MATRIX)], "a column has [rows] or [rows, 1], and one tensor for all"),
        (TWO, [given("flag", numpy.array([[True, False]]), True, raw=b"\2\0")], "holds bytes other than 0 and 1"),
        (TWO, [given("x", MATRIX, True, raw=b"\0" * 31)], "has 31 bytes, but FP64 of shape [2, 2] takes 32."),
        (
            {"inputs": [column("x", "string")]},
            [given("x", numpy.array(["a"], object), True, raw=b"\5\0\0\0a")],
            "is not 1 elements with a length",
        ),
    ],
)
def test_refusals_by_the_signature(signature, inputs, message):
    """What the model does not take is said with what it takes."""
    with pytest.raises(BadRequest) as refused:
        read(signature, inputs)

    assert message in str(refused.value)


@pytest.mark.parametrize("length", [b"-1", b"x", b"1e2", b"99999", b"9" * 30, b""])
def test_a_wrong_header_length(length):
    """The length of the JSON must be one."""
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length is"):
        V2Dialect(TWO).decode({b"inference-header-content-length": length}, b"{}")


def test_bytes_left_over():
    """Bytes that belong to no input are refused, and so nothing is shifted in silence."""
    body, headers = encoded([given("x", MATRIX, True)])

    with pytest.raises(BadRequest, match="4 bytes are left over behind the inputs"):
        V2Dialect(TWO).decode(headers, body + b"abcd")


@pytest.mark.parametrize("fault", ['[1, "x"]', "[1]", "[[1], [2, 3]]", "[1, null, 2]", "[[[1, 2]]]"])
def test_the_replica_refuses_as_the_ingress_does(fault):
    """A large body is read by the replica, which says the same sentence."""
    document = f'{{"inputs": [{{"name": "a", "datatype": "FP64", "shape": [2], "data": {fault}}}]}}'.encode()

    by_ingress, by_replica = refusal(document), refusal(document + b" " * MAX_READ_BYTES)

    assert by_ingress == by_replica


def refusal(body):
    signature = {"inputs": [column("a", "double")]}
    try:
        payload, _ = V2Dialect(signature).decode({}, body)
        tables.Scorer(signature, enforcement).read(payload.meta, payload.buffers)
    except (BadRequest, tables.Refused) as refused:
        return str(refused)
    return None


# Answers


def answered(output, asked=ALL_IN_JSON, signature=None):
    """The JSON of an answer, and the bytes behind it."""
    meta, buffers = tables.Scorer(None, enforcement).write(output)
    body, headers = V2Dialect(signature).encode(Payload(meta, tuple(buffers)), asked, "m", "3")
    length = int(dict(headers).get(b"inference-header-content-length", len(body)))
    return json.loads(body[:length]), body[length:]


def outputs(output, **attributes):
    document, _ = answered(output, **attributes)
    return [(each["name"], each["datatype"], each["shape"], each["data"]) for each in document["outputs"]]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (numpy.array([1.5, numpy.nan, numpy.inf]), [("predict", "FP64", [3], [1.5, None, None])]),
        (numpy.array([[1, 2], [3, 4]], "int32"), [("predict", "INT32", [2, 2], [1, 2, 3, 4])]),
        (numpy.array([0.5, -2], "float16"), [("predict", "FP16", [2], [0.5, -2.0])]),
        (numpy.array(["a", "é"]), [("predict", "BYTES", [2], ["a", "é"])]),
        (["a", None], [("predict", "BYTES", [2], ["a", None])]),
        (["half \ud800"], [("predict", "BYTES", [1], ["half ?"])]),
        ([True, False], [("predict", "BOOL", [2], [True, False])]),
        ([1, 2.5, None], [("predict", "FP64", [3], [1, 2.5, None])]),
        ([[1, 2], [3, 4]], [("predict", "INT64", [2, 2], [1, 2, 3, 4])]),
        ([2**64 - 1], [("predict", "UINT64", [1], [2**64 - 1])]),
        ([2**64], [("predict", "BYTES", [1], ["18446744073709551616"])]),
        ([[1], [2, 3]], [("predict", "BYTES", [2], ["[1]", "[2, 3]"])]),
        (5, [("predict", "INT64", [1], [5])]),
        ("text", [("predict", "BYTES", [1], ["text"])]),
        ([], [("predict", "FP64", [0], [])]),
        (None, [("predict", "FP64", [1], [None])]),
        ({"x": numpy.array([[1.5]]), "y": ["a"]}, [("x", "FP64", [1, 1], [1.5]), ("y", "BYTES", [1], ["a"])]),
        ([{"deep": {"a": 1}}], [("deep", "BYTES", [1], ['{"a": 1}'])]),
        (
            pandas.DataFrame({"p": [0.5, 1], "c": ["a", "b"]}),
            [("p", "FP64", [2], [0.5, 1.0]), ("c", "BYTES", [2], ["a", "b"])],
        ),
        (pandas.DataFrame({"p": [0.5]}, dtype="float32"), [("p", "FP64", [1], [0.5])]),
    ],
)
def test_answers(output, expected):
    """Whatever a model returns comes as named tensors; NaN and infinity are null in JSON."""
    assert outputs(output) == expected


def test_outputs_have_the_signatures_names_and_types():
    """A name for one output, names for the columns of an array, and the declared type where the values have it."""
    one = {"outputs": [column("target", "double")]}
    two = {"outputs": [column("low", "double"), column("high", "double")]}
    small = {"outputs": [column("p", "float"), column("n", "integer")]}

    assert outputs(numpy.array([1.5]), signature=one) == [("target", "FP64", [1], [1.5])]
    assert outputs(MATRIX, signature=two) == [("low", "FP64", [2], [1.0, 3.0]), ("high", "FP64", [2], [2.0, 4.5])]
    table = pandas.DataFrame({"p": numpy.array([0.5], "float32"), "n": numpy.array([7], "int32")})
    assert outputs(table, signature=small) == [("p", "FP32", [1], [0.5]), ("n", "INT32", [1], [7])]


@pytest.mark.parametrize("asked", [Asked(is_binary=True), Asked(outputs={"n": True, "s": True})])
def test_binary_outputs(asked):
    """Asked for all at once or one by one, they stand behind the JSON in its order."""
    output = {"n": numpy.array([1.5, 2.5]), "s": ["a", "é"]}

    document, raw = answered(output, asked)

    assert [each["parameters"] for each in document["outputs"]] == [{"binary_data_size": 16}, {"binary_data_size": 11}]
    assert raw == struct.pack("<dd", 1.5, 2.5) + struct.pack("<I1sI2s", 1, b"a", 2, "é".encode())


def test_selected_outputs():
    """Only those that were asked for, in that order, each in its own encoding; the id is said again."""
    document, raw = answered({"x": [1], "y": [2], "z": [3]}, Asked("q", {"z": None, "x": True}))

    assert document == {
        "model_name": "m",
        "model_version": "3",
        "id": "q",
        "outputs": [
            {"name": "z", "datatype": "INT64", "shape": [1], "data": [3]},
            {"name": "x", "datatype": "INT64", "shape": [1], "parameters": {"binary_data_size": 8}},
        ],
    }
    assert raw == struct.pack("<q", 1)


def test_an_output_that_is_not_there():
    """It is refused with those that are."""
    with pytest.raises(BadRequest, match="The model has no output 'w'; it has: x, y"):
        answered({"x": [1], "y": [2]}, Asked(outputs={"w": None}))


def test_metadata():
    """Every type of a signature has its datatype and shape."""
    kinds = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime", "any")
    objects = {"type": "object", "properties": {}}
    lists = [column("objects", "array", items=objects), column("list", "array", items={"type": "long"})]
    signature = {
        "inputs": [*(column(kind, kind) for kind in kinds), *lists],
        "outputs": [tensor("float32", [-1, 3])],
    }

    metadata = V2Dialect(signature).metadata()

    datatypes = [each["datatype"] for each in metadata["inputs"]]
    assert datatypes == ["BOOL", "INT32", "INT64", "FP32", "FP64", *["BYTES"] * 5, "INT64"]
    assert [each["shape"] for each in metadata["inputs"][-2:]] == [[-1], [-1, -1]]
    assert metadata["outputs"] == [{"name": "predict", "datatype": "FP32", "shape": [-1, 3]}]
    assert V2Dialect(None).metadata() == {"inputs": [], "outputs": []}


def test_split_and_joined_elements():
    """What is joined is split again."""
    assert elements.split(elements.joined([b"", b"a\0", b"b" * 300]), 3) == [b"", b"a\0", b"b" * 300]
