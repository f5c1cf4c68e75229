"""Faster ways to the same answers, each used only once it is proven: requests joined, arrays for tables, trees.

A proof compares answers on the input example's rows and on others like them, in steps of about a request each. The
file stands alone and runs on Python 3.9; numpy and pandas are the model's own.
"""

import itertools
import sys
import time
import warnings
from types import ModuleType
from typing import Any, Callable, Dict, Generator, Iterator, List, NamedTuple, Optional, Tuple

JOINED_ROWS = 16
ARRAY_ROWS = 1_098
FIRST_CHUNKS = (1, 2, 7, 64)
CHUNK_ROWS = 128  # of those that follow: no step is to hold up a request for long
QUICK_S = 0.002  # a model that took no longer for both ways of the last of the first gets all others at once
CLOSE = 1e-9
LIBRARIES = ("sklearn", "xgboost", "lightgbm")


class Proven(NamedTuple):
    """What was found: the name of the way, whether requests may be joined, and in words why, or why not."""

    path: str
    joins: bool
    proof: str


class Differs(Exception):
    """Two ways gave two answers; the message says where."""


class Prover:
    """Proves ways for one model; `steps` is to be run to its end, and each step takes about as long as a request."""

    def __init__(self, model: Any, example: Any, scorer: Any, answerer: Any, modules: Dict[str, ModuleType]) -> None:
        """*example* is the model's input example, (data, params) or None."""
        self._model = model
        self._example = example
        self._scorer = scorer
        self._answerer = answerer
        self._parts = modules["parts"]
        self._samples = modules["samples"]
        self._trees = modules["trees"]
        self._ensembles = modules["ensembles"]

    def steps(self, joins: str, accelerates: bool) -> Iterator[Optional[Proven]]:
        """None after each step, or what is found by then: once, and once more where there are trees to try.

        *joins* is `auto`, `on` or `off`; the scorer and the answerer go the way that was found from then on.
        """
        estimator = row_wise(self._model)
        may_join = joins == "on" or (joins == "auto" and estimator is not None)
        may_take_arrays = accelerates and estimator is not None
        if not (may_join or may_take_arrays):
            why = "batching is off" if joins == "off" else "not known to predict row by row"
            yield Proven("plain", False, why)
            return
        sample = self._sample(estimator)
        if sample is None:
            yield Proven("plain", False, "no rows to prove it on: the model has no input example that fits")
            return
        is_array, arrays = (yield from self._arrays(sample)) if may_take_arrays else (False, "")
        is_joined, joining = (yield from self._joined(sample)) if may_join else (False, "batching is off")
        path = ("array" if is_array else "plain") + ("+batch" if is_joined else "")
        proof = f"{joining}; {arrays}" if arrays else joining
        if not (accelerates and estimator is not None and self._has_trees(estimator)):
            yield Proven(path, is_joined, proof)
            return
        yield Proven(path, is_joined, f"{proof}; trees are being tried")
        found = yield from self._trees.prove(self._model, self._ensembles, self._reader(sample), ARRAY_ROWS)
        if found.way is not None:
            self._answerer.use(found.way, found.most_rows)
            path = f"treelite:{found.most_rows}+{path}"
        yield Proven(path, is_joined, f"{proof}; {found.proof}")

    def _has_trees(self, estimator: Any) -> bool:
        _, last = self._trees.last_of(estimator)
        return bool(self._ensembles.is_ensemble(last))

    def _reader(self, sample: Any) -> Callable[[int, int], Any]:
        return lambda start, stop: self._scorer.read(*self._parts.part(*sample, start, stop)).data

    def _joined(self, sample: Any) -> Generator[None, None, Tuple[bool, str]]:
        exact = True
        try:
            for is_equal in self._join(*sample):
                exact = exact and is_equal
                yield
        except Differs as found:
            return False, f"joined requests would be answered otherwise: {found}"
        return True, "equal" if exact else f"equal within {CLOSE:g}"

    def _arrays(self, sample: Any) -> Generator[None, None, Tuple[bool, str]]:
        if not self._scorer.takes_arrays(*sample):
            return False, ""
        try:
            yield from self._array(*sample)
        except Differs as found:
            return False, f"arrays differ: {found}"
        self._scorer.use_arrays()
        return True, ""

    def _sample(self, estimator: Any) -> Any:
        data = None if self._example is None else self._example[0]
        try:
            return self._samples.draw(self._model.signature or {}, data, estimator, ARRAY_ROWS)
        except Exception as problem:
            print(f"no rows to prove a faster way on: {problem}", file=sys.stderr)
            return None

    def _join(self, meta: Dict[str, Any], buffers: List[Any]) -> Iterator[bool]:
        """Each row alone against all of them as one call; says of each whether it is equal to the last bit."""
        whole = self._predict(*self._parts.part(meta, buffers, 0, JOINED_ROWS))
        yield True
        for at in range(JOINED_ROWS):
            alone = self._predict(*self._parts.part(meta, buffers, at, at + 1))
            yield _compare(rows_of(whole, at, at + 1), alone, f"row {at}")

    def _array(self, meta: Dict[str, Any], buffers: List[Any]) -> Iterator[None]:
        """The same rows as the same calls, once as a table and once as an array, equal to the last bit."""
        edges = [0, *itertools.accumulate(FIRST_CHUNKS)]
        took_s = QUICK_S
        for start, stop in zip(edges, edges[1:]):  # noqa: RUF007  # `pairwise` came after Python 3.9
            begun_s = time.monotonic()
            self._compare_ways(meta, buffers, start, stop)
            took_s = time.monotonic() - begun_s
            yield
        size = ARRAY_ROWS if took_s < QUICK_S else CHUNK_ROWS
        for start in range(edges[-1], ARRAY_ROWS, size):
            self._compare_ways(meta, buffers, start, min(start + size, ARRAY_ROWS))
            yield

    def _compare_ways(self, meta: Dict[str, Any], buffers: List[Any], start: int, stop: int) -> None:
        """Some rows as one call, once as a table and once as an array. Raises `Differs`."""
        rows = self._parts.part(meta, buffers, start, stop)
        table = self._predict(*rows)
        array = self._call(self._scorer.array(*rows), None)
        if not _compare(table, array, f"rows {start} to {stop}"):
            raise Differs(f"rows {start} to {stop} in the last bits")

    def _predict(self, meta: Dict[str, Any], buffers: List[Any]) -> Any:
        request = self._scorer.read(meta, buffers)
        return self._call(request.data, request.params)

    def _call(self, data: Any, params: Optional[Dict[str, Any]]) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # nobody asked for these rows
                return self._model.predict(data, params)
        except MemoryError:
            raise
        except Exception as problem:
            raise Differs(f"{type(problem).__name__} on rows that the signature allows") from None


