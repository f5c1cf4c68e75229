"""Small calls of tree ensembles by treelite, which finds a row's leaves without the overhead of the estimator.

It only says which leaf of each tree a row falls into; everything else is the estimator's own (`ensembles.py`),
and so is every answer to a row that this way is not proven for. The file stands alone and runs on Python 3.9.
"""

import importlib
import threading
import time
import traceback
import warnings
from types import ModuleType
from typing import Any, Callable, Dict, Generator, List, NamedTuple, Optional, Tuple

HINT = "treelite, which may answer small calls of its trees faster, is not installed here: the extra `accelerate`"
SIZES = (1, 4, 16, 64, 256)  # so far apart that two measurements mostly agree
ROUNDS = 5
GAIN = 1.1  # so much faster a way must be, or it is not worth its memory
LONGEST_S = 0.05  # larger calls are not tried: a request would wait for a step of the proof
CHUNKS = (*[1] * 6, 2, 2, 7, 7, *[128] * 8)  # over a thousand rows near thresholds, by the call
SAMPLED = 128
FAR = 3e38  # nearly the largest number of 32 bits
SEED = 0
POLL_S = 0.002


class Found(NamedTuple):
    """The way, if there is one, up to how many rows it is the faster, and in words how that was proven or why not."""

    way: Optional["Trees"]
    most_rows: int
    proof: str


Proof = Generator[None, None, Found]


class Answerer:
    """A model's `predict`, by its trees for calls of few rows once `use` was told so."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._trees: Optional[Trees] = None
        self._most_rows = 0

    def use(self, trees: "Trees", most_rows: int) -> None:
        self._trees, self._most_rows = trees, most_rows

    def predict(self, data: Any, params: Any = None) -> Any:
        shape = getattr(data, "shape", ())
        if self._trees is not None and shape and shape[0] <= self._most_rows and not params:
            return self._trees.predict(data)
        return self._model.predict(data, params)


class Trees:
    """A *function* of an estimator, by treelite where its last step gets rows that this is proven for."""

    def __init__(
        self, before: List[Any], estimator: Any, ensemble: Any, treelite: ModuleType, function: str = "predict"
    ) -> None:
        self.takes_missing = False
        self._before = before
        self._plainly = getattr(estimator, function)
        self._ensemble = ensemble
        self._finish: Any = {"predict": ensemble.finish, "predict_proba": ensemble.shares}.get(function)
        self._features = estimator.n_features_in_
        self._gtil = treelite.gtil

    def predict(self, data: Any) -> Any:
        """What the estimator answers, also where it raises."""
        for step in self._before:
            data = step.transform(data)
        answer = self._by_leaves(data)
        return self._plainly(data) if answer is None else answer

    def _by_leaves(self, data: Any) -> Any:
        rows = self._rows(data)
        try:
            return None if rows is None else self._finish(self._scores(rows))
        except MemoryError:
            raise
        except Exception:  # treelite's trouble is not the caller's: the estimator answers
            traceback.print_exc()
            return None

    def _rows(self, data: Any) -> Any:
        """The rows as the estimator would compare them; None where it has to see them itself."""
        import numpy

        if type(data) is not numpy.ndarray or data.ndim != 2 or data.shape[1] != self._features or not len(data):
            return None
        if data.dtype.kind not in self._ensemble.kinds:
            return None
        with numpy.errstate(over="ignore"):
            rows = data.astype(self._ensemble.dtype)
        if self._ensemble.zero:
            rows[numpy.abs(rows) <= self._ensemble.zero] = 0.0
        if not numpy.isfinite(rows).all() and (not self.takes_missing or numpy.isinf(rows).any()):
            return None
        return rows

    def _scores(self, rows: Any) -> Any:
        import numpy

        said = self._gtil.predict_per_tree(self._ensemble.model, rows, nthread=1).reshape(len(rows), -1)
        # `cumsum` adds one after another, as the libraries do; `sum` adds in pairs.
        return self._ensemble.score(numpy.cumsum(self._ensemble.terms(said), axis=1)[:, -1])

    def require(self, data: Any) -> None:
        """Raises `Differs` where the last step gets no rows that are for treelite, or is asked for something else."""
        if self._finish is None:
            raise Differs(f"how they answer {self._plainly.__name__} is not known")
        for step in self._before:
            data = step.transform(data)
        if self._rows(data) is None:
            raise Differs(f"they get a {type(data).__name__}, and no array of {self._features} numbers a row")

    def compare(self, data: Any) -> None:
        """Compare the scores of rows of the last step, or the answers where those are the scores. Raises `Differs`."""
        rows = self._rows(data)
        where = f"{len(data)} rows near thresholds"
        if rows is None:
            raise Differs(f"{where} are not for treelite")
        scores = self._scores(rows)
        if self._ensemble.margins is not None:  # more telling than a class, which many sums give
            _same(_asked(self._ensemble.margins, data).reshape(scores.shape), scores, where)
        else:
            _same(_asked(self._plainly, data), self._finish(scores), where)


class Differs(Exception):
    """The trees and the estimator gave two answers; the message says where."""


def last_of(estimator: Any) -> Tuple[List[Any], Any]:
    """The steps before a pipeline's last one, and that; any other estimator is its own last step."""
    if type(estimator).__name__ != "Pipeline":
        return [], estimator
    steps = [step for _, step in estimator.steps]
    return [step for step in steps[:-1] if step is not None and not isinstance(step, str)], steps[-1]


