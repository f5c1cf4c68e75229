"""Saving models: what lies in the directory, and what no pickle of ours may name."""

from __future__ import annotations

import pickletools
import sys

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import registry
from registry.errors import InvalidParameter
from registry.models.format import read_mlmodel

LINEAR = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
OURS = {"registry", "gateway"}


def local_model():
    class Local(registry.PythonModel):
        """A class of a function's travels by value, as a notebook's does."""

        def load_context(self, context):
            self.offset = (context.model_config or {}).get("offset", 0)

        def predict(self, context, model_input, params=None):
            return np.asarray(model_input) + self.offset

    return Local()


def strings(file):
    return {str(argument) for _, argument, _ in pickletools.genops(file.read_bytes()) if isinstance(argument, str)}


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (local_model(), {}),
        (lambda model_input: model_input, {}),
        (LINEAR, {"serialization_format": "cloudpickle"}),
        (LINEAR, {"serialization_format": "pickle"}),
        (LINEAR, {"serialization_format": "skops"}),
    ],
    ids=["class", "function", "cloudpickle", "pickle", "skops"],
)
def test_no_file_of_a_model_names_our_packages(tmp_path, model, options):
    """A replica imports neither, and mlflow's users need not install us."""
    registry.save_model(tmp_path / "m", model, **options)

    for file in (tmp_path / "m").glob("*.pkl"):
        assert not {text.split(".")[0] for text in strings(file)} & OURS
    assert "turnout" not in (tmp_path / "m" / "requirements.txt").read_text()


def test_our_base_class_travels_under_mlflows_name(tmp_path):
    """So that mlflow's own base is what the class has where mlflow loads it."""
    registry.save_model(tmp_path / "m", local_model())

    assert {"mlflow.pyfunc.model", "PythonModel", "subimport"} <= strings(tmp_path / "m" / "python_model.pkl")


def refers_to_the_package():
    def predict(model_input):
        return registry.connect(model_input)

    return predict


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (refers_to_the_package(), {}),
        (make_pipeline(FunctionTransformer(registry.infer_signature)), {"predict_fn": "transform"}),
        (
            make_pipeline(FunctionTransformer(registry.infer_signature)),
            {"predict_fn": "transform", "serialization_format": "pickle"},
        ),
    ],
    ids=["module", "function", "pickle"],
)
def test_a_model_that_needs_our_packages_is_refused(tmp_path, model, options):
    """The error says what it refers to; nothing is left behind."""
    with pytest.raises(InvalidParameter, match="'registry'"):
        registry.save_model(tmp_path / "m", model, **options)

    assert list(tmp_path.iterdir()) == []


