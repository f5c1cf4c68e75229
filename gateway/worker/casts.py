"""Plain conversion of what a client sent to a signature's types, as MLflow does it before it enforces a signature.

`2.5` becomes 2 in a long column and `"3"` becomes 3.0 in a double one; what cannot be converted, or would wrap
around, raises. The file stands alone and runs on Python 3.9; whoever calls it has pandas.
"""

import base64
import io
import json
import warnings
from typing import Any, Dict, List, Optional

DTYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "binary": "bytes",
    "datetime": "datetime64[ns]",
}
CSV_DTYPES = {"string": "object", "binary": "object"}
MAX_PADDED_BYTES = 1 << 28


def dtype_of(spec: Dict[str, Any]) -> Optional[str]:
    """The numpy name of one input's type; None for a type of Python objects (object, array, map, any)."""
    if spec["type"] == "tensor":
        return str(spec["tensor-spec"]["dtype"])
    return DTYPES.get(spec["type"])


def convert(frame: Any, inputs: List[Dict[str, Any]]) -> Any:
    """A DataFrame whose columns have the types of *inputs*: by name, by position, or all that of one tensor."""
    if inputs[0]["type"] == "tensor":
        return _converted(frame, dict.fromkeys(frame.columns, inputs[0]))
    names = [spec.get("name") for spec in inputs]
    wanted = dict(zip(frame.columns if None in names else names, inputs))
    return _converted(frame, {name: spec for name, spec in wanted.items() if name in frame.columns})


def convert_exactly(frame: Any, inputs: List[Dict[str, Any]]) -> Any:
    """The DataFrame with every column in its type of *inputs* whose values that leaves as they are; times, objects
    and lists from text.

    By name, or by position. A column that another type would change stays as it is.
    """
    names = [spec.get("name") for spec in inputs]
    wanted = dict(zip(frame.columns if None in names else names, inputs))
    frame = frame.copy(deep=False)
    for name, spec in wanted.items():
        if name in frame.columns:
            frame[name] = _exactly(frame[name], spec)
    return frame


def _exactly(column: Any, spec: Dict[str, Any]) -> Any:
    import numpy

    if spec["type"] in ("object", "map", "array"):
        return column.map(lambda cell: json.loads(cell) if isinstance(cell, str) else cell)
    dtype = dtype_of(spec)
    if dtype == "datetime64[ns]" and column.dtype.kind not in "iufb":
        return _times(column)
    if dtype is None or dtype in ("str", "bytes", "datetime64[ns]") or column.dtype.kind not in "iufb":
        return column
    with numpy.errstate(all="ignore"):
        values = column.to_numpy()
        others = values.astype(dtype)
        missing = numpy.isnan(values) if others.dtype.kind == "f" and values.dtype.kind == "f" else False
        # Both ways: 2**63 as an int64 is negative and yet comes back, and 2**53 + 1 equals its rounded float.
        same = (others == values) & (others.astype(values.dtype) == values) | missing
    return column.astype(dtype) if bool(same.all()) else column


def _converted(frame: Any, wanted: Dict[Any, Dict[str, Any]]) -> Any:
    frame = frame.copy(deep=False)
    for name, spec in wanted.items():
        try:
            frame[name] = _column(frame[name], spec)
        except Exception as problem:
            kind = dtype_of(spec) or spec["type"]
            raise ValueError(
                f"Data is not compatible with model signature. Failed to convert column {name} to type "
                f"'{kind}'. Error: {type(problem).__name__}: {problem}"
            ) from None
    return frame


def _column(column: Any, spec: Dict[str, Any]) -> Any:
    dtype = dtype_of(spec)
    if dtype is None:
        return column
    if dtype == "str":
        return column.astype(object) if column.dtype.kind in "iufb" else column
    if dtype == "bytes":
        return column.map(lambda text: base64.decodebytes(bytes(text, "utf-8"))).astype(object)
    if dtype == "datetime64[ns]":
        return _times(column)
    if dtype[:3] in ("int", "uin") and dtype != "uint64":
        return _whole_numbers(column, dtype)
    return _floats(column, dtype)


def _times(column: Any) -> Any:
    import pandas

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that it tries one format after the other
        times = pandas.to_datetime(column)
    return times.astype("datetime64[ns]") if getattr(times.dt, "tz", None) is None else times


def _whole_numbers(column: Any, dtype: str) -> Any:
    if column.dtype.kind in "fu" and len(column) and bool(((column >= 2.0**63) | (column < -(2.0**63))).any()):
        raise OverflowError(f"a value is out of the range of {dtype}")
    return narrow(column.astype("int64"), dtype)


def _floats(column: Any, dtype: str) -> Any:
    import numpy

    with numpy.errstate(over="ignore"):  # 1e300 is infinite as a float32, in MLflow too
        if dtype == "float32":
            column = column.astype("float64")  # integers round once, however the body was read
        return column.astype(dtype)


