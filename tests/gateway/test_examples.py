"""Requests to try a model with: read from the model's files, or made of its signature, and never from elsewhere."""

import json

import numpy
import pandas
import pytest

import registry
from gateway.protocols import examples
from gateway.protocols.v2 import V2Dialect
from gateway.worker import tables
from registry.models import enforcement
from tests.gateway.v2 import column, tensor

SIGNATURE = {"inputs": [column("a", "double"), column("b", "string")]}


class Rows(registry.PythonModel):
    """The number of each row."""

    def predict(self, context, model_input, params=None):
        return list(range(len(model_input)))


@pytest.mark.parametrize(
    ("example", "expected"),
    [
        (
            pandas.DataFrame({"a": [1.5], "b": ["x"]}),
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"]]}},
        ),
        (numpy.array([[1.5, 2.5]]), {"inputs": [[1.5, 2.5]]}),
        ({"a": numpy.array([1.5])}, {"inputs": {"a": [1.5]}}),
        ((numpy.array([1.5]), {"k": 2}), {"inputs": [1.5], "params": {"k": 2}}),
    ],
)
@pytest.mark.parametrize("has_serving_example", [True, False])
def test_the_saved_example(tmp_path, example, expected, has_serving_example):
    """It is what was saved with the model, also where an older mlflow wrote no file for serving."""
    registry.save_model(tmp_path / "model", Rows(), input_example=example)
    mlmodel = registry.read_mlmodel(tmp_path / "model")
    if not has_serving_example:
        del mlmodel["saved_input_example_info"]["serving_input_path"]

    assert examples.of_mlflow(tmp_path / "model", mlmodel, {}) == expected


@pytest.mark.parametrize("where", ["../secret.json", "/etc/hostname", "link.json", "\0", "none.json", "", 7, None, "."])
def test_files_that_are_not_the_models(tmp_path, where):
    """A path that leads out of the model's folder, or nowhere, is as none."""
    (tmp_path / "model").mkdir()
    (tmp_path / "secret.json").write_text('{"inputs": "secret"}')
    (tmp_path / "model" / "link.json").symlink_to(tmp_path / "secret.json")
    mlmodel = {"saved_input_example_info": {"serving_input_path": where, "artifact_path": where}}

    found = examples.of_mlflow(tmp_path / "model", mlmodel, SIGNATURE)

    assert found == {"dataframe_split": {"columns": ["a", "b"], "data": [[0.0, "text"]]}}


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\xff", '{"inputs": "' + "x" * examples.MAX_EXAMPLE_BYTES + '"}'])
def test_files_that_are_no_example(tmp_path, text):
    """What is no JSON, or too large to show, is as none."""
    (tmp_path / "e.json").write_text(text, encoding="latin-1")

    found = examples.of_mlflow(tmp_path, {"saved_input_example_info": {"serving_input_path": "e.json"}}, {})

    assert found == {"inputs": []}


def test_numbers_that_json_has_not(tmp_path):
    """NaN, which mlflow may have written, becomes null."""
    (tmp_path / "e.json").write_text('{"inputs": [NaN, Infinity]}')

    found = examples.of_mlflow(tmp_path, {"saved_input_example_info": {"serving_input_path": "e.json"}}, {})

    assert found == {"inputs": [None, None]}


@pytest.mark.parametrize(
    "signature",
    [
        SIGNATURE,
        {"inputs": [column(kind, kind) for kind in ("boolean", "integer", "long", "float", "string", "datetime")]},
        {"inputs": [column("m", "map", values={"type": "long"}), column("o", "object", properties={})]},
        {"inputs": [column(None, "double"), column(None, "double")]},
        {"inputs": [tensor("float32", [-1, 2, 3])]},
        {"inputs": [tensor("float64", [-1, 2], "a"), tensor("str", [-1], "b"), tensor("bool", [2], "c")]},
    ],
)
def test_a_request_made_of_a_signature_fits_it(tmp_path, signature):
    """Where there is no example, one row of zeros in each protocol is what the model takes."""
    scorer = tables.Scorer(signature, enforcement)

    body = examples.of_mlflow(tmp_path, {}, signature)
    v2_body = examples.of_v2(body, signature)

    assert scorer.read({"kind": "body", "content_type": "application/json"}, [json.dumps(body).encode()])
    payload, _ = V2Dialect(signature).decode({}, json.dumps(v2_body).encode())
    assert scorer.read(payload.meta, payload.buffers)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["a"], "data": [[{"deep": 1}]]}},
        {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
        {"dataframe_split": {"columns": ["a"], "data": 5}},
        {"inputs": [[1], [2, 3]]},
        {"inputs": [None]},
        {"messages": []},
        {},
    ],
)
def test_what_has_no_form_in_v2(body):
    """Then there is no example for that protocol."""
    assert examples.of_v2(body, {}) is None
