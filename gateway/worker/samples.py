"""Rows to prove a faster way on: like the input example, and over the ranges of the signature and of the trees.

The file stands alone and runs on Python 3.9; numpy is the model's own.
"""

import json
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

SEED = 0
MAX_THRESHOLDS = 10_000
DTYPES = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
    "string": "str",
}
FLOATS = ("float64", "float32")

Payload = Tuple[Dict[str, Any], List[bytes]]


def draw(signature: Dict[str, Any], example: Any, estimator: Any, count: int) -> Optional[Payload]:
    """A payload of *count* rows that the signature allows, the example's first; None where none can be made.

    *example* is a table or an array; *estimator* is None where only the example's own rows are to be used, again and
    again, because nobody knows what else the model takes.
    """
    import numpy

    inputs = signature.get("inputs") or []
    shown = None if example is None else _columns_of(example[:count], inputs)
    if not inputs or (estimator is None and shown is None):
        return None
    if inputs[0]["type"] == "tensor":
        spec = inputs[0]["tensor-spec"]
        if len(inputs) > 1 or inputs[0].get("name") or len(spec["shape"]) != 2 or spec["shape"][1] < 1:
            return None
        dtypes: Sequence[Optional[str]] = [spec["dtype"]] * spec["shape"][1]
    else:
        dtypes = [DTYPES.get(each["type"]) for each in inputs]
    drawer = _Drawer(numpy, thresholds(estimator))
    columns = []
    for at, dtype in enumerate(dtypes):
        column = drawer.column(at, dtype, None if shown is None else shown[at], count, estimator is None)
        if column is None:
            return None
        columns.append(column)
    return _payload(numpy, inputs, list(dtypes), columns, count)


class _Drawer:
    """Draws one column after another; the same rows every time."""

    def __init__(self, numpy: Any, limits: Dict[int, List[float]]) -> None:
        self._numpy = numpy
        self._random = numpy.random.RandomState(SEED)
        self._limits = limits

    def column(self, at: int, dtype: Optional[str], shown: Any, count: int, only_shown: bool) -> Any:
        numpy, random = self._numpy, self._random
        if dtype is None:
            return None
        if only_shown or dtype == "str":
            return None if shown is None else [shown[each % len(shown)] for each in range(count)]
        if dtype == "bool":
            values = random.rand(count) < 0.5
        else:
            values = self._numbers(at, shown, count)
            if dtype not in FLOATS:
                limits = numpy.iinfo(dtype)
                values = numpy.clip(numpy.rint(values), max(limits.min, -(2**53)), min(limits.max, 2**53))
        column = values.astype(dtype)
        if shown is not None:
            column[: len(shown)] = numpy.asarray(list(shown[:count])).astype(dtype)
        return column

    def _numbers(self, at: int, shown: Any, count: int) -> Any:
        """A quarter each: near the example, across the trees' range, at their very thresholds, of any size."""
        numpy, random = self._numpy, self._random
        known = self._limits.get(at) or ([float(each) for each in shown] if shown is not None else [0.0, 1.0])
        low, high = min(known), max(known)
        span = (high - low) or abs(high) or 1.0
        kinds = numpy.stack(
            [
                random.choice(known, count) * (1 + 0.1 * random.randn(count)),
                random.uniform(low - 0.1 * span, high + 0.1 * span, count),
                random.choice(known, count),
                random.randn(count) * 10.0 ** random.uniform(-3, 3, count),
            ]
        )
        return kinds[random.randint(0, len(kinds), count), numpy.arange(count)]


def thresholds(estimator: Any) -> Dict[int, List[float]]:
    """Where the trees of a scikit-learn ensemble branch, by feature; nothing for any other estimator."""
    found: Dict[int, List[float]] = {}
    for count, (feature, threshold) in enumerate(_branches(estimator)):
        if count >= MAX_THRESHOLDS:
            break
        found.setdefault(feature, []).append(threshold)
    return found


def _branches(estimator: Any) -> Iterator[Tuple[int, float]]:
    members = getattr(estimator, "estimators_", None)
    grown = [estimator] if members is None else _flat(members)
    for each in grown:
        tree = getattr(each, "tree_", None)
        if tree is not None:
            for feature, threshold in zip(tree.feature.tolist(), tree.threshold.tolist()):
                if feature >= 0 and abs(threshold) < float("inf"):  # a leaf has none, missing values an infinite one
                    yield feature, threshold


def _flat(members: Any) -> List[Any]:
    return list(members.ravel()) if hasattr(members, "ravel") else list(members)


def _columns_of(example: Any, inputs: List[Dict[str, Any]]) -> Optional[List[List[Any]]]:
    """The example's values by column, in the signature's order; None where it is no table of complete rows."""
    if not len(example):
        return None
    if hasattr(example, "columns"):
        names = [each.get("name") for each in inputs]
        ordered = example if None in names else example[names]
        if ordered.isna().any().any():
            return None
        return [ordered.iloc[:, at].tolist() for at in range(ordered.shape[1])]
    if getattr(example, "ndim", 0) == 2:
        return [example[:, at].tolist() for at in range(example.shape[1])]
    return None


def _payload(numpy: Any, inputs: List[Dict[str, Any]], dtypes: List[Any], columns: List[Any], count: int) -> Payload:
    one = dtypes[0] if len(set(dtypes)) == 1 and dtypes[0] != "str" else None
    if one is not None:
        values = numpy.stack([numpy.asarray(each, dtype=one) for each in columns], axis=1).tobytes()
        if inputs[0]["type"] == "tensor":
            return {"kind": "tensor", "dtype": one, "shape": [count, len(columns)]}, [values]
    names = [each.get("name") for each in inputs]
    meta: Dict[str, Any] = {
        "kind": "table",
        "columns": list(range(len(names))) if None in names else names,
        "dtypes": dtypes,
        "rows": count,
    }
    if one is not None:
        return dict(meta, packed=True), [values]
    return meta, [
        json.dumps(column).encode() if dtype == "str" else numpy.asarray(column, dtype=dtype).tobytes()
        for dtype, column in zip(dtypes, columns)
    ]