def prove(model: Any, ensembles: ModuleType, sample: Callable[[int, int], Any], count: int) -> Proof:
    """Look for the way of *model*, whose last step is an ensemble, in steps of about a request each.

    *sample* gives some of *count* rows as the model gets them, each time anew.
    """
    before, estimator = last_of(model.unwrap())
    try:
        treelite = importlib.import_module("treelite")
        importlib.import_module("treelite.sklearn")
    except ImportError:
        return Found(None, 0, HINT)
    try:
        ensemble, rows = yield from _beside_requests(lambda: _taken_apart(estimator, ensembles, treelite))
        trees = Trees(before, estimator, ensemble, treelite, model.function)
        trees.require(sample(0, 1))
        most_rows = yield from _crossing(model, trees, sample)
        if not most_rows:
            return Found(None, 0, "trees not used: treelite is not the faster way")
        yield from _compare_near(trees, rows)
        yield from _compare_samples(model, trees, sample, count)
        trees.takes_missing = yield from _is_equal_where_missing(trees, rows)
    except (ensembles.Unsuitable, Differs) as why:
        return Found(None, 0, f"trees not used: {why}")
    except Exception as problem:  # whatever it is, the ways that were found before go on
        return Found(None, 0, f"trees not used: {type(problem).__name__}: {problem}")
    return Found(trees, most_rows, f"trees equal on {len(rows) + count} rows")


def _taken_apart(estimator: Any, ensembles: ModuleType, treelite: ModuleType) -> Tuple[Any, Any]:
    """The ensemble, and rows to try it on."""
    ensemble = ensembles.read(estimator, treelite)
    return ensemble, _rows_near(ensembles.thresholds(ensemble.model), estimator.n_features_in_)


