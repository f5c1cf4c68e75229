"""What a model returned, as bytes: MLflow's JSON, or raw numbers where the answer is a plain array.

The file stands alone and runs on Python 3.9; numpy and pandas are looked up only once a model has them.
"""

import base64
import datetime
import json
import sys
import warnings
from typing import Any, Dict, List, Tuple

RAW_DTYPES = frozenset(
    ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool"]
)


class Unserializable(Exception):
    """The model returned something that has no JSON form; the message names its type, never its value."""


def encode(output: Any, whole: bool, max_bytes: int) -> Tuple[Dict[str, Any], List[Any]]:
    """The (meta, buffers) of kind `tensor` for an array of plain numbers, else of kind `json`.

    *whole*: the JSON text is the whole answer, so it is always JSON. Raises `Unserializable`.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None and not whole and type(output) is numpy.ndarray and output.size and output.ndim:
        raw = _raw(output, numpy)
        if raw is not None:
            _check_size(raw.nbytes, max_bytes)
            return {"kind": "tensor", "dtype": raw.dtype.name, "shape": list(raw.shape)}, [memoryview(raw).cast("B")]
    text = _text(output, max_bytes)
    meta: Dict[str, Any] = {"kind": "json"}
    if whole:
        meta["whole"] = True
    return meta, [text]


def _raw(array: Any, numpy: Any) -> Any:
    if array.dtype.name not in RAW_DTYPES:
        return None
    return numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))


def _text(output: Any, max_bytes: int) -> bytes:
    try:
        text = json.dumps(_outermost(output), default=_plain).encode("ascii")
    except (Unserializable, MemoryError):
        raise
    except RecursionError:
        raise Unserializable("the model's answer is nested too deeply for JSON") from None
    except Exception as problem:
        raise Unserializable(f"the model's answer has no JSON form: {str(problem)[:200]}") from None
    _check_size(len(text), max_bytes)
    return text


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise Unserializable(f"the model's answer is larger than {max_bytes} bytes, the most that is sent")


def _outermost(output: Any) -> Any:
    """A DataFrame or Series becomes its records: only outermost, as in MLflow."""
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return output
    if isinstance(output, pandas.Series):
        output = output.to_frame()
    if not isinstance(output, pandas.DataFrame):
        return output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of two columns of one name the last one is sent
        return output.to_dict(orient="records")


def _plain(value: Any) -> Any:
    """What the JSON encoder does not know: arrays, numpy's scalars, bytes, times and pydantic's models."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _from_numpy(value, numpy)
    if isinstance(value, (bytes, bytearray)):
        return base64.encodebytes(bytes(value)).decode("ascii")
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if hasattr(type(value), "model_dump"):
        return value.model_dump()
    raise Unserializable(
        f"the model's answer holds a {type(value).__name__}, which has no JSON form; "
        "return an array, a table, or lists and dicts of plain values"
    )


def _from_numpy(value: Any, numpy: Any) -> Any:
    if value.dtype.kind == "M":
        return numpy.datetime_as_string(value).tolist()
    if value.dtype.kind in "cm":
        raise Unserializable(f"the model's answer holds {value.dtype} values, which have no JSON form")
    if value.dtype.kind == "f" and value.dtype.itemsize > 8:
        return value.astype(numpy.float64).tolist()
    return value.tolist()
