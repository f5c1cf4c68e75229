"""The Open Inference Protocol v2 as its real clients speak it: Triton's and KServe's."""

import contextlib
import json
import subprocess
from pathlib import Path

import numpy
import pandas
import pytest

import registry
from gateway.worker import elements
from tests.compat.conftest import interpreter
from tests.e2e.gateways import Gateway

ROWS = pandas.DataFrame({"a": [1.0, 3.0], "b": [2.0, 4.5]})
DATATYPES = [*elements.NUMBERS, elements.BYTES]


class Sums(registry.PythonModel):
    """The sum of each row, as a named column."""

    def predict(self, context, model_input, params=None):
        return pandas.DataFrame({"total": model_input.sum(axis=1)})


class Echo(registry.PythonModel):
    """What it is given."""

    def predict(self, context, model_input, params=None):
        return model_input


class Images(registry.PythonModel):
    """The mean of each image."""

    def predict(self, context, model_input, params=None):
        return model_input.mean(axis=(1, 2))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What both clients saw of one gateway with three models."""
    python = interpreter("v2")
    folder = tmp_path_factory.mktemp("v2")
    uri = f"sqlite:///{folder}/turnout.db"
    images = numpy.ones((2, 2, 2), "float32")
    models = {
        "sums": (Sums(), registry.infer_signature(ROWS, pandas.DataFrame({"total": [1.0]}))),
        "echo": (Echo(), None),
        "images": (Images(), registry.infer_signature(images, numpy.ones(2, "float32"))),
    }
    with contextlib.closing(registry.connect(uri)) as client:
        for name, (model, signature) in models.items():
            registry.log_model(model, name=name, registered_model_name=name, signature=signature, client=client)
    flags = [flag for name in models for flag in ("-m", f"models:/{name}/1")]
    gateway = Gateway(folder, [*flags, "--registry-uri", uri, "--cache", str(folder / "cache")])
    try:
        gateway.ready()
        program = str(Path(__file__).with_name("v2_clients.py"))
        ran = subprocess.run(
            [python, program, gateway.client.base_url.netloc.decode()],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr + gateway.log()
        yield json.loads(ran.stdout.splitlines()[-1])
    finally:
        gateway.close()


def test_health_and_metadata(seen):
    """Both clients find the server live and ready, and read what the model takes and returns."""
    triton, kserve = seen["triton"], seen["kserve"]

    for each in (triton, kserve):
        assert [each["live"], each["ready"], each["model ready"]] == [True, True, True]
    assert triton["version ready"]
    assert triton["other ready"] == [False, False]
    assert kserve["other ready"] is False
    assert triton["server"]["extensions"] == ["binary_tensor_data"]
    assert triton["metadata"] == {
        "name": "sums",
        "versions": ["1"],
        "platform": "mlflow_pyfunc",
        "inputs": [{"name": name, "datatype": "FP64", "shape": [-1]} for name in "ab"],
        "outputs": [{"name": "total", "datatype": "FP64", "shape": [-1]}],
    }


@pytest.mark.parametrize("binary", ["True", "False"])
def test_columns(seen, binary):
    """Inputs named as columns give the named output, both ways in both encodings, with the request's id."""
    total, response = seen["triton"][f"columns {binary}"]
    kserve = seen["kserve"][f"columns {binary}"]

    assert total == kserve["total"] == [3.0, 7.5]
    assert [response["id"], response["model_name"], response["model_version"]] == ["r 1", "sums", "1"]
    assert ("data" in response["outputs"][0]) is (binary == "False")
    assert [kserve["id"], kserve["model"], kserve["served"]] == ["r 2", ["sums", "FP64"], "1"]


def test_one_tensor_for_all_columns_and_a_tensor_signature(seen):
    """A matrix stands for numeric columns, of a narrower type too; a tensor signature takes its tensor."""
    assert seen["triton"]["matrix"] == [3.0, 7.5]
    assert seen["triton"]["tensor"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_datatypes(seen, datatype):
    """Values at a datatype's ends come back as they went, and of that datatype."""
    assert seen["triton"]["echoes"][datatype] == [datatype, True]


def test_words_of_kserve(seen):
    """Texts come back in KServe's client."""
    assert seen["kserve"]["words"] == ["", "wörter"]


def test_refusals(seen):
    """Both clients show the sentence of an error."""
    status, message = seen["triton"]["refused"]

    assert status == "400"
    assert message.startswith("Inputs are missing: b; the model takes a (FP64 [-1]), b (FP64 [-1])")
    assert message in seen["kserve"]["refused"]