def row_wise(model: Any) -> Any:
    """The estimator, when it is a library's own through and through and so predicts row by row; else None.

    A function or a class of somebody else inside of it could look at all rows at once.
    """
    estimator = model.unwrap()
    if not _is_known(estimator):
        return None
    try:
        inner = estimator.get_params(deep=True).values()
    except Exception:
        return None
    return estimator if all(_is_harmless(each) for each in inner) else None


def _is_known(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in LIBRARIES


def _is_harmless(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_harmless(each) for each in value)
    if isinstance(value, dict):
        return all(_is_harmless(each) for each in value.values())
    if callable(value) and not isinstance(value, type):
        return _is_known(value) or type(value).__name__ == "ufunc"  # numpy's, which work value by value
    return (not hasattr(value, "predict") and not hasattr(value, "transform")) or _is_known(value)


def rows_of(output: Any, start: int, stop: int) -> Any:
    """Some rows of what a model answered. Raises `Differs` for an answer that has none."""
    if hasattr(output, "iloc"):
        return output.iloc[start:stop]
    if isinstance(output, list) or getattr(output, "ndim", None):
        return output[start:stop]
    raise Differs(f"the model answers a {type(output).__name__}, which has no rows")


def count_of(output: Any) -> int:
    """How many rows an answer has, -1 for none at all."""
    if hasattr(output, "iloc") or isinstance(output, list) or getattr(output, "ndim", None):
        return len(output)
    return -1


def _compare(one: Any, other: Any, where: str) -> bool:
    """Whether they are equal to the last bit. Raises `Differs` where they are not even close, or not alike."""
    import numpy

    if type(one) is not type(other):
        raise Differs(f"{where}: {type(one).__name__} and {type(other).__name__}")
    first, second = numpy.asarray(one), numpy.asarray(other)
    if first.shape != second.shape or first.dtype != second.dtype:
        raise Differs(f"{where}: {first.dtype} {first.shape} and {second.dtype} {second.shape}")
    if first.dtype.kind != "f":
        if not bool(numpy.all(first == second)):
            raise Differs(where)
        return True
    if first.tobytes() == second.tobytes():
        return True
    with numpy.errstate(invalid="ignore"):
        apart = numpy.abs(first - second) > CLOSE * numpy.maximum(numpy.abs(first), numpy.abs(second))
    if bool(numpy.any(apart)) or not numpy.array_equal(numpy.isnan(first), numpy.isnan(second)):
        raise Differs(where)
    return False
