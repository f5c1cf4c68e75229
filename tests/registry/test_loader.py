"""Loading a model directory without mlflow, and the sentences when that cannot be."""

from __future__ import annotations

import importlib.util
import pickle
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

import registry
from registry.models import loader
from registry.models.format import read_mlmodel

LINEAR = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])


@pytest.fixture(autouse=True)
def _import_state(monkeypatch):
    """Loading a model with code changes where this process imports from."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", sys.dont_write_bytecode)


def python_function(**flavor):
    return {"flavors": {"python_function": flavor}}


def pickled(folder, content, **more):
    """A python model directory whose pickle is these bytes."""
    (folder / "python_model.pkl").write_bytes(content)
    return python_function(loader_module="mlflow.pyfunc.model", python_model="python_model.pkl", **more)


def test_the_file_loads_by_its_path(tmp_path):
    """A replica runs the same file without any package of ours."""
    registry.save_model(tmp_path / "m", LINEAR)
    spec = importlib.util.spec_from_file_location("<loader>", registry.LOADER)
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)

    model = alone.load(str(tmp_path / "m"), read_mlmodel(tmp_path / "m"))

    assert model.predict(np.array([[3.0]])) == pytest.approx([6.0])
    assert model.signature is None
    assert model.input_example() is None


def test_predict_fn_chooses_the_method(tmp_path):
    """A classifier may answer with probabilities."""
    classifier = LogisticRegression().fit([[0.0], [1.0]], ["a", "b"])
    registry.save_model(tmp_path / "m", classifier, predict_fn="predict_proba")

    model = loader.load(str(tmp_path / "m"), read_mlmodel(tmp_path / "m"))

    assert model.predict([[0.5]]).shape == (1, 2)


def test_mlflows_function_models_load_without_mlflow(tmp_path):
    """The names that mlflow's pickles use are resolved by stand-ins, and no module is planted."""
    content = b"cmlflow.pyfunc.model\n_FunctionPythonModel\n)\x81}X\x04\x00\x00\x00funccbuiltins\nlen\nsb."

    model = loader.load(str(tmp_path), pickled(tmp_path, content))

    assert model.predict([1, 2, 3]) == 3
    assert "mlflow" not in sys.modules


def test_mlflows_signature_types_are_let_through(tmp_path):
    """A schema inside a pickle is carried along and never asked."""
    content = (
        b"cmlflow.pyfunc.model\n_FunctionPythonModel\n)\x81}(X\x04\x00\x00\x00funccbuiltins\nlen\n"
        b"X\x04\x00\x00\x00typecmlflow.types.schema\nDataType\n(K\x05tRub."
    )

    assert loader.load(str(tmp_path), pickled(tmp_path, content)).predict("ab") == 2


def test_other_names_of_mlflow_need_mlflow(tmp_path):
    """The sentence names the version that wrote the model."""
    content = b"cmlflow.pyfunc.utils.data_validation\nFuncInfo\n."

    with pytest.raises(loader.LoadError, match=r"install mlflow==3\.1\.4"):
        loader.load(str(tmp_path), {**pickled(tmp_path, content), "mlflow_version": "3.1.4"})


@pytest.mark.parametrize(
    ("mlmodel", "reason"),
    [
        (python_function(loader_module="mlflow.xgboost", data="model.xgb"), "flavor is mlflow.xgboost"),
        (python_function(loader_module="mlflow.pyfunc.model", model_code_path="model.py"), "saved as code"),
        (
            {**python_function(loader_module="mlflow.pyfunc.model"), "is_signature_from_type_hint": True},
            "has type hints",
        ),
        (python_function(loader_module="mlflow.pyfunc.model", python_model_compression="lzma"), "compressed"),
    ],
    ids=["flavor", "code", "type hints", "compressed"],
)
def test_what_only_mlflow_can_load_says_so(tmp_path, mlmodel, reason):
    """The sentence gives the reason, and the mlflow to install."""
    with pytest.raises(loader.LoadError, match=rf"{reason}.* install mlflow==3\.1\.4"):
        loader.load(str(tmp_path), {**mlmodel, "mlflow_version": "3.1.4"})


def test_missing_packages_are_named_as_required(tmp_path):
    """The sentence names the module that is missing and the requirements that are not installed."""
    (tmp_path / "requirements.txt").write_text("mlflow==3.1\nno-such-package==1.2  # yes\nnumpy\n")

    with pytest.raises(loader.LoadError) as failed:
        loader.load(str(tmp_path), pickled(tmp_path, b"cno_such_package.models\nModel\n."))

    assert str(failed.value) == (
        "the model needs the package 'no_such_package', which is not installed here; install no-such-package==1.2"
    )


