"""What a tree ensemble's answer is made of: its trees, the values of their leaves, and how their sum becomes an answer.

The values, and the order in which they are added, are the library's own, so that a sum has every bit of the original.
The file stands alone and runs on Python 3.9; the libraries are the model's own.
"""

import contextlib
import json
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

MAX_NODES = 500_000  # treelite keeps a copy of each, in every replica
LIGHTGBM_ZERO = 1.0000000180025095e-35  # 1e-35 in 32 bits, its kZeroThreshold
CATEGORIES = 2  # treelite's mark of a node that looks a category up
# Two scores nearer than this could become equal, or change places, on their way through a library's exponentials.
NEAR = {"float64": 1e-9, "float32": 1e-4}


class Unsuitable(Exception):
    """Why an ensemble cannot be answered for, as a phrase."""


class Ensemble(NamedTuple):
    """One fitted ensemble, taken apart.

    Of what the trees of *model* say, *terms* makes what is to be added: rows by terms by sums. Of the sums *score*
    makes what the estimator's own *margins* gives, where it has any; of the scores *finish* makes the answer of
    `predict`, or None where that is too near to call, and *shares* that of `predict_proba`, where it is known.
    """

    model: Any  # treelite's
    terms: Callable[[Any], Any]
    dtype: str  # to which the estimator rounds its rows, before it compares them with a threshold
    kinds: str  # of numpy's numbers in such rows
    score: Callable[[Any], Any]
    finish: Callable[[Any], Any]
    margins: Optional[Callable[[Any], Any]] = None
    shares: Optional[Callable[[Any], Any]] = None
    zero: float = 0.0  # what is not farther from 0 is 0 to the estimator


def is_ensemble(estimator: Any) -> bool:
    """Whether `read` knows such estimators."""
    return _kind(estimator) in READERS


def read(estimator: Any, treelite: Any) -> Ensemble:
    """Take a fitted estimator apart; *treelite* is the library. Raises `Unsuitable`."""
    try:
        ensemble = READERS[_kind(estimator)](estimator, treelite)
    except (AttributeError, KeyError, ImportError) as problem:  # another version of the library
        raise Unsuitable(f"this version of {_kind(estimator)[0]} keeps its trees otherwise ({problem})") from None
    return ensemble


def thresholds(model: Any) -> Dict[int, Any]:
    """By feature, where the trees of *model* branch. Raises `Unsuitable` for trees that ask for more than that."""
    import numpy

    features, limits = [], []
    for at in range(model.num_tree):
        tree = model.get_tree_accessor(at)
        kinds = tree.get_field("node_type")
        if (kinds == CATEGORIES).any():
            raise Unsuitable("it has categorical features")
        features.append(tree.get_field("split_index")[kinds != 0])
        limits.append(tree.get_field("threshold")[kinds != 0].astype("float64"))
    feature = numpy.concatenate(features)
    order = numpy.argsort(feature, kind="stable")
    found, starts = numpy.unique(feature[order], return_index=True)
    own = numpy.split(numpy.concatenate(limits)[order], starts[1:])
    return {int(each): numpy.unique(limit) for each, limit in zip(found, own)}


def _kind(estimator: Any) -> Tuple[str, str]:
    return type(estimator).__module__.partition(".")[0], type(estimator).__name__


def _bounded(count: int) -> None:
    if count > MAX_NODES:
        raise Unsuitable(f"it has {count} nodes, of at most {MAX_NODES}")


# scikit-learn: treelite gets every tree with the numbers of its nodes in the place of their values.


def _forest(estimator: Any, treelite: Any) -> Ensemble:
    import joblib

    if joblib.effective_n_jobs(estimator.n_jobs) > 1:
        raise Unsuitable(f"with n_jobs={estimator.n_jobs} they are added in any order; save the model with n_jobs=1")
    return _mean(estimator, estimator.estimators_, treelite)


def _tree(estimator: Any, treelite: Any) -> Ensemble:
    return _mean(estimator, [estimator], treelite)


