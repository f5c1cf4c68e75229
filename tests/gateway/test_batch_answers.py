"""A replica's answers as columns."""

import array
import json

import pytest

from gateway.batch.answers import Outputs, columns_of
from gateway.errors import BatchFailed
from gateway.worker.frames import Payload

NAMED = {"outputs": [{"name": "low", "type": "double"}, {"name": "high", "type": "double"}]}
ONE = {"outputs": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]}


def answer(value):
    return Payload({"kind": "json"}, (json.dumps(value).encode(),))


def tensor(values, shape):
    return Payload({"kind": "tensor", "dtype": "float64", "shape": shape}, (array.array("d", values).tobytes(),))


@pytest.mark.parametrize(
    ("found", "signature", "columns"),
    [
        (tensor([1, 2], [2]), None, {"prediction": [1, 2]}),
        (tensor([1, 2], [2]), ONE, {"prediction": [1, 2]}),
        (tensor([1, 2, 3, 4], [2, 2]), None, {"prediction_0": (1, 3), "prediction_1": (2, 4)}),
        (tensor([1, 2, 3, 4], [2, 2]), NAMED, {"low": (1, 3), "high": (2, 4)}),
        (tensor([1, 2], [2, 1]), None, {"prediction": (1, 2)}),
        (tensor([1, 2], [2, 1, 1]), None, {"prediction": [[[1]], [[2]]]}),
        (answer(["a", None]), None, {"prediction": ["a", None]}),
        (answer([[1, 2], [3, 4]]), None, {"prediction": [[1, 2], [3, 4]]}),
        (answer([[1, 2], [3, 4]]), NAMED, {"low": (1, 3), "high": (2, 4)}),
        (answer([{"a": 1}, {"b": 2}]), None, {"a": [1, None], "b": [None, 2]}),
        (answer([{"0": 1}, {"0": 2}]), None, {"prediction": [1, 2]}),
        (answer([{"0": 1, "1": 2}, {"0": 3, "1": 4}]), NAMED, {"low": [1, 3], "high": [2, 4]}),
        (answer({"a": [1, 2], "b": ["x", "y"]}), None, {"a": [1, 2], "b": ["x", "y"]}),
        (answer([{"x": 1}, {"x": 2}]), {"inputs": [{"name": "x", "type": "long"}]}, {"prediction": [1, 2]}),
    ],
)
def test_columns_are_called_as_the_answer_or_the_signature_says(found, signature, columns):
    """Names of the answer's own come first, then the signature's, then `prediction`."""
    assert columns_of(found, 2, Outputs.of(signature)) == columns


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (answer([1, 2, 3]), "answers 2 rows with 3 entries, not one a row"),
        (answer(7), "answers 2 rows with one int, not one entry a row"),
        (answer({"a": [1]}), "answers 2 rows with one dict, not one entry a row"),
    ],
)
def test_an_answer_without_an_entry_for_each_row_is_refused(found, message):
    """It could not be put beside the rows."""
    with pytest.raises(BatchFailed, match=message):
        columns_of(found, 2, Outputs.of(None))
