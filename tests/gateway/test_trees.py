"""Tree ensembles answered by treelite: every bit of what the estimator gives, and the estimator's own errors."""

import sys

import hypothesis.strategies as st
import numpy
import pandas
import pytest
import treelite
import treelite.sklearn
from hypothesis import HealthCheck, given, settings
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from xgboost import XGBClassifier, XGBRegressor, XGBRFClassifier, XGBRFRegressor

import registry
from gateway.worker import accelerate, ensembles, parts, samples, tables, trees
from registry import read_mlmodel
from registry.models import enforcement, loader

# scikit-learn adds up a whole call to see whether there is an infinite number in it.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in (reduce|cast):RuntimeWarning")

MODULES = {"parts": parts, "samples": samples, "trees": trees, "ensembles": ensembles}
RANDOM = numpy.random.RandomState(7)
ROWS = RANDOM.rand(200, 4) * 10
HOLED = numpy.where(RANDOM.rand(*ROWS.shape) < 0.2, numpy.nan, ROWS)
NUMBER = ROWS @ [1.0, -2.0, 3.0, 0.0] + RANDOM.rand(200)
TWO = (NUMBER > 10).astype(int)
THREE = numpy.digitize(NUMBER, [5, 15])
WORDS = numpy.array(["low", "middling", "high"])[THREE]
TABLE = pandas.DataFrame(ROWS, columns=list("abcd"))
FAR = float(numpy.float32(1e30))
ONE_THREAD = {"n_jobs": 1}
QUIET = {"n_jobs": 1, "verbose": -1, "min_child_samples": 5}

NUMBERS = {
    "forest": RandomForestRegressor(20, random_state=0),
    "extra trees": ExtraTreesRegressor(20, random_state=0),
    "boosting": GradientBoostingRegressor(random_state=0),
    "boosting from zero": GradientBoostingRegressor(init="zero", random_state=0),
    "boosting stopped early": GradientBoostingRegressor(n_iter_no_change=1, random_state=0),
    "histograms": HistGradientBoostingRegressor(max_iter=20),
    "histograms, log link": HistGradientBoostingRegressor(loss="gamma", max_iter=20),
    "tree": DecisionTreeRegressor(random_state=0),
    "extra tree": ExtraTreeRegressor(random_state=0),
    "xgboost": XGBRegressor(n_estimators=20, **ONE_THREAD),
    "xgboost forest": XGBRFRegressor(n_estimators=20, **ONE_THREAD),
    "lightgbm": LGBMRegressor(n_estimators=20, **QUIET),
}
CLASSES = {
    "forest": RandomForestClassifier(20, min_samples_leaf=3, random_state=0),
    "extra trees": ExtraTreesClassifier(20, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=20, random_state=0),
    "histograms": HistGradientBoostingClassifier(max_iter=20),
    "tree": DecisionTreeClassifier(random_state=0),
    "extra tree": ExtraTreeClassifier(random_state=0),
    "xgboost": XGBClassifier(n_estimators=20, **ONE_THREAD),
    "xgboost forest": XGBRFClassifier(n_estimators=20, **ONE_THREAD),
    "lightgbm": LGBMClassifier(n_estimators=20, **QUIET),
}
CASES = [
    *(pytest.param(model, abs(NUMBER) + 1, id=f"{name}, number") for name, model in NUMBERS.items()),
    *(
        pytest.param(model, target, id=f"{name}, {len(set(target))} classes")
        for name, model in CLASSES.items()
        for target in (TWO, THREE)
    ),
    pytest.param(CLASSES["forest"], WORDS, id="forest, words"),
    pytest.param(CLASSES["histograms"], WORDS, id="histograms, words"),
    pytest.param(CLASSES["lightgbm"], WORDS, id="lightgbm, words"),
    pytest.param(NUMBERS["forest"], numpy.stack([NUMBER, -NUMBER], 1), id="forest, two numbers"),
    *(
        pytest.param(NUMBERS[each], numpy.stack([NUMBER, -NUMBER], 1), id=f"{each}, two numbers")
        for each in ("xgboost", "xgboost forest")
    ),
    pytest.param(CLASSES["forest"], numpy.stack([TWO, THREE], 1), id="forest, two classes each"),
    pytest.param(IsolationForest(n_estimators=20, random_state=0), None, id="isolation"),
    pytest.param(
        IsolationForest(n_estimators=20, max_features=0.5, random_state=0), None, id="isolation by some features"
    ),
]


