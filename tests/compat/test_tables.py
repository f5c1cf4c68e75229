"""Signatures and their enforcement, compared with the real mlflow row by row."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from registry.errors import InvalidParameter
from registry.models import enforcement
from registry.models.signature import infer_signature
from tests.compat import cases

pytestmark = pytest.mark.compat

# Where mlflow turns a missing value into the smallest integer; we refuse it.
LOSSY = "tensor column <- float64 nan"
# Where mlflow declares an empty list as one of datetimes; we declare text.
EMPTY_LIST = 6


def infer(example, params):
    signature = infer_signature(example, params=params)
    return {"inputs": signature.inputs, "outputs": signature.outputs, "params": signature.params}


@pytest.fixture(scope="module")
def ours():
    return json.loads(cases.main(enforcement.enforce_inputs, enforcement.enforce_params, infer))


@pytest.fixture(scope="module")
def theirs(mlflow3):
    script = Path(__file__).parent / "mlflow_tables.py"
    done = subprocess.run([mlflow3, "-W", "ignore", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def accepted(rows):
    """What was accepted, with the resulting values; None for what was refused."""
    return {name: row.get("ok") for name, row in rows.items()}


def test_inputs_are_enforced_as_mlflow_does(ours, theirs):
    """Every pair of a schema and data is accepted with the same values or refused by both."""
    mine, real = accepted(ours["inputs"]), accepted(theirs["inputs"])

    assert mine.pop(LOSSY) is None
    assert real.pop(LOSSY) is not None
    assert {name: each for name, each in mine.items() if each != real[name]} == {}
    assert mine.keys() == real.keys()


def test_missing_columns_are_named_in_mlflows_words(ours, theirs):
    """The sentence about missing inputs starts as mlflow's does."""
    starts = {
        name: row["refused"].split(". ")[0].rstrip(".")
        for name, row in theirs["inputs"].items()
        if "Model is missing inputs [" in row.get("refused", "")
    }

    assert starts
    assert {name: ours["inputs"][name]["refused"].split(". ")[0].rstrip(".") for name in starts} == starts


def test_params_are_enforced_as_mlflow_does(ours, theirs):
    """Every set of params gives the same values or is refused by both."""
    assert accepted(ours["params"]) == accepted(theirs["params"])


def test_signatures_are_inferred_as_mlflow_does(ours, theirs):
    """Every example has the same signature on both sides."""
    mine, real = accepted(ours["signatures"]), accepted(theirs["signatures"])

    assert {name: each for name, each in mine.items() if each != real[name]} == {}


def test_params_schemas_are_inferred_as_mlflow_does(ours, theirs):
    """Defaults of params give the same schema, or are refused by both."""
    mine = [row.get("ok") for row in ours["signature params"]]
    real = [row.get("ok") for row in theirs["signature params"]]
    del mine[EMPTY_LIST], real[EMPTY_LIST]

    assert mine == real


def test_the_refusals_are_ours():
    """Refused params are an error that the HTTP side knows."""
    with pytest.raises(InvalidParameter):
        infer_signature(["x"], params={"none": None})
