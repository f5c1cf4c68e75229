"""What goes into a model and what comes out: payloads from the gateway to tables or arrays, answers back to bytes.

Typed payloads become tables without a copy; bodies are read whole (`scoring.py`). The file and those beside it stand
alone and run on Python 3.9; pandas and numpy are the model's own.
"""

import base64
import importlib.util
import json
import os
import sys
import warnings
from types import ModuleType
from typing import Any, Dict, List, Optional, Sequence, Tuple

MAX_PLANS = 64
# What scikit-learn says when an estimator that was fitted on a table is given an array with the same columns.
NAMELESS = "X does not have valid feature names"
NUMBERS = {"float64", "float32", "int64", "int32"}  # of a signature; with truth values a table is one of objects
MAX_ANSWER_BYTES = 1 << 30


def _beside(name: str) -> ModuleType:
    """Another file of this folder; like this one, it has no name that a model's imports could meet."""
    full_name = f"<turnout {name}>"
    if full_name in sys.modules:
        return sys.modules[full_name]
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(full_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[full_name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


answers = _beside("answers")
casts = _beside("casts")
elements = _beside("elements")
scoring = _beside("scoring")
Refused = scoring.Refused
Request = scoring.Request


def model_failed(problem: BaseException) -> Any:
    """The refusal for an exception that the model's `predict` raised: MLflow's status and code, no stack trace."""
    text = " ".join(str(problem).split())
    cause = f"{type(problem).__name__}: {text}" if text else type(problem).__name__
    return Refused(
        "Encountered an unexpected error while evaluating the model. Verify that the input is compatible with the "
        f"model for inference. Error: {scoring.shortened(cause)}"
    )


class Scorer:
    """Reads requests and writes answers for one model; *enforcement* is the module of that name."""

    def __init__(self, signature: Optional[Dict[str, Any]], enforcement: ModuleType) -> None:
        self._bodies = scoring.Bodies(signature, casts, enforcement)
        self._plans: Dict[Tuple[Any, ...], Tuple[Any, bool]] = {}
        self._uses_arrays = False
        self._readers = {"table": self._table, "tensor": self._tensor, "tensors": self._tensors}

    def takes_arrays(self, meta: Dict[str, Any], _: Sequence[Any]) -> bool:
        """Whether such a payload is a table that could as well be one array."""
        is_one = meta["kind"] == "table" and (meta.get("packed") or set(meta["dtypes"]) <= NUMBERS)
        return bool(is_one) and self._plan(meta["columns"], meta["dtypes"])[1]

    def array(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Any:
        """The array that stands for such a table: its values, without names, in the type that holds them all."""
        import numpy

        dtypes = meta["dtypes"]
        if meta.get("packed"):
            values = numpy.frombuffer(buffers[0], dtype=dtypes[0])
            return values.reshape(meta["rows"], len(dtypes)).copy()  # models write into their input
        table = numpy.empty((meta["rows"], len(dtypes)), dtype=numpy.result_type(*dtypes))
        for at, (buffer, dtype) in enumerate(zip(buffers, dtypes)):
            table[:, at] = numpy.frombuffer(buffer, dtype=dtype).reshape(meta["rows"])
        return table

    def use_arrays(self) -> None:
        """From now on the model gets arrays for tables: it was proven to answer alike."""
        warnings.filterwarnings("ignore", NAMELESS)
        self._uses_arrays = True

    def read(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Any:
        """The `Request` (data, params, wrapped) of one payload. Raises `Refused`."""
        kind = meta["kind"]
        if kind == "body":
            return self._bodies.read(meta["content_type"], bytes(buffers[0]), meta.get("params"))
        if kind not in self._readers:
            raise Refused(f"no model reads a payload of kind {kind!r}")
        if "unread" in meta:
            buffers = _elements(meta, buffers)
        data = scoring.or_invalid(lambda: self._readers[kind](meta, buffers))
        return Request(data, self._bodies.enforce_params(meta.get("params")))

    def write(self, output: Any, request: Any = None) -> Tuple[Dict[str, Any], List[Any]]:
        """The (meta, buffers) of the answer. Raises `Refused` (500) for what has no JSON form."""
        whole = request is not None and not request.wrapped
        try:
            answer: Tuple[Dict[str, Any], List[Any]] = answers.encode(output, whole, MAX_ANSWER_BYTES)
        except answers.Unserializable as problem:
            raise Refused(str(problem), "INTERNAL_ERROR", 500) from None
        return answer

    def _table(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Any:
        import numpy
        import pandas

        dtypes = meta["dtypes"]
        columns, fits = self._plan(meta["columns"], dtypes)
        if self._uses_arrays and self.takes_arrays(meta, buffers):
            return self.array(meta, buffers)
        if meta.get("packed"):
            frame = pandas.DataFrame(self.array(meta, buffers), columns=columns, copy=False)
        else:
            parts = [
                json.loads(bytes(buffer)) if dtype == "str" else numpy.frombuffer(buffer, dtype=dtype)
                for buffer, dtype in zip(buffers, dtypes)
            ]
            frame = pandas.DataFrame(dict(enumerate(parts)))
            frame.columns = columns
        return frame if fits else self._enforced(frame)

    def _enforced(self, frame: Any) -> Any:
        """A table of other types than the signature's: converted where no value changes by that, else refused."""
        inputs = self._bodies.inputs
        if inputs and inputs[0]["type"] != "tensor":
            frame = casts.convert_exactly(frame, inputs)
        return self._bodies.enforce(frame)

    def _plan(self, columns: List[Any], dtypes: List[str]) -> Tuple[Any, bool]:
        """The columns as an index, and whether they are exactly what the signature asks for."""
        key = (*columns, *dtypes)
        plan = self._plans.get(key)
        if plan is None:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            plan = self._plans[key] = (_index(columns), self._fits(columns, dtypes))
        return plan

    def _fits(self, columns: List[Any], dtypes: List[str]) -> bool:
        inputs = self._bodies.inputs
        names = [spec.get("name") for spec in inputs]
        return [casts.dtype_of(spec) for spec in inputs] == dtypes and (None in names or names == columns)

    def _tensor(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Any:
        import numpy

        shape = meta["shape"]
        array = numpy.frombuffer(buffers[0], dtype=meta["dtype"]).reshape(shape).copy()  # models write into their input
        inputs = self._bodies.inputs
        is_alone = len(inputs) == 1 and inputs[0]["type"] == "tensor" and not inputs[0].get("name")
        if is_alone and _is_of(inputs[0]["tensor-spec"], meta["dtype"], shape):
            return array
        return self._bodies.enforce(array)

    def _tensors(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Any:
        """Arrays by name, one array alone, or a table of columns that may hold more than plain values."""
        names, inputs = meta["names"], self._bodies.inputs
        arrays = dict(zip(names, map(_array, meta["dtypes"], meta["shapes"], buffers)))
        if self._bodies.is_from_type_hint:
            return arrays[names[0]].tolist()
        if inputs and inputs[0]["type"] != "tensor":
            return self._enforced(casts.frame_of_columns(arrays))
        wanted = {spec.get("name"): spec["tensor-spec"]["dtype"] for spec in inputs}
        arrays = {name: casts.as_text_dtype(array, wanted.get(name)) for name, array in arrays.items()}
        return self._bodies.enforce(arrays[None] if names == [None] else arrays)


def _elements(meta: Dict[str, Any], buffers: Sequence[Any]) -> List[Any]:
    """The buffers, of which some came as the client sent them. Raises `Refused`."""
    dtypes = meta.get("dtypes") or [meta["dtype"]]
    read = []
    for buffer, dtype, unread in zip(buffers, dtypes, meta["unread"]):
        try:
            read.append(elements.read(*unread[:3], buffer, dtype) if unread else buffer)
        except ValueError as problem:
            raise Refused(f"Input {unread[3][:100]!r} {problem}.") from None
    return read


def _array(dtype: str, shape: List[int], buffer: Any) -> Any:
    import numpy

    if dtype == "str":
        return casts.guessed_array(json.loads(bytes(buffer))).reshape(shape)
    if dtype == "bytes":
        texts = json.loads(bytes(buffer))
        cells = [None if each is None else base64.b64decode(each) for each in texts]
        return casts.to_array(cells, None).reshape(shape)
    return numpy.frombuffer(buffer, dtype=dtype).reshape(shape).copy()  # models write into their input


def _is_of(spec: Dict[str, Any], dtype: str, shape: List[int]) -> bool:
    wanted = spec["shape"]
    if spec["dtype"] != dtype or len(wanted) != len(shape):
        return False
    return all(size in (-1, found) for size, found in zip(wanted, shape))


def _index(columns: List[Any]) -> Any:
    import pandas

    if columns == list(range(len(columns))):
        return pandas.RangeIndex(len(columns))
    return pandas.Index(columns)