def test_a_class_of_an_importable_module_travels_by_name(tmp_path, monkeypatch):
    """As cloudpickle does it; its file comes along by code_paths."""
    module = tmp_path / "users_module.py"
    module.write_text(
        "import registry\nclass Mine(registry.PythonModel):\n    def predict(self, model_input): return 7\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_module

    registry.save_model(tmp_path / "m", users_module.Mine(), code_paths=[module])

    assert "users_module" in strings(tmp_path / "m" / "python_model.pkl")
    assert (tmp_path / "m" / "code" / "users_module.py").read_text() == module.read_text()
    assert read_mlmodel(tmp_path / "m")["flavors"]["python_function"]["code"] == "code"
    monkeypatch.delitem(sys.modules, "users_module")


def test_requirements_are_what_is_imported(tmp_path):
    """Also what a method imports when it runs; each pinned as installed here."""

    class Reads(registry.PythonModel):
        column = "pytest"  # a text, not an import

        def predict(self, model_input):
            import json

            import yaml

            return yaml.safe_load(json.dumps(model_input) + str(msgspec))

    registry.save_model(tmp_path / "m", Reads())

    lines = (tmp_path / "m" / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in lines] == ["PyYAML", "cloudpickle", "msgspec", "numpy", "pandas"]
    assert all(line.partition("==")[2] for line in lines)


def test_given_requirements_are_taken(tmp_path):
    """A list, or a file of them; they also stand in conda.yaml."""
    (tmp_path / "needs.txt").write_text("# mine\nnumpy\n\nfoo>=1\n")

    registry.save_model(tmp_path / "a", LINEAR, pip_requirements=["numpy", "foo>=1"])
    registry.save_model(tmp_path / "b", LINEAR, pip_requirements=str(tmp_path / "needs.txt"))

    for name in "ab":
        assert (tmp_path / name / "requirements.txt").read_text() == "numpy\nfoo>=1\n"
        assert "foo>=1" in (tmp_path / name / "conda.yaml").read_text()
    with pytest.raises(InvalidParameter, match="not one requirement"):
        registry.save_model(tmp_path / "c", LINEAR, pip_requirements=["numpy\n--index-url http://x"])


def test_the_signature_comes_from_the_example(tmp_path):
    """Inputs from the example, outputs from the model's answer to it."""
    table = pd.DataFrame({"a": [0.0, 1.0]})

    registry.save_model(tmp_path / "m", LinearRegression().fit(table, [0.0, 1.0]), input_example=table)

    signature = registry.ModelSignature.of(read_mlmodel(tmp_path / "m")["signature"])
    assert signature == registry.infer_signature(table, np.zeros(2))


def refuses_everything(model_input):
    raise KeyError("no vocabulary")


@pytest.mark.parametrize(
    ("model", "example", "reason"),
    [
        (refuses_everything, [1.0], "KeyError: 'no vocabulary'"),
        (refuses_everything, ([1.0], {"scale": 2.0}), "KeyError: 'no vocabulary'"),
        (LINEAR, [["a"]], "ValueError"),
    ],
    ids=["function", "params", "estimator"],
)
def test_an_example_that_cannot_be_predicted_is_a_warning(tmp_path, model, example, reason):
    """The model is saved without a signature, as MLflow does it, and the caller is told why."""
    with pytest.warns(UserWarning, match=f"without a signature: .*{reason}") as warned:
        registry.save_model(tmp_path / "m", model, input_example=example)

    mlmodel = read_mlmodel(tmp_path / "m")
    assert mlmodel.get("signature") is None
    assert mlmodel["saved_input_example_info"]["artifact_path"] == "input_example.json"
    assert warned[0].filename == __file__


def test_artifacts_of_one_name_do_not_collide(tmp_path):
    """Files and folders are copied; the model finds each by its key."""
    for folder in "xyz":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "data").mkdir() if folder == "z" else (tmp_path / folder / "data").write_text(folder)

    registry.save_model(tmp_path / "m", local_model(), artifacts={key: tmp_path / key / "data" for key in "xyz"})

    entries = read_mlmodel(tmp_path / "m")["flavors"]["python_function"]["artifacts"]
    assert (tmp_path / "m" / entries["x"]["path"]).read_text() == "x"
    assert (tmp_path / "m" / entries["y"]["path"]).read_text() == "y"
    assert (tmp_path / "m" / entries["z"]["path"]).is_dir()


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (object(), {}, "cannot save a object"),
        (LINEAR, {"serialization_format": "joblib"}, "is none of"),
        (LINEAR, {"predict_fn": "predict_proba"}, "no method"),
        (LINEAR, {"artifacts": {"a": "b"}}, "for a PythonModel"),
        (LINEAR, {"code_paths": ["no/such"]}, "does not exist"),
        (LINEAR, {"signature": 3}, "infer_signature"),
        (lambda model_input: None, {"artifacts": {"a": "no/such"}}, "does not exist"),
        (lambda model_input: None, {"input_example": [object()]}, "JSON cannot say"),
    ],
    ids=["no model", "format", "predict_fn", "artifacts", "code", "signature", "artifact's path", "example"],
)
def test_what_cannot_be_saved_leaves_nothing(tmp_path, model, options, reason):
    """The error says what is wrong, and the place stays free."""
    with pytest.raises(InvalidParameter, match=reason):
        registry.save_model(tmp_path / "m", model, **options)

    assert list(tmp_path.iterdir()) == []


def test_code_may_not_take_our_names(tmp_path):
    """A package named gateway would stand before ours."""
    (tmp_path / "gateway").mkdir()

    with pytest.raises(InvalidParameter, match="belongs to Turnout"):
        registry.save_model(tmp_path / "m", LINEAR, code_paths=[tmp_path / "gateway"])


def test_an_existing_place_is_not_overwritten(tmp_path):
    """An empty folder is taken, anything else stays as it is."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty").mkdir()

    registry.save_model(tmp_path / "empty", LINEAR)

    assert (tmp_path / "empty" / "MLmodel").exists()
    with pytest.raises(InvalidParameter, match="there already"):
        registry.save_model(tmp_path / "full", LINEAR)


def test_skops_asks_for_trust_before_anything_is_saved(tmp_path):
    """The error lists the types as the option wants them."""
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor().fit([[0.0], [1.0]], [0.0, 1.0])

    with pytest.raises(InvalidParameter, match=r"skops_trusted_types=\['sklearn.tree._tree.Tree'\]"):
        registry.save_model(tmp_path / "m", tree, serialization_format="skops")