def _mean(estimator: Any, members: Sequence[Any], treelite: Any) -> Ensemble:
    import numpy

    trees = [each.tree_ for each in members]
    _bounded(sum(each.node_count for each in trees))
    values = numpy.concatenate([each.value.reshape(each.node_count, -1) for each in trees])
    is_classifier = hasattr(estimator, "classes_")
    has_shares = is_classifier and estimator.n_outputs_ == 1
    return _of_trees(
        estimator,
        treelite,
        [_as_forest(each) for each in trees],
        values,
        numpy.zeros((1, values.shape[1])),
        score=lambda sums: sums / len(trees),
        finish=_likeliest(estimator, values.shape[1]) if is_classifier else _squeezed,
        margins=estimator.predict_proba if has_shares else None,
        shares=_itself if has_shares else None,
    )


def _likeliest(estimator: Any, width: int) -> Callable[[Any], Any]:
    """The likeliest class of every output, whose shares lie side by side."""
    import numpy

    if estimator.n_outputs_ == 1:
        return lambda shares: estimator.classes_.take(numpy.argmax(shares, axis=1), axis=0)
    each_width = width // estimator.n_outputs_

    def labels(shares: Any) -> Any:
        answer = numpy.empty((len(shares), estimator.n_outputs_), dtype=estimator.classes_[0].dtype)
        for at, classes in enumerate(estimator.classes_):
            own = shares[:, at * each_width : at * each_width + len(classes)]
            answer[:, at] = classes.take(numpy.argmax(own, axis=1), axis=0)
        return answer

    return labels


def _boosting(estimator: Any, treelite: Any) -> Ensemble:
    import numpy

    first = estimator.init_
    if first != "zero" and type(first).__name__ not in ("DummyRegressor", "DummyClassifier"):
        raise Unsuitable("its first estimate is a model of its own")
    trees = [each.tree_ for each in estimator.estimators_.ravel()]
    _bounded(sum(each.node_count for each in trees))
    return _of_trees(
        estimator,
        treelite,
        [_as_forest(each) for each in trees],
        numpy.concatenate([estimator.learning_rate * each.value[:, 0, 0] for each in trees]),
        estimator._raw_predict_init(numpy.zeros((1, estimator.n_features_in_), dtype="float32")).ravel(),
        **_labels_or(estimator, _squeezed),
    )


def _histograms(estimator: Any, treelite: Any) -> Ensemble:
    import numpy

    if estimator.is_categorical_ is not None:
        raise Unsuitable("it has categorical features")
    trees = [each.nodes for stage in estimator._predictors for each in stage]
    _bounded(sum(len(each) for each in trees))
    return _of_trees(
        estimator,
        treelite,
        [_as_histograms(each) for each in trees],
        numpy.concatenate([each["value"] for each in trees]),
        numpy.ravel(estimator._baseline_prediction),
        dtype="float64",
        **_labels_or(estimator, lambda sums: estimator._loss.link.inverse(sums.ravel())),
    )


def _isolation(estimator: Any, treelite: Any) -> Ensemble:
    import numpy
    from sklearn.ensemble._iforest import _average_path_length

    trees = [each.tree_ for each in estimator.estimators_]
    _bounded(sum(each.node_count for each in trees))
    lengths = zip(estimator._decision_path_lengths, estimator._average_path_length_per_tree)
    longest = len(trees) * _average_path_length([estimator._max_samples])

    def decision(sums: Any) -> Any:
        depths = sums[:, 0]
        shares = numpy.divide(depths, longest, out=numpy.ones_like(depths), where=longest != 0)
        return -(2**-shares) - estimator.offset_

    return _of_trees(
        estimator,
        treelite,
        [_as_forest(tree, chosen) for tree, chosen in zip(trees, estimator.estimators_features_)],
        numpy.concatenate([path + rest - 1.0 for path, rest in lengths]),
        numpy.zeros(1),
        score=decision,
        finish=lambda scores: numpy.where(scores < 0, -1, 1),
        margins=estimator.decision_function,
    )


def _of_trees(
    estimator: Any,
    treelite: Any,
    trees: List[Dict[str, Any]],
    values: Any,
    start: Any,
    finish: Callable[[Any], Any],
    score: Optional[Callable[[Any], Any]] = None,
    margins: Optional[Callable[[Any], Any]] = None,
    shares: Optional[Callable[[Any], Any]] = None,
    dtype: str = "float32",
) -> Ensemble:
    model = _numbered(treelite, trees, estimator.n_features_in_, len(start))
    return Ensemble(model, _by_number(start, values), dtype, "fiub", score or _itself, finish, margins, shares)


