"""Which faster ways are proven for which model, and that what is not the same is never used."""

from pathlib import Path

import numpy
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

import registry
from gateway.worker import accelerate, ensembles, parts, samples, tables, trees
from registry import read_mlmodel
from registry.models import enforcement, loader

MODULES = {"parts": parts, "samples": samples, "trees": trees, "ensembles": ensembles}
TRYING = "equal; trees are being tried"
RANDOM = numpy.random.RandomState(7)
NUMBERS = pandas.DataFrame(RANDOM.rand(40, 3), columns=["a", "b", "c"])
TARGET = NUMBERS.to_numpy() @ [1.0, -2.0, 3.0]
CLASSES = numpy.where(TARGET > 0.8, "high", "low")
MIXED = NUMBERS.assign(word=numpy.where(NUMBERS["a"] > 0.5, "yes", "no"))


class Centred(registry.PythonModel):
    """Looks at all rows at once."""

    def predict(self, context, model_input, params=None):
        return model_input["a"].to_numpy() - model_input["a"].mean()


class Doubled(registry.PythonModel):
    """Looks at each row alone; its author says so by the tag."""

    def predict(self, context, model_input, params=None):
        return [{"twice": 2 * each} for each in model_input["a"]]


class Dice(registry.PythonModel):
    """Never answers twice alike."""

    def predict(self, context, model_input, params=None):
        return numpy.random.rand(len(model_input))


def centre(table):
    return table - table.mean(axis=0)


def prove(tmp_path: Path, model, data=NUMBERS, joins="auto", accelerates=True, example=True):
    """What is found first for the model as a replica loads it, and the scorer that goes on with it."""
    signature = registry.infer_signature(data)
    more = {"input_example": data.head(3)} if example else {}
    registry.save_model(tmp_path / "model", model, signature=signature, **more)
    loaded = loader.load(str(tmp_path / "model"), read_mlmodel(tmp_path / "model"))
    scorer = tables.Scorer(loaded.signature, enforcement)
    prover = accelerate.Prover(loaded, loaded.input_example(), scorer, trees.Answerer(loaded), MODULES)
    found = [each for each in prover.steps(joins, accelerates) if each is not None]
    return found[0], scorer, loaded


@pytest.mark.parametrize(
    ("model", "path", "proof"),
    [
        (LinearRegression().fit(NUMBERS, TARGET), "array+batch", "equal within 1e-09"),
        (make_pipeline(StandardScaler(), LinearRegression()).fit(NUMBERS, TARGET), "array+batch", None),
        (RandomForestRegressor(5, random_state=0).fit(NUMBERS, TARGET), "array+batch", TRYING),
        (RandomForestClassifier(5, random_state=0).fit(NUMBERS, CLASSES), "array+batch", TRYING),
        (GradientBoostingRegressor(random_state=0).fit(NUMBERS, TARGET), "array+batch", TRYING),
        (make_pipeline(FunctionTransformer(numpy.log1p), LinearRegression()).fit(NUMBERS, TARGET), None, None),
        (
            make_pipeline(
                ColumnTransformer([("scaled", StandardScaler(), ["a"])], remainder="passthrough"), LinearRegression()
            ).fit(NUMBERS, TARGET),
            "plain+batch",
            None,
        ),
    ],
    ids=["linear", "scaled", "forest", "classes", "boosting", "log", "by name"],
)
def test_estimators(tmp_path, model, path, proof):
    """scikit-learn's own are joined, and get arrays where they need no names."""
    found, _, _ = prove(tmp_path, model)

    assert found.joins or path is None
    assert path is None or found.path == path
    assert proof is None or found.proof == proof


def test_columns_of_texts(tmp_path):
    """Texts are those of the example; a table of several types stays a table."""
    encoder = ColumnTransformer([("word", OneHotEncoder(), ["word"])], remainder="passthrough")
    found, _, _ = prove(tmp_path, make_pipeline(encoder, LogisticRegression()).fit(MIXED, CLASSES), MIXED)

    assert found[:2] == ("plain+batch", True)


def test_columns_of_several_number_types(tmp_path):
    """Whole numbers beside others become one array as well, of the type to which pandas would bring them."""
    data = NUMBERS.assign(b=(1000 * NUMBERS["b"]).astype("int64"), c=NUMBERS["c"].astype("float32"))
    found, scorer, loaded = prove(tmp_path, RandomForestRegressor(5, random_state=0).fit(data, TARGET), data)
    row = data.iloc[[7]]
    payload = {"kind": "table", "columns": ["a", "b", "c"], "dtypes": ["float64", "int64", "float32"], "rows": 1}

    read = scorer.read(payload, [row[name].to_numpy().tobytes() for name in row]).data

    assert found.path == "array+batch"
    assert (type(read), read.dtype, read.tolist()) == (numpy.ndarray, "float64", row.to_numpy().tolist())
    assert loaded.predict(read).tolist() == loaded.predict(row).tolist()


def test_truth_values_keep_the_table(tmp_path):
    """Beside numbers they make pandas keep objects, which an array of numbers is not."""
    data = NUMBERS.assign(b=NUMBERS["b"] > 0.5)
    found, _, _ = prove(tmp_path, RandomForestRegressor(5, random_state=0).fit(data, TARGET), data)

    assert found.path == "plain+batch"


