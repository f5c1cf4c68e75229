"""Data and params made to fit a signature. tests/compat compares every kind of data with the real mlflow."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from registry import ENFORCEMENT, LOADER
from registry.models.enforcement import SchemaError, enforce_inputs, enforce_params

COLUMNS = [
    {"type": "double", "name": "a", "required": True},
    {"type": "long", "name": "b", "required": False},
]
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}]


def test_a_fitting_table_is_passed_on_as_it_is():
    """Nothing is copied when there is nothing to do."""
    table = pd.DataFrame({"a": [1.0], "b": [1]})

    assert enforce_inputs(table, COLUMNS) is table


def test_columns_are_selected_ordered_and_widened():
    """Extra columns are left out; int32 becomes a double."""
    table = pd.DataFrame({"z": ["x"], "b": [1], "a": np.array([2], "int32")})

    enforced = enforce_inputs(table, COLUMNS)

    assert enforced.to_dict("list") == {"a": [2.0], "b": [1]}
    assert [str(dtype) for dtype in enforced.dtypes] == ["float64", "int64"]


def test_an_optional_column_may_be_absent():
    """Only required columns are missed."""
    assert list(enforce_inputs(pd.DataFrame({"a": [1.0]}), COLUMNS).columns) == ["a"]


def test_missing_columns_are_named():
    """The sentence is mlflow's, with what was found instead."""
    with pytest.raises(SchemaError) as refused:
        enforce_inputs(pd.DataFrame({"c": [1.0]}), COLUMNS)

    assert str(refused.value) == "Model is missing inputs ['a']. Note that there were extra inputs: ['c']."


@pytest.mark.parametrize("values", [["1"], [2], [True], [None, 2]], ids=repr)
def test_lossy_conversions_are_refused(values):
    """Text, general integers and booleans do not become doubles."""
    with pytest.raises(SchemaError, match="Can not safely convert"):
        enforce_inputs(pd.DataFrame({"a": pd.array(values)}), COLUMNS)


def test_two_columns_of_one_name_are_refused():
    """Nobody can tell which is meant."""
    with pytest.raises(SchemaError, match="same name"):
        enforce_inputs(pd.DataFrame([[1.0, 2.0]], columns=["a", "a"]), COLUMNS)


def test_a_tensor_must_have_its_dtype_and_shape():
    """No array is converted."""
    good = np.zeros((3, 2))

    assert enforce_inputs(good, TENSOR) is good
    with pytest.raises(SchemaError, match="dtype of input float32"):
        enforce_inputs(good.astype("float32"), TENSOR)
    with pytest.raises(SchemaError, match=r"Shape of input \(3, 2, 1\)"):
        enforce_inputs(good.reshape(3, 2, 1), TENSOR)


def test_params_are_widened_and_completed():
    """Defaults fill in, unknown ones are dropped, an int may be a double."""
    schema = [
        {"name": "x", "type": "double", "default": 0.5, "shape": None},
        {"name": "l", "type": "long", "default": [1], "shape": [-1]},
    ]

    assert enforce_params({"x": 2, "nope": 1}, schema) == {"x": 2.0, "l": [1]}
    assert enforce_params({"x": 2}, None) == {}


def test_every_refused_param_is_named():
    """One answer tells all that is wrong."""
    schema = [{"name": name, "type": "long", "default": 1, "shape": None} for name in "ab"]

    with pytest.raises(SchemaError, match=r"'a': .*'b': "):
        enforce_params({"a": "1", "b": 1.5}, schema)


@pytest.mark.parametrize("file", [LOADER, ENFORCEMENT], ids=lambda path: path.name)
def test_the_standalone_files_need_nothing(file):
    """They parse as Python 3.9, and importing them by path loads the standard library only."""
    ast.parse(file.read_text(), feature_version=(3, 9))
    code = f"""if True:
        import importlib.util, sys
        before = set(sys.modules)
        spec = importlib.util.spec_from_file_location("alone", {str(file)!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        print(*{{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names))
    """

    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == ""