def _by_number(start: Any, values: Any) -> Callable[[Any], Any]:
    """The terms of trees that say the numbers of leaves, of which the first are those of the start."""
    import numpy

    table, first = numpy.concatenate([start, values]), numpy.arange(len(start))
    width = len(start) if table.ndim == 1 else table.shape[1]

    def terms(said: Any) -> Any:
        numbers = numpy.empty((len(said), len(first) + said.shape[1]), dtype="intp")
        numbers[:, : len(first)] = first
        numbers[:, len(first) :] = said
        return table[numbers].reshape(len(said), -1, width)

    return terms


def _as_forest(tree: Any, chosen: Any = None) -> Dict[str, Any]:
    import numpy

    feature = tree.feature
    if chosen is not None:  # this tree was shown some of the features, and counts only those
        feature = numpy.where(feature < 0, feature, numpy.asarray(chosen)[numpy.maximum(feature, 0)])
    return {
        "children_left": tree.children_left,
        "children_right": tree.children_right,
        "feature": feature,
        "threshold": tree.threshold,
        "missing_go_to_left": tree.missing_go_to_left,
    }


def _as_histograms(nodes: Any) -> Dict[str, Any]:
    import numpy

    is_leaf = nodes["is_leaf"] != 0
    return {
        "children_left": numpy.where(is_leaf, -1, nodes["left"].astype("int64")),
        "children_right": numpy.where(is_leaf, -1, nodes["right"].astype("int64")),
        "feature": numpy.where(is_leaf, -2, nodes["feature_idx"].astype("int64")),
        "threshold": nodes["num_threshold"],
        "missing_go_to_left": nodes["missing_go_to_left"],
    }


def _numbered(treelite: Any, trees: List[Dict[str, Any]], features: int, first: int) -> Any:
    """treelite's model of a forest of these trees, whose leaves have their numbers, from *first* on, for values."""
    import numpy
    from sklearn.ensemble import RandomForestRegressor

    members, number = [], first
    for tree in trees:
        count = len(tree["feature"])
        numbers = numpy.arange(number, number + count, dtype="float64").reshape(count, 1, 1)
        of_no_use = {"n_node_samples": "int64", "weighted_n_node_samples": "float64", "impurity": "float64"}
        fields = {name: numpy.asarray(tree[name], dtype=dtype) for name, dtype in FIELDS.items()}
        fields.update((name, numpy.zeros(count, dtype=dtype)) for name, dtype in of_no_use.items())
        members.append(SimpleNamespace(tree_=SimpleNamespace(node_count=count, value=numbers, **fields)))
        number += count
    forest = RandomForestRegressor.__new__(RandomForestRegressor)
    forest.estimators_, forest.n_estimators = members, len(members)
    forest.n_features_in_, forest.n_outputs_ = features, 1
    return treelite.sklearn.import_model(forest)


FIELDS = {
    "children_left": "int64",
    "children_right": "int64",
    "feature": "int64",
    "threshold": "float64",
    "missing_go_to_left": "uint8",
}


# XGBoost and LightGBM: treelite reads their own models, and its trees say the values of their leaves.


def _xgboost(estimator: Any, treelite: Any) -> Ensemble:
    import numpy

    if estimator.missing == estimator.missing and estimator.missing is not None:
        raise Unsuitable(f"it takes {estimator.missing} for a missing value")
    booster = estimator.get_booster()
    with contextlib.suppress(AttributeError):  # it was not stopped early
        booster = booster[: estimator.best_iteration + 1]
    model = treelite.frontend.from_xgboost(booster)
    start = numpy.asarray(_header(model, "base_scores"), dtype="float32")
    if not hasattr(estimator, "classes_"):
        return _valued(model, start, "fiub", _squeezed)
    _only(estimator.objective, ("binary:logistic", "multi:softprob"))
    if estimator.objective == "binary:logistic":
        start = _log_odds(booster)
    return _valued(model, start, "fiub", _labels(None), lambda rows: estimator.predict(rows, output_margin=True))


def _log_odds(booster: Any) -> Any:
    """The first score of two classes, by the same steps in 32 bits as XGBoost's own."""
    import numpy

    text = json.loads(booster.save_config())["learner"]["learner_model_param"]["base_score"]
    shares = numpy.array(text.strip("[]").split(","), dtype="float32")
    if len(shares) > 1:
        raise Unsuitable("it chooses several labels for a row")
    # The C library takes the logarithm of 32 bits by way of 64, numpy does not.
    return -numpy.log((1 / shares - 1).astype("float64")).astype("float32")