def narrow(numbers: Any, dtype: str) -> Any:
    """64-bit integers as a smaller type. Raises OverflowError where one does not fit."""
    import numpy

    limits = numpy.iinfo(dtype)
    if numbers.size and (numbers.max() > limits.max or numbers.min() < limits.min):
        raise OverflowError(f"a value is out of the range of {dtype}")
    return numbers.astype(dtype)


def to_array(value: Any, dtype: Optional[str], is_column: bool = True) -> Any:
    """One JSON value as an array of *dtype*; where that is None, one cell an element."""
    import numpy

    if dtype is None:
        return _cells(value)
    if dtype == "str" and is_column and isinstance(value, list) and not any(isinstance(each, list) for each in value):
        return _cells([str(each).rstrip("\0") for each in value])
    if dtype[:3] in ("int", "uin") and dtype != "uint64":
        return narrow(numpy.array(value, dtype="int64"), dtype)
    with numpy.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a time's offset is applied, and numpy warns of it
        if dtype == "float32":
            return numpy.array(value, dtype="float64").astype("float32")
        return guessed_array(value, dtype)


def guessed_array(value: Any, dtype: Optional[str] = None) -> Any:
    """One JSON value as numpy makes an array of it. Raises ValueError where one long text would pad all others."""
    import numpy

    leaves = longest = 0
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, list):
            pending.extend(each)
        else:
            leaves += 1
            longest = max(longest, len(each)) if isinstance(each, str) else longest
    if 4 * leaves * longest > MAX_PADDED_BYTES:
        raise ValueError(
            f"{leaves} texts, the longest of {longest} characters, are too much for one array: "
            "send fewer at a time, or as a table"
        )
    return numpy.array(value, dtype=dtype)


def as_text_dtype(array: Any, dtype: Optional[str]) -> Any:
    """An array of texts or bytes as the kind of array that a tensor of *dtype* is; any other as it is."""
    if dtype == "object" and array.dtype.kind == "U":
        return array.astype(object)
    return array.astype("S") if dtype == "bytes" and array.dtype == object else array


def _cells(value: Any) -> Any:
    import numpy

    values = value if isinstance(value, list) else [value]
    cells = numpy.empty(len(values), dtype=object)
    cells[:] = values
    return cells if isinstance(value, list) else cells.reshape(())


def frame_of_columns(arrays: Dict[str, Any]) -> Any:
    """A DataFrame of arrays by name; a single value stands for a whole column, a matrix for lists."""
    import numpy
    import pandas

    sizes = {len(array) for array in arrays.values() if array.ndim}
    if len(sizes) > 1:
        raise ValueError(f"the columns have different lengths: {sorted(sizes)}")
    rows = sizes.pop() if sizes else 1
    columns = {}
    for name, array in arrays.items():
        if array.ndim > 1:
            columns[name] = pandas.Series(array.tolist(), dtype=object)
        else:
            filled = array if array.ndim else numpy.repeat(array, rows)
            columns[name] = filled.tolist() if filled.dtype.kind in "OUS" else filled
    return pandas.DataFrame(columns)


def frame_of_records(records: List[Dict[str, Any]], dtypes: Dict[str, Optional[str]]) -> Any:
    """A DataFrame of objects by row. A value that is missing is NaN in a float column, else a hole."""
    import numpy
    import pandas

    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {}
    for name in names:
        dtype = dtypes.get(name)
        values = [record.get(name, numpy.nan) for record in records]
        if name in dtypes and (dtype in ("float32", "float64") or all(name in record for record in records)):
            array = to_array(values, dtype)
            columns[name] = array.tolist() if array.dtype.kind in "OUS" or array.ndim > 1 else array
        else:
            columns[name] = values
    return pandas.DataFrame(columns)


def frame_of_csv(text: str, inputs: List[Dict[str, Any]]) -> Any:
    """A DataFrame of CSV text, read with the types of *inputs*; columns that they do not name are guessed."""
    import pandas

    wanted = {position if spec.get("name") is None else spec["name"]: spec for position, spec in enumerate(inputs)}
    dtypes = {
        name: CSV_DTYPES.get(spec["type"]) or dtype_of(spec) or "object"
        for name, spec in wanted.items()
        if spec["type"] != "datetime"
    }
    try:
        frame = pandas.read_csv(io.StringIO(text), dtype=dtypes)
    except ValueError as problem:
        raise _blamed(text, dtypes) or problem from None
    for name in frame.columns:
        if name in wanted and name not in dtypes:
            frame[name] = _times(frame[name])
    return frame


def _blamed(text: str, dtypes: Dict[Any, str]) -> Optional[ValueError]:
    """What is wrong with CSV text, with the name of the column; None where no column alone is to blame."""
    import pandas

    for name, dtype in dtypes.items():
        try:
            pandas.read_csv(io.StringIO(text), usecols=lambda column: column == name, dtype={name: dtype})  # noqa: B023
        except ValueError as problem:
            return ValueError(f"Column {name}: {str(problem).replace(' in column 0', '')}")
    return None