class Silent:
    """In the place of an estimator: what treelite leaves to it fails."""

    n_features_in_ = 4

    def predict(self, data):
        raise AssertionError("this was left to the estimator")


SILENT = Silent()


def by_treelite(estimator, last=SILENT):
    return trees.Trees([], last, ensembles.read(estimator, treelite), treelite)


def near_thresholds(estimator):
    return trees._rows_near(ensembles.thresholds(ensembles.read(estimator, treelite).model), 4)


def is_same(one, other):
    return type(one) is type(other) and (one.dtype, one.shape, one.tolist()) == (
        other.dtype,
        other.shape,
        other.tolist(),
    )


def prove(tmp_path, estimator, data=TABLE, **options):
    """What is found last for the model as a replica loads it, the answerer that goes on with it, and the model."""
    signature = registry.infer_signature(data)
    registry.save_model(tmp_path / "model", estimator, signature=signature, input_example=data[:3], **options)
    model = loader.load(str(tmp_path / "model"), read_mlmodel(tmp_path / "model"))
    answerer = trees.Answerer(model)
    prover = accelerate.Prover(
        model, model.input_example(), tables.Scorer(model.signature, enforcement), answerer, MODULES
    )
    *_, found = (each for each in prover.steps("auto", True) if each is not None)
    return found, answerer, model


@pytest.mark.parametrize(("estimator", "target"), CASES)
def test_every_bit_near_the_thresholds(estimator, target):
    """Whatever the library and the answer's kind, calls of several sizes give the estimator's own answers."""
    estimator.fit(ROWS, target)
    quick = by_treelite(estimator)
    rows = near_thresholds(estimator)

    start = 0
    for size in (1, 1, 1, 2, 7, 64, 128, 300):
        some = rows[start : start + size]
        assert is_same(quick.predict(some), estimator.predict(some))
        start += size