@pytest.mark.parametrize(
    "flavor",
    [
        {"loader_module": "mlflow.sklearn", "model_path": "/etc/passwd"},
        {"loader_module": "mlflow.sklearn", "model_path": "../model.pkl"},
        {"loader_module": "mlflow.sklearn", "model_path": "link"},
        {"loader_module": "mlflow.sklearn", "model_path": 3},
        {"loader_module": "mlflow.sklearn"},
        {"loader_module": "mlflow.sklearn", "model_path": "x", "code": "../../x"},
        {"loader_module": "mlflow.pyfunc.model", "python_model": "x\0y"},
        {"loader_module": "mlflow.pyfunc.model", "python_model": "x", "artifacts": {"a": {"path": ".."}}},
    ],
    ids=str,
)
def test_paths_stay_inside_the_directory(tmp_path, flavor):
    """Absolute paths, `..` and links out are refused before anything is opened."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(LINEAR))
    (tmp_path / "model" / "link").symlink_to(tmp_path / "model.pkl")

    with pytest.raises(loader.LoadError, match="does not lie inside"):
        loader.load(str(tmp_path / "model"), python_function(**flavor))


@pytest.mark.parametrize("name", ["os", "subprocess", "sklearn", "no_such", "..x", "mlflow.os:system", None, 3])
def test_only_flavors_and_the_models_own_code_are_loaders(tmp_path, name):
    """Metadata cannot pick any importable module to run."""
    (tmp_path / "code").mkdir()

    with pytest.raises(loader.LoadError, match="loader"):
        loader.load(str(tmp_path), python_function(loader_module=name, code="code"))


def test_a_loader_in_the_models_code_is_called(tmp_path):
    """It gets the data path and the configuration."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "loader_of_this_model.py").write_text(
        "from pathlib import Path\n"
        "class Model:\n"
        "    def __init__(self, text): self.text = text\n"
        "    def predict(self, data, params=None): return [self.text, data, params]\n"
        "def _load_pyfunc(path, model_config): return Model(Path(path).read_text() + str(model_config))\n"
    )
    (tmp_path / "data.txt").write_text("hello")
    flavor = {"loader_module": "loader_of_this_model", "code": "code", "data": "data.txt", "config": {"a": 1}}

    model = loader.load(str(tmp_path), python_function(**flavor))

    assert model.predict([1], {"k": 2}) == ["hello{'a': 1}", [1], {"k": 2}]
    assert not list(tmp_path.rglob("__pycache__"))


def test_two_models_may_bring_modules_of_one_name(tmp_path):
    """In one process the second model gets its own module, not the first one's."""
    answers = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        (folder / "code").mkdir(parents=True)
        (folder / "code" / "shared_name.py").write_text(f"def answer(data): return {number}\n")
        (folder / "MLmodel").touch()
        content = b"cmlflow.pyfunc.model\n_FunctionPythonModel\n)\x81}X\x04\x00\x00\x00funccshared_name\nanswer\nsb."
        answers.append(loader.load(str(folder), pickled(folder, content, code="code")).predict(None))

    assert answers == [1, 2]


class Context(registry.PythonModel):
    def predict(self, context, model_input, params=None):
        return [context.artifacts, context.model_config, model_input, params]


class Bare(registry.PythonModel):
    def predict(self, model_input):
        return model_input


class Renamed(registry.PythonModel):
    def predict(self, ctx, data):
        return [ctx.model_config, data]


class WithParams(registry.PythonModel):
    def predict(self, model_input, params):
        return [model_input, params]


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        (Context(), [{}, None, 1, {"k": 2}]),
        (Bare(), 1),
        (Renamed(), [None, 1]),
        (WithParams(), [1, {"k": 2}]),
    ],
    ids=["all", "bare", "context by place", "params"],
)
def test_predict_gets_what_it_has_room_for(tmp_path, model, answer):
    """Context and params are passed only if the signature of `predict` names them."""
    registry.save_model(tmp_path / "m", model)

    loaded = loader.load(str(tmp_path / "m"), read_mlmodel(tmp_path / "m"))

    assert loaded.predict(1, {"k": 2}) == answer


def test_skops_types_must_be_listed(tmp_path):
    """A skops file that holds more than the MLmodel file says is not loaded."""
    forest = RandomForestRegressor(2, random_state=0).fit([[0.0], [1.0]], [0.0, 1.0])
    trusted = ["sklearn.tree._tree.Tree"]
    registry.save_model(tmp_path / "m", forest, serialization_format="skops", skops_trusted_types=trusted)
    mlmodel = read_mlmodel(tmp_path / "m")

    assert loader.load(str(tmp_path / "m"), mlmodel).predict([[1.0]]) == forest.predict([[1.0]])
    mlmodel["flavors"]["sklearn"]["skops_trusted_types"] = None
    with pytest.raises(loader.LoadError, match="skops_trusted_types"):
        loader.load(str(tmp_path / "m"), mlmodel)


@pytest.mark.parametrize(
    ("data", "params"),
    [
        (pd.DataFrame({"a": [1.0, 2.0], "b": np.array([1, 2], "int32"), "c": ["x", "y"]}), None),
        (pd.DataFrame({"a": pd.to_datetime(["2026-01-02"]), "b": [b"\x00\xff"]}), {"k": 1}),
        (pd.DataFrame([[1.0, 2.0]]), None),
        (np.array([[1, 2]], "int16"), {"k": 1}),
        ({"u": np.zeros((2, 2), "float32"), "v": np.arange(2)}, None),
        ({"text": "x", "n": [1, 2]}, None),
        (["x", "y"], {"k": 1}),
    ],
    ids=["table", "dates and bytes", "unnamed", "array", "arrays", "record", "list"],
)
def test_the_input_example_comes_back(tmp_path, data, params):
    """With the types that JSON could not tell."""
    registry.save_model(
        tmp_path / "m",
        lambda model_input: None,
        input_example=data if params is None else (data, params),
        signature=registry.infer_signature(data, params=params),
    )

    found, found_params = loader.load(str(tmp_path / "m"), read_mlmodel(tmp_path / "m")).input_example()

    assert found_params == params
    if isinstance(data, pd.DataFrame):
        assert found.astype(object).to_dict("list") == data.astype(object).to_dict("list")
        if not params:
            pd.testing.assert_frame_equal(found, data)
    else:
        np.testing.assert_equal(found, data)
        assert str(getattr(found, "dtype", "")) == str(getattr(data, "dtype", ""))


def test_a_directory_without_python_function_is_refused(tmp_path):
    """The sentence lists the flavors that there are."""
    with pytest.raises(loader.LoadError, match="only: onnx, spark"):
        loader.load(str(tmp_path), {"flavors": {"onnx": {}, "spark": {}}})