def test_arrays_are_used_once_proven(tmp_path):
    """From then on the model gets an array with the table's values, and it is its own to write into."""
    payload = {"kind": "table", "columns": ["a", "b", "c"], "dtypes": ["float64"] * 3, "rows": 1, "packed": True}
    buffer = numpy.array([1.0, 2.0, 3.0]).tobytes()
    found, scorer, loaded = prove(tmp_path, RandomForestRegressor(5, random_state=0).fit(NUMBERS, TARGET))

    data = scorer.read(payload, [buffer]).data

    assert found.path == "array+batch"
    assert (type(data), data.tolist(), data.flags.writeable) == (numpy.ndarray, [[1.0, 2.0, 3.0]], True)
    assert loaded.predict(data).tolist() == loaded.predict(pandas.DataFrame(data, columns=list("abc"))).tolist()


@pytest.mark.parametrize(
    ("model", "joins", "why"),
    [
        (Centred(), "on", "answered otherwise"),
        (Dice(), "on", "answered otherwise"),
        (Centred(), "auto", "not known to predict row by row"),
        (make_pipeline(FunctionTransformer(centre), LinearRegression()).fit(NUMBERS, TARGET), "auto", "not known"),
    ],
)
def test_what_is_not_proven_stays_plain(tmp_path, model, joins, why):
    """A model that looks at all rows, throws dice or is not known; and one that was told not to."""
    found, scorer, _ = prove(tmp_path, model, joins=joins)

    assert found[:2] == ("plain", False)
    assert why in found.proof
    assert scorer._uses_arrays is False


def test_others_when_their_author_says_so(tmp_path):
    """The tag alone is not believed: the example's rows, joined, must give the same."""
    assert prove(tmp_path / "1", Doubled(), joins="on")[0] == ("plain+batch", True, "equal")
    assert "no input example" in prove(tmp_path / "2", Doubled(), joins="on", example=False)[0].proof


def test_without_acceleration(tmp_path):
    """Requests are joined all the same, and tables stay tables."""
    found, scorer, _ = prove(tmp_path, LinearRegression().fit(NUMBERS, TARGET), accelerates=False)

    assert found[:2] == ("plain+batch", True)
    assert scorer._uses_arrays is False


def test_without_joining(tmp_path):
    """Arrays are used all the same; with both off nothing is looked for."""
    model = LinearRegression().fit(NUMBERS, TARGET)

    assert prove(tmp_path / "1", model, joins="off")[0] == ("array", False, "batching is off")
    assert prove(tmp_path / "2", model, joins="off", accelerates=False)[0] == ("plain", False, "batching is off")


def test_rows_cover_the_trees(tmp_path):
    """Every threshold's neighbourhood may be met: rows lie on both sides of nearly all of them, and on some."""
    forest = RandomForestRegressor(5, random_state=0).fit(NUMBERS, TARGET)
    limits = samples.thresholds(forest)
    meta, (buffer,) = samples.draw(
        {"inputs": [{"name": name, "type": "double"} for name in NUMBERS]}, NUMBERS.head(3), forest, 1024
    )
    drawn = numpy.frombuffer(buffer).reshape(meta["rows"], 3)

    assert sorted(limits) == [0, 1, 2]
    assert drawn[:3].tolist() == NUMBERS.head(3).to_numpy().tolist()
    for at, found in limits.items():
        assert drawn[:, at].min() < min(found)
        assert drawn[:, at].max() > max(found)
        assert set(drawn[:, at]) & set(found)


def test_an_example_of_many_rows_gives_as_many_as_are_wanted():
    """The first of them, whatever else is drawn."""
    example = pandas.DataFrame({"a": numpy.arange(5000.0)})

    meta, (buffer,) = samples.draw({"inputs": [{"name": "a", "type": "double"}]}, example, LinearRegression(), 100)

    assert meta["rows"] == 100
    assert numpy.frombuffer(buffer).tolist() == list(range(100))


@pytest.mark.parametrize("example", [{"a": [1.0]}, "text", [1.0, 2.0], 5])
def test_an_example_that_is_no_table_is_left_out(tmp_path, example):
    """Whatever a model brings along, its proof is made on other rows or not at all, and it is served."""
    model = LinearRegression().fit(NUMBERS, TARGET)
    registry.save_model(tmp_path / "model", model, signature=registry.infer_signature(NUMBERS))
    loaded = loader.load(str(tmp_path / "model"), read_mlmodel(tmp_path / "model"))
    loaded.input_example = lambda: (example, None)
    scorer = tables.Scorer(loaded.signature, enforcement)
    prover = accelerate.Prover(loaded, loaded.input_example(), scorer, trees.Answerer(loaded), MODULES)

    *_, found = prover.steps("auto", True)

    assert found.path in ("plain", "array+batch")


@pytest.mark.parametrize("kind", ["long", "integer", "boolean", "float"])
def test_rows_have_the_signatures_types(kind):
    """Whole numbers within the type, and no example needed."""
    estimator = LinearRegression()
    drawn = samples.draw({"inputs": [{"name": "a", "type": kind}]}, None, estimator, 200)

    meta, (buffer,) = drawn
    assert meta["dtypes"] == [samples.DTYPES[kind]]
    assert len(set(numpy.frombuffer(buffer, samples.DTYPES[kind]).tolist())) > 1