@given(
    count=st.integers(1, 6),
    depth=st.one_of(st.none(), st.integers(1, 4)),
    seed=st.integers(0, 1000),
    kind=st.sampled_from([RandomForestRegressor, ExtraTreesRegressor, RandomForestClassifier, ExtraTreesClassifier]),
    target=st.sampled_from([TWO, THREE, numpy.arange(200) % 7]),
    dtype=st.sampled_from(["float64", "float32", "int64"]),
    data=st.data(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_bit_of_any_forest(count, depth, seed, kind, target, dtype, data):
    """Forests, rows and their types as they come; thresholds are drawn more often than other numbers."""
    estimator = kind(count, max_depth=depth, random_state=seed).fit(ROWS.round(data.draw(st.integers(0, 3))), target)
    limits = sorted({each for found in samples.thresholds(estimator).values() for each in found}) or [0.0]
    number = st.one_of(st.sampled_from(limits), st.floats(-FAR, FAR, width=32), st.floats(-1, 11))
    rows = numpy.array(data.draw(st.lists(st.lists(number, min_size=4, max_size=4), min_size=1, max_size=9)))
    rows = rows.clip(-(2**53), 2**53).astype(dtype) if dtype == "int64" else rows.astype(dtype)

    assert is_same(by_treelite(estimator).predict(rows), estimator.predict(rows))


@pytest.mark.parametrize(
    "data",
    [
        numpy.array([[1.0, 2.0, numpy.nan, 4.0]]),
        numpy.array([[1.0, 2.0, numpy.inf, 4.0]]),
        numpy.array([[1.0, 2.0, 1e300, 4.0]]),
        numpy.array([[1.0, 2.0, 3.0]]),
        numpy.array([1.0, 2.0, 3.0, 4.0]),
        numpy.array([["1", "2", "3", "x"]]),
        numpy.zeros((0, 4)),
    ],
    ids=["missing", "infinite", "too large", "three columns", "no rows", "texts", "empty"],
)
def test_errors_are_the_estimators_own(data):
    """What scikit-learn refuses is refused in its words."""
    estimator = GradientBoostingRegressor(n_estimators=5).fit(ROWS, NUMBER)
    with pytest.raises(ValueError) as expected:
        estimator.predict(data)

    with pytest.raises(ValueError) as found:
        by_treelite(estimator, estimator).predict(data)

    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "estimator",
    [NUMBERS[each] for each in ("forest", "histograms", "xgboost", "lightgbm")],
    ids=["forest", "histograms", "xgboost", "lightgbm"],
)
def test_missing_values(tmp_path, estimator):
    """Where the estimator learnt what to do with them, they are answered as quickly, and alike."""
    estimator.fit(pandas.DataFrame(HOLED, columns=list("abcd")), abs(NUMBER))
    found, answerer, _ = prove(tmp_path, estimator)

    assert found.path.startswith("treelite:")
    assert answerer._trees.takes_missing
    assert is_same(answerer.predict(HOLED[:2]), estimator.predict(HOLED[:2]))


def test_what_is_zero_to_lightgbm():
    """It takes the tiniest numbers for 0, and branches beside them."""
    estimator = LGBMRegressor(n_estimators=20, **QUIET).fit((ROWS - 5).round(), NUMBER)
    tiny = ensembles.LIGHTGBM_ZERO * numpy.array([[-1.0], [1.0], [0.5], [-1.1], [1.1]]) * numpy.ones(4)

    assert is_same(by_treelite(estimator).predict(tiny), estimator.predict(tiny))


def test_found_and_used_for_small_calls_only(tmp_path):
    """The path names the most rows; more go the plain way, and params too."""
    estimator = RandomForestRegressor(20, random_state=0).fit(TABLE, NUMBER)
    found, answerer, model = prove(tmp_path, estimator)
    first, _, rest = found.path.partition("+")

    assert first.startswith("treelite:")
    assert int(first.removeprefix("treelite:")) == answerer._most_rows in trees.SIZES
    assert rest == "array+batch"
    assert found.proof.startswith("equal; trees equal on ")
    for count in (1, 2, 200):
        assert is_same(answerer.predict(ROWS[:count]), model.predict(ROWS[:count]))


@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (RandomForestClassifier(20, random_state=0), WORDS),
        (GradientBoostingClassifier(n_estimators=10), TWO),
        (GradientBoostingClassifier(n_estimators=10), THREE),
        (HistGradientBoostingClassifier(max_iter=10), TWO),
        (make_pipeline(StandardScaler(), ExtraTreesClassifier(20, random_state=0)), THREE),
    ],
    ids=["forest", "boosting, 2", "boosting, 3", "histograms", "pipeline"],
)
def test_probabilities(tmp_path, estimator, target):
    """A model saved with `predict_fn="predict_proba"` answers them to the last bit, too."""
    found, answerer, model = prove(tmp_path, estimator.fit(TABLE, target), predict_fn="predict_proba")

    assert found.path.startswith("treelite:")
    assert is_same(answerer.predict(ROWS[:3]), model.predict(ROWS[:3]))
    assert is_same(model.predict(ROWS[:3]), estimator.predict_proba(ROWS[:3]))


@pytest.mark.parametrize(
    ("estimator", "function"),
    [
        (GradientBoostingClassifier(n_estimators=5), "decision_function"),
        (XGBClassifier(n_estimators=5, **ONE_THREAD), "predict_proba"),
    ],
    ids=["scores", "xgboost"],
)
def test_other_functions_are_left_to_the_estimator(tmp_path, estimator, function):
    """What is not known to be made of the sums bit by bit is not tried."""
    found, _, _ = prove(tmp_path, estimator.fit(TABLE, TWO), predict_fn=function)

    assert f"trees not used: how they answer {function} is not known" in found.proof


