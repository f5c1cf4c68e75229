"""Signatures: inferred from examples, written and read. tests/compat compares with the real mlflow."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from registry.errors import InvalidParameter
from registry.models.signature import ModelSignature, infer_signature


def test_columns_of_a_table_have_names_types_and_nulls():
    """A column with nulls is optional."""
    table = pd.DataFrame({"n": [1, 2], "x": [1.0, None], "s": ["a", "b"], "b": [True, False]})

    assert infer_signature(table).inputs == [
        {"type": "long", "name": "n", "required": True},
        {"type": "double", "name": "x", "required": False},
        {"type": "string", "name": "s", "required": True},
        {"type": "boolean", "name": "b", "required": True},
    ]


def test_an_array_is_a_tensor_of_any_length():
    """The first dimension of an array is free."""
    signature = infer_signature(np.zeros((5, 3), "float32"), np.zeros(5))

    assert signature.inputs == [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 3]}}]
    assert signature.outputs == [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]


def test_records_may_differ():
    """A key that some records lack is optional; objects merge their properties."""
    signature = infer_signature([{"a": {"x": 1}}, {"a": {"x": 2, "y": "u"}, "b": 1.5}])

    assert signature.inputs == [
        {
            "type": "object",
            "properties": {"x": {"type": "long", "required": True}, "y": {"type": "string", "required": False}},
            "name": "a",
            "required": True,
        },
        {"type": "double", "name": "b", "required": False},
    ]


def test_what_has_no_one_type_is_anything():
    """Mixed lists make no error but the type `any`."""
    assert infer_signature([1, "x"]).inputs == [{"type": "any", "required": True}]


def test_params_carry_their_defaults():
    """A list is a param of shape (-1,)."""
    assert infer_signature(["x"], params={"k": 1, "l": [0.5, 1]}).params == [
        {"name": "k", "default": 1, "shape": None, "type": "long"},
        {"name": "l", "default": [0.5, 1.0], "shape": [-1], "type": "double"},
    ]


@pytest.mark.parametrize(
    "default", [None, b"x", (1, 2), [[1]], [1, "x"], object()], ids=lambda value: type(value).__name__
)
def test_params_without_a_type_are_refused(default):
    """The error names the param."""
    with pytest.raises(InvalidParameter, match="'k'"):
        infer_signature(["x"], params={"k": default})


def test_mlflows_form_is_read_and_written():
    """Each part is JSON text or None, as in an MLmodel file and in mlflow's `to_dict`."""
    signature = infer_signature(["x"], [1.5], {"k": 1})

    parts = signature.to_dict()

    assert parts["inputs"] == '[{"type": "string", "required": true}]'
    assert ModelSignature.from_dict(parts) == signature
    assert ModelSignature.of(parts) == signature


def test_anything_else_is_no_signature():
    """A list of columns is not yet a signature."""
    with pytest.raises(InvalidParameter, match="infer_signature"):
        ModelSignature.of([{"type": "double"}])
