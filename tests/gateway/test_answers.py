"""What a model returns, as bytes for the gateway: MLflow's JSON, or raw numbers."""

import datetime
import decimal

import numpy
import pandas
import pytest

from gateway.worker import tables

SCORER = tables.Scorer(None, None)


def write(output):
    meta, buffers = SCORER.write(output)
    assert meta == {"kind": "json"}
    return bytes(buffers[0]).decode()


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (pandas.DataFrame({"a": [1.5, numpy.nan], "b": ["x", None]}), '[{"a": 1.5, "b": "x"}, {"a": NaN, "b": NaN}]'),
        (pandas.Series([1, 2], name="q"), '[{"q": 1}, {"q": 2}]'),
        (pandas.Series(pandas.to_datetime(["2020-01-01"])), '[{"0": "2020-01-01T00:00:00"}]'),
        (numpy.array(["a", "b"]), '["a", "b"]'),
        (numpy.array([b"hi"]), '["aGk=\\n"]'),
        (numpy.array(["2020-01-01"], "datetime64[D]"), '["2020-01-01"]'),
        (numpy.array(5.0), "5.0"),
        (numpy.zeros((0, 3)), "[]"),
        (numpy.float32(0.5), "0.5"),
        (numpy.bool_(True), "true"),
        (b"hi\xff", '"aGn/\\n"'),
        (datetime.datetime(2020, 1, 2, 3, 4, 5), '"2020-01-02T03:04:05"'),
        ([1.5, float("nan"), float("-inf"), None, "é\ud800"], '[1.5, NaN, -Infinity, null, "\\u00e9\\ud800"]'),
        ({"a": numpy.array([1, 2]), 1: None}, '{"a": [1, 2], "1": null}'),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), '[{"a": 2}]'),
        (2**70, str(2**70)),
        ([pandas.NaT], '["NaT"]'),
    ],
)
def test_answers_are_written_by_mlflows_rules(output, text):
    """Tables become records, arrays lists, bytes base64, times ISO; what is no JSON number is written bare."""
    assert write(output) == text


@pytest.mark.parametrize(
    "array",
    [
        numpy.array([[1.5, 2.5]]),
        numpy.asfortranarray([[1, 2], [3, 4]]),
        numpy.array([1.5], ">f8"),
        numpy.arange(6)[::2],
        numpy.array([0.5], "float16"),
    ],
)
def test_plain_arrays_go_as_raw_numbers(array):
    """A numeric array is sent as its little-endian bytes in row order, however it lay in memory."""
    meta, buffers = SCORER.write(array)

    assert meta == {"kind": "tensor", "dtype": array.dtype.name, "shape": list(array.shape)}
    found = numpy.frombuffer(buffers[0], "<" + array.dtype.str[1:]).reshape(meta["shape"])
    numpy.testing.assert_array_equal(found, array)


@pytest.mark.parametrize(
    "output",
    [
        object(),
        {1, 2},
        (each for each in [1]),
        decimal.Decimal("1.5"),
        numpy.array([1j]),
        {(1, 2): 3},
        [pandas.DataFrame({"a": [1]})],
        {"a": pandas.Series([1])},
    ],
)
def test_answers_without_a_json_form_are_refused(output):
    """An object that JSON cannot carry is the model's fault: 500 with its type's name, never half a reply."""
    with pytest.raises(tables.Refused, match="no JSON form") as refused:
        SCORER.write(output)

    assert (refused.value.status, refused.value.error_code) == (500, "INTERNAL_ERROR")


def test_circular_and_deep_answers_are_refused():
    """Answers that never end, or go too deep, are refused like any other without a JSON form."""
    circular = []
    circular.append(circular)
    deep = []
    for _ in range(100_000):
        deep = [deep]

    for output in (circular, deep):
        with pytest.raises(tables.Refused) as refused:
            SCORER.write(output)
        assert refused.value.status == 500


def test_an_answer_over_the_limit_is_refused():
    """More bytes than are ever sent are refused before they are."""
    for output in (numpy.zeros(100), "x" * 100):
        with pytest.raises(tables.answers.Unserializable, match="larger than 50 bytes"):
            tables.answers.encode(output, False, 50)