def test_a_tensor_for_a_signature(tmp_path):
    """A model of arrays needs no table to begin with."""
    found, answerer, model = prove(tmp_path, RandomForestRegressor(20, random_state=0).fit(ROWS, NUMBER), ROWS)

    assert found.path.startswith("treelite:")
    assert found.path.endswith("+plain+batch")
    assert is_same(answerer.predict(ROWS[:2]), model.predict(ROWS[:2]))


def test_the_last_step_of_a_pipeline(tmp_path):
    """The steps before it run as they are, and so do their errors."""
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)).fit(TABLE, WORDS)
    found, answerer, model = prove(tmp_path, pipeline)

    assert found.path.startswith("treelite:")
    assert is_same(answerer.predict(ROWS[:2]), model.predict(ROWS[:2]))
    with pytest.raises(ValueError, match="StandardScaler is expecting 4 features"):
        answerer.predict(ROWS[:2, :3])


def test_a_pipeline_that_needs_names(tmp_path):
    """The table stays a table up to the trees, which get an array."""
    columns = ColumnTransformer([("scaled", StandardScaler(), ["a", "b"])], remainder="passthrough")
    pipeline = make_pipeline(columns, RandomForestRegressor(200, random_state=0)).fit(TABLE, NUMBER)
    found, answerer, model = prove(tmp_path, pipeline)

    assert found.path.startswith("treelite:")
    assert found.path.endswith("+plain+batch")
    assert is_same(answerer.predict(TABLE.head(2)), model.predict(TABLE.head(2)))


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (RandomForestRegressor(5, n_jobs=2), "save the model with n_jobs=1"),
        (GradientBoostingRegressor(init=LinearRegression(), n_estimators=5), "first estimate is a model of its own"),
        (HistGradientBoostingRegressor(max_iter=5, categorical_features=[3]), "categorical features"),
        (XGBRegressor(n_estimators=5, booster="dart", rate_drop=0.5, **ONE_THREAD), "other answers"),
        (XGBRegressor(n_estimators=5, objective="count:poisson", **ONE_THREAD), "other answers"),
        (XGBRegressor(n_estimators=5, missing=0.0, **ONE_THREAD), "takes 0.0 for a missing value"),
        (make_pipeline(StandardScaler().set_output(transform="pandas"), RandomForestRegressor(5)), "get a DataFrame"),
        (RandomForestRegressor(20, random_state=0), "nodes, of at most"),
    ],
    ids=["threads", "init", "categories", "dart", "poisson", "missing", "table", "large"],
)
def test_what_is_not_proven_is_not_used(tmp_path, monkeypatch, estimator, why):
    """`proof` says why, and the ways that were proven before stay."""
    monkeypatch.setattr(ensembles, "MAX_NODES", 3000)
    data = TABLE.assign(d=(TABLE["d"] > 5).astype(float))
    found, answerer, _ = prove(tmp_path, estimator.fit(data, abs(NUMBER)), data)

    assert "treelite:" not in found.path
    assert "; trees not used: " in found.proof
    assert why in found.proof
    assert answerer._trees is None


def test_without_treelite(tmp_path, monkeypatch):
    """Everything is as before, and `proof` names the extra that would help."""
    monkeypatch.setitem(sys.modules, "treelite", None)
    found, _, _ = prove(tmp_path, RandomForestRegressor(5, random_state=0).fit(TABLE, NUMBER))

    assert found == ("array+batch", True, f"equal; {trees.HINT}")


def test_scores_too_near_to_call_are_left_to_the_estimator():
    """Two classes are told apart by the sign of a sum that a library rounds before it looks: 0 is not for us."""
    labels = ensembles._labels(numpy.array(["no", "yes"]))

    assert labels(numpy.array([[1e-12], [1.0]])) is None
    assert labels(numpy.array([[1.0, 1.0 + 1e-12, 0.0]])) is None
    assert labels(numpy.array([[-1.0], [1.0]])).tolist() == ["no", "yes"]