def _lightgbm(estimator: Any, treelite: Any) -> Ensemble:
    model = treelite.frontend.from_lightgbm(estimator.booster_)
    finish: Callable[[Any], Any] = _squeezed
    margins: Optional[Callable[[Any], Any]] = None
    if hasattr(estimator, "classes_"):
        _only(estimator.objective_, ("binary", "multiclass"))
        finish, margins = _labels(estimator.classes_), lambda rows: estimator.predict(rows, raw_score=True)
    # It rounds whole numbers to 32 bits in an array, and not in a table: only other numbers are for treelite.
    return _valued(model, _header(model, "base_scores"), "f", finish, margins)._replace(zero=LIGHTGBM_ZERO)


def _only(objective: Any, known: Sequence[str]) -> None:
    if objective not in known:
        raise Unsuitable(f"how the objective {objective!r} chooses a class is not known")


def _header(model: Any, field: str) -> Any:
    return model.get_header_accessor().get_field(field)


def _valued(model: Any, start: Any, kinds: str, finish: Callable[[Any], Any], margins: Any = None) -> Ensemble:
    import numpy

    _bounded(sum(int(model.get_tree_accessor(at).get_field("num_nodes")[0]) for at in range(model.num_tree)))
    sums = numpy.maximum(_header(model, "class_id"), _header(model, "target_id"))  # to which each tree adds
    order = numpy.argsort(sums, kind="stable").reshape(len(start), -1).T.ravel() if sums.max() > 0 else slice(None)
    return Ensemble(model, _by_value(start, order), start.dtype.name, kinds, _itself, finish, margins)


def _by_value(start: Any, order: Any) -> Callable[[Any], Any]:
    """The terms of trees that say values, which in this order take turns in adding to the sums."""
    import numpy

    def terms(said: Any) -> Any:
        values = numpy.empty((len(said), len(start) + said.shape[1]), dtype=start.dtype)
        values[:, : len(start)] = start
        values[:, len(start) :] = said[:, order]
        return values.reshape(len(said), -1, len(start))

    return terms


# What a sum becomes


def _itself(sums: Any) -> Any:
    return sums


def _squeezed(sums: Any) -> Any:
    return sums[:, 0] if sums.shape[1] == 1 else sums


def _labels_or(estimator: Any, number: Callable[[Any], Any]) -> Dict[str, Any]:
    if not hasattr(estimator, "classes_"):
        return {"finish": number}
    return {
        "finish": _labels(estimator.classes_),
        "margins": estimator.decision_function,
        "shares": getattr(getattr(estimator, "_loss", None), "predict_proba", None),
    }


def _labels(classes: Any) -> Callable[[Any], Any]:
    """The class of the highest sum, or of two by the sign of one; without *classes* its number."""
    import numpy

    def labels(sums: Any) -> Any:
        if sums.shape[1] == 1:
            apart, number = numpy.abs(sums), (sums[:, 0] > 0).astype(int)
        else:
            second, highest = numpy.partition(sums, -2, axis=1)[:, -2:].T
            apart, number = highest - second, numpy.argmax(sums, axis=1)
        if apart.min() <= NEAR[sums.dtype.name]:
            return None
        return number if classes is None else classes[number]

    return labels


TASKS = ("Regressor", "Classifier")
READERS: Dict[Tuple[str, str], Callable[[Any, Any], Ensemble]] = {
    **{("sklearn", kind + task): _forest for kind in ("RandomForest", "ExtraTrees") for task in TASKS},
    **{("sklearn", kind + task): _tree for kind in ("DecisionTree", "ExtraTree") for task in TASKS},
    **{("sklearn", "GradientBoosting" + task): _boosting for task in TASKS},
    **{("sklearn", "HistGradientBoosting" + task): _histograms for task in TASKS},
    ("sklearn", "IsolationForest"): _isolation,
    **{("xgboost", kind + task): _xgboost for kind in ("XGB", "XGBRF") for task in TASKS},
    **{("lightgbm", "LGBM" + task): _lightgbm for task in TASKS},
}