def _beside_requests(work: Callable[[], Any]) -> Generator[None, None, Any]:
    """What *work* gives, done in a thread: most of it is treelite's, which leaves the interpreter to the requests."""
    outcome: List[Any] = []
    problems: List[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=run, name="trees", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        yield
    if problems:
        raise problems[0]
    return outcome[0]


def _crossing(model: Any, trees: Trees, sample: Callable[[int, int], Any]) -> Generator[None, None, int]:
    """The largest of `SIZES` up to which the trees are faster, 0 for none; medians of both ways in turns."""
    most_rows = 0
    for size in SIZES:
        plain_s, gains = [], []
        for _ in range(ROUNDS):
            plain_s.append(_duration_s(model.predict, sample(0, size)))
            gains.append(plain_s[-1] / _duration_s(trees.predict, sample(0, size)))
            yield
        if _median(gains) < GAIN:
            break
        most_rows = size
        if _median(plain_s) > LONGEST_S:
            break
    return most_rows


def _median(values: List[float]) -> float:
    return sorted(values)[len(values) // 2]


def _duration_s(predict: Callable[[Any], Any], data: Any) -> float:
    begun_s = time.perf_counter()
    _asked(predict, data)
    return time.perf_counter() - begun_s


def _asked(predict: Callable[[Any], Any], data: Any) -> Any:
    """An answer without warnings: nobody sent these rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return predict(data)


def _rows_near(thresholds: Dict[int, Any], features: int) -> Any:
    """Rows whose values lie on thresholds, next to them in 64 and in 32 bits, between them, at 0 and far away."""
    import numpy

    random = numpy.random.RandomState(SEED)
    count = sum(CHUNKS)
    columns = []
    for feature in range(features):
        limits = thresholds.get(feature, numpy.zeros(1))
        limits = limits[numpy.isfinite(limits)] if numpy.isfinite(limits).any() else numpy.zeros(1)
        at = random.choice(limits, count)
        narrow = at.astype("float32")
        down, up = (numpy.nextafter(narrow, numpy.float32(side)).astype("float64") for side in (-FAR, FAR))
        kinds = [
            at,
            numpy.nextafter(at, -numpy.inf),
            numpy.nextafter(at, numpy.inf),
            down,
            up,
            (narrow + down) / 2,  # where rounding to 32 bits decides
            (narrow + up) / 2,
            random.uniform(limits.min() - 1, limits.max() + 1, count),
            random.uniform(limits.min() - 1, limits.max() + 1, count),
            random.choice([0.0, -0.0, 1e-40, FAR, -FAR], count),
        ]
        columns.append(numpy.stack(kinds)[random.randint(0, len(kinds), count), numpy.arange(count)])
    return numpy.clip(numpy.stack(columns, axis=1), -FAR, FAR)


def _compare_near(trees: Trees, rows: Any) -> Generator[None, None, None]:
    start = 0
    for size in CHUNKS:
        trees.compare(rows[start : start + size])
        start += size
        yield


def _compare_samples(
    model: Any, trees: Trees, sample: Callable[[int, int], Any], count: int
) -> Generator[None, None, None]:
    for start in range(0, count, SAMPLED):
        stop = min(count, start + SAMPLED)
        theirs, ours = (_asked(each.predict, sample(start, stop)) for each in (model, trees))
        _same(theirs, ours, f"sampled rows from {start}")
        yield


def _is_equal_where_missing(trees: Trees, rows: Any) -> Generator[None, None, bool]:
    """Whether the estimator takes rows with missing values, and the trees answer them alike."""
    import numpy

    holed = rows.copy()
    holed[numpy.random.RandomState(SEED).rand(*rows.shape) < 0.2] = numpy.nan
    trees.takes_missing = True
    try:
        yield from _compare_near(trees, holed)
    except Exception:  # the estimator refuses them, or this version of treelite sends them elsewhere
        return False
    finally:
        trees.takes_missing = False
    return True


def _same(theirs: Any, ours: Any, where: str) -> None:
    """Raises `Differs` unless both are alike in type, shape and every bit."""
    import numpy

    alike = type(theirs) is numpy.ndarray and theirs.dtype == ours.dtype and theirs.shape == ours.shape
    if alike:
        # The bytes of objects are their addresses.
        alike = (theirs == ours).all() if theirs.dtype.kind == "O" else theirs.tobytes() == ours.tobytes()
    if not alike:
        raise Differs(f"{where} have other answers by treelite")
