"""Input examples: saved beside the model as MLflow saves them, and in the form its scoring server takes."""

from __future__ import annotations

import base64
import json
import math
from datetime import date
from pathlib import Path
from typing import Any

from registry.errors import InvalidParameter

EXAMPLE = "input_example.json"
SERVING_EXAMPLE = "serving_input_example.json"


def split_example(example: Any) -> tuple[Any, dict[str, Any] | None]:
    """An input example may be the data, or a pair of the data and its params."""
    if isinstance(example, tuple) and len(example) == 2 and isinstance(example[1], dict):
        return example[0], example[1]
    return example, None


def write_example(directory: Path, data: Any, params: dict[str, Any] | None) -> dict[str, Any]:
    """Write both files; returns what the MLmodel file says about them."""
    import numpy
    import pandas

    if isinstance(data, pandas.Series):
        data = data.to_frame()
    info: dict[str, Any] = {"artifact_path": EXAMPLE, "serving_input_path": SERVING_EXAMPLE}
    if isinstance(data, pandas.DataFrame):
        named = not isinstance(data.columns, pandas.RangeIndex)
        info |= {"type": "dataframe", "pandas_orient": "split" if named else "values"}
        split = {"columns": data.columns.tolist()} if named else {}
        stored = {**split, "data": data.to_numpy(dtype=object).tolist()}
        serving = {"dataframe_split": stored}
    else:
        arrays = list(data.values()) if isinstance(data, dict) and data else [data]
        is_array = all(isinstance(each, numpy.ndarray) for each in arrays)
        info["type"] = "ndarray" if is_array else "json_object"
        stored = data
        serving = {"inputs": data}
    if params is not None:
        info["params"] = "true"
        stored = {"inputs": stored, "params": params}
        serving["params"] = params
    (directory / EXAMPLE).write_text(_json(stored), encoding="utf-8")
    (directory / SERVING_EXAMPLE).write_text(_json(serving, indent=2), encoding="utf-8")
    return info


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """The value in JSON's types: null for what is missing, ISO 8601 for dates, base64 for bytes."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' nulls, which compare as nothing does
        return None
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    raise InvalidParameter(f"the input example holds a {type(value).__name__}, which JSON cannot say")
