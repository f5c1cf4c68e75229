"""The replica's half of scoring: raw numbers from the gateway, and what the files need to run."""

import subprocess
import sys
from pathlib import Path

import numpy
import pandas
import pytest

from gateway.worker import tables
from registry.models import enforcement


def column(name, kind, **more):
    return {"type": kind, "required": True} | ({"name": name} if name else {}) | more


def tensor(dtype, shape, name=None):
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}} | ({"name": name} if name else {})


TWO = [column("a", "double"), column("b", "double")]


def scorer(inputs=None, params=None, **more):
    signature = None if inputs is None and params is None else {"inputs": inputs, "params": params} | more
    return tables.Scorer(signature, enforcement)


def test_packed_rows_become_a_table():
    """One buffer in row order is a DataFrame with the payload's columns."""
    meta = {"kind": "table", "columns": ["a", "b"], "dtypes": ["float64"] * 2, "rows": 2, "packed": True}

    request = scorer(TWO).read(meta, (memoryview(numpy.array([[1.0, 2], [3, 4]]).tobytes()),))

    pandas.testing.assert_frame_equal(request.data, pandas.DataFrame({"a": [1.0, 3], "b": [2.0, 4]}))
    assert request.params is None
    assert request.wrapped


def test_a_model_may_write_into_its_input():
    """Input is the model's own, as it is under MLflow: changing it in place works."""
    packed = {"kind": "table", "columns": ["a"], "dtypes": ["float64"], "rows": 1, "packed": True}
    array = {"kind": "tensor", "dtype": "float64", "shape": [1]}
    buffer = memoryview(numpy.array([1.0]).tobytes())

    frame = scorer([column("a", "double")]).read(packed, (buffer,)).data
    tensor_input = scorer().read(array, (buffer,)).data
    frame.iloc[0, 0] = tensor_input[0] = 5.0

    assert frame.iloc[0, 0] == tensor_input[0] == 5.0


def test_one_buffer_a_column_becomes_a_table():
    """Columns of several types come one buffer each, text as a JSON array."""
    inputs = [column("s", "string"), column("i", "integer"), column("b", "boolean")]
    meta = {"kind": "table", "columns": ["s", "i", "b"], "dtypes": ["str", "int32", "bool"], "rows": 2}
    buffers = (b'["x","y"]', numpy.array([1, 2], "int32").tobytes(), b"\1\0")

    data = scorer(inputs).read(meta, buffers).data

    expected = {"s": ["x", "y"], "i": numpy.array([1, 2], "int32"), "b": [True, False]}
    pandas.testing.assert_frame_equal(data, pandas.DataFrame(expected))


def test_a_table_of_other_columns_is_enforced():
    """Where a dialect's columns are not the signature's, they are put in order, widened or refused."""
    meta = {"kind": "table", "columns": ["b", "a"], "dtypes": ["int32", "float64"], "rows": 1}
    buffers = (numpy.array([2], "int32").tobytes(), numpy.array([1.0]).tobytes())

    data = scorer(TWO).read(meta, buffers).data

    pandas.testing.assert_frame_equal(data, pandas.DataFrame({"a": [1.0], "b": [2.0]}))
    with pytest.raises(tables.Refused, match="missing inputs"):
        scorer([*TWO, column("c", "double")]).read(meta, buffers)


def test_a_tensor_is_checked_against_the_signature():
    """The right dtype and shape pass; others are refused with both shapes."""
    meta = {"kind": "tensor", "dtype": "float64", "shape": [1, 2]}
    buffer = numpy.array([[1.0, 2.0]]).tobytes()

    data = scorer([tensor("float64", [-1, 2])]).read(meta, (buffer,)).data

    numpy.testing.assert_array_equal(data, [[1.0, 2.0]], strict=True)
    with pytest.raises(tables.Refused, match=r"\(1, 2\).*\(-1, 3\)"):
        scorer([tensor("float64", [-1, 3])]).read(meta, (buffer,))


@pytest.mark.parametrize(
    "meta",
    [
        {"kind": "table", "columns": ["a"], "dtypes": ["float64"], "rows": 2, "packed": True},
        {"kind": "table", "columns": ["a", "b"], "dtypes": ["float64"], "rows": 1},
        {"kind": "tensor", "dtype": "float64", "shape": [3]},
        {"kind": "tensor", "dtype": "nonsense", "shape": [1]},
    ],
)
def test_buffers_that_do_not_fit_their_shape_are_refused(meta):
    """A payload that contradicts itself is a bad request, not the end of the replica."""
    with pytest.raises(tables.Refused) as refused:
        scorer().read(meta, (bytes(8),))

    assert refused.value.error_code == "BAD_REQUEST"


def test_an_unknown_kind_is_refused():
    """A payload of a kind that no model reads is an answer, not a crash."""
    with pytest.raises(tables.Refused, match="kind 'json'"):
        scorer().read({"kind": "json"}, (b"{}",))


def test_what_the_model_raises_is_told_without_a_trace():
    """The client sees the exception's type and text in one line, cut where it is long."""
    refused = tables.model_failed(ValueError("bad\nvalue " + "x" * 10_000))

    assert (refused.status, refused.error_code) == (400, "BAD_REQUEST")
    assert refused.message.startswith("Encountered an unexpected error while evaluating the model.")
    assert "ValueError: bad value" in refused.message
    assert len(refused.message) < 1000


def test_the_files_stand_alone(tmp_path):
    """Under a bare interpreter they load by path, and bring neither pandas nor numpy with them."""
    path = Path(tables.__file__)
    program = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('x', {str(path)!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.Scorer(None, None).write({'a': 1}))\n"
        "assert not {'numpy', 'pandas', 'gateway', 'registry'} & set(sys.modules)\n"
    )

    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert done.stdout.strip() == "({'kind': 'json'}, [b'{\"a\": 1}'])", done.stderr
