"""Each loads what the other wrote and gives the same predictions: Turnout and the real mlflow, 3 and 2."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import registry
from tests.compat import models

pytestmark = pytest.mark.compat

BASE = Path(__file__).parents[2] / "requirements" / "base.txt"
SKOPS = {"skops", "skops_forest"}
NAMES = sorted({*models.estimators(), "weighted", "configured", "sentiment", "code", "function"})


@dataclass(frozen=True)
class Exchange:
    """What an mlflow saved, and its predictions by model with what each side saved."""

    theirs: Path
    mlflow_on_mlflows: dict[str, Any]
    mlflow_on_ours: dict[str, Any]
    mlflow_by_our_loader: dict[str, Any]


def save_ours(folder: Path) -> dict[str, tuple[Any, Any]]:
    inputs = {}
    for name, (model, data, options) in models.estimators().items():
        registry.save_model(folder / name, model, input_example=data, **options)
        inputs[name] = (data, None)
    for name, (model, data, params, options) in models.python_models(registry.PythonModel, folder).items():
        signature = registry.infer_signature(data, params=params)
        registry.save_model(folder / name, model, signature=signature, **options)
        inputs[name] = (data, params)
    return inputs


def exchange(python: Path, ours: Path, theirs: Path, formats: list[str]) -> Exchange:
    script = Path(__file__).parent / "mlflow_models.py"
    done = subprocess.run(
        [python, "-W", "ignore", script, theirs, ours, registry.LOADER, *formats],
        capture_output=True,
        text=True,
        check=False,
        cwd=theirs.parent,  # mlflow 2 leaves a folder mlruns where it runs
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads((theirs / "answers.json").read_text())
    return Exchange(theirs, answers["theirs"], answers["ours"], answers["by_our_loader"])


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ours") / "models"
    folder.mkdir()
    return folder, save_ours(folder)


@pytest.fixture(scope="module")
def exchange3(mlflow3, ours, tmp_path_factory):
    theirs = tmp_path_factory.mktemp("three") / "models"
    theirs.mkdir()
    return exchange(mlflow3, ours[0], theirs, ["cloudpickle", "pickle", "skops"])


@pytest.fixture(scope="module")
def exchange2(mlflow2, ours, tmp_path_factory):
    theirs = tmp_path_factory.mktemp("two") / "models"
    theirs.mkdir()
    return exchange(mlflow2, ours[0], theirs, ["cloudpickle", "pickle"])


def our_prediction(folder: Path, name: str, inputs: dict[str, tuple[Any, Any]]) -> Any:
    data, params = inputs[name]
    return models.plain(registry.load_model(folder / name).predict(data, params))


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_3_and_we_predict_alike(exchange3, ours, name):
    """A model saved by either side gives one and the same prediction on both."""
    folder, inputs = ours
    expected = exchange3.mlflow_on_mlflows[name]

    assert "failed" not in expected
    assert exchange3.mlflow_on_ours[name] == expected
    assert our_prediction(exchange3.theirs, name, inputs) == expected
    assert our_prediction(folder, name, inputs) == expected


@pytest.mark.parametrize("name", sorted({*NAMES} - SKOPS))
def test_mlflow_2_and_we_predict_alike(exchange2, ours, name):
    """The same with mlflow 2, which knows no skops files."""
    expected = exchange2.mlflow_on_mlflows[name]

    assert "failed" not in expected
    assert exchange2.mlflow_on_ours[name] == expected
    assert our_prediction(exchange2.theirs, name, ours[1]) == expected


def test_what_mlflow_writes_by_default_loads_after_a_plain_install(exchange3):
    """The format that mlflow 3 chooses is read by a package that requirements/base.txt installs."""
    chosen = registry.read_mlmodel(exchange3.theirs / "default")["flavors"]["sklearn"]["serialization_format"]
    data = models.estimators()["linear"][1]

    prediction = registry.load_model(exchange3.theirs / "default").predict(data)

    assert models.plain(prediction) == exchange3.mlflow_on_mlflows["linear"]
    assert f"\n{chosen}==" in BASE.read_text()


def test_what_mlflow_wrote_needs_no_mlflow(exchange3):
    """The process that loads mlflow's models has no module named mlflow, installed or planted."""
    code = """if True:
        import sys, registry
        from tests.compat import models
        loaded = registry.load_model(sys.argv[1])
        assert loaded.predict(models.NUMBERS, {"scale": 1.0})
        assert not [name for name in sys.modules if name.split(".")[0] == "mlflow"]
    """

    subprocess.run(
        [sys.executable, "-c", code, exchange3.theirs / "weighted"], check=True, cwd=Path(__file__).parents[2]
    )


def test_what_needs_mlflow_loads_where_mlflow_is(exchange3):
    """Our loader, by its path and under mlflow's interpreter, hands a type-hinted model to mlflow's own."""
    hinted = exchange3.theirs / "hinted"
    mlmodel = registry.read_mlmodel(hinted)

    with pytest.raises(registry.ModelLoadFailed, match=r"type hints.* install mlflow==3"):
        registry.load_model(hinted)

    assert exchange3.mlflow_by_our_loader == {"hinted": ["A", "B"], "linear": exchange3.mlflow_on_mlflows["linear"]}
    assert mlmodel["is_signature_from_type_hint"]
