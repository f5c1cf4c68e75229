"""Makes data and params fit a model's signature, or refuses them, as mlflow.pyfunc does.

The file stands alone, imports only the standard library at its top and runs on Python 3.9: a replica
loads it by its path under the model's own interpreter.
"""

from typing import Any, Dict, List, Optional, Tuple

NUMPY_NAMES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "<U0",
    "binary": "|S0",
    "datetime": "datetime64[ns]",
}
FIXED_SIZE = ("boolean", "integer", "long", "float", "double", "datetime")
NESTED = ("array", "object", "map", "any")


class SchemaError(ValueError):
    """The data or the params do not fit the signature; the message names the column or the param."""


def enforce_inputs(data: Any, inputs: List[Dict[str, Any]]) -> Any:
    """The data as the model expects it: columns in the signature's order, safely widened, or tensors.

    *inputs* is the signature's list of columns or of tensors. Extra columns are left out, optional ones may
    be absent. Raises `SchemaError` for anything missing and for conversions that could lose values.
    """
    try:
        if not inputs:
            return data
        if inputs[0].get("type") == "tensor":
            return _enforce_tensors(data, inputs)
        return _enforce_columns(data, inputs)
    except SchemaError:
        raise
    except (TypeError, ValueError, OverflowError) as problem:
        raise SchemaError(f"The data does not fit the model's signature: {problem}") from None


def enforce_params(params: Optional[Dict[str, Any]], schema: Optional[List[Dict[str, Any]]]) -> Dict[str, Any]:
    """The params that the schema names, widened, with its defaults for absent ones; others are dropped.

    Without a schema there are none. Raises `SchemaError` that names every param it refuses.
    """
    if params is not None and not isinstance(params, dict):
        raise SchemaError(f"Parameters must be a dictionary. Got type {type(params).__name__!r}.")
    specs = {spec["name"]: spec for spec in schema or []}
    enforced, refused = {}, []
    for name, value in (params or {}).items():
        if name in specs:
            try:
                enforced[name] = _enforce_param(value, specs[name])
            except (TypeError, ValueError) as problem:
                refused.append(f"{name!r}: {problem}")
    if refused:
        raise SchemaError(f"Invalid parameters found: {'; '.join(refused)}.")
    for name, spec in specs.items():
        if name not in enforced:
            enforced[name] = _enforce_param(spec.get("default"), spec)
    return enforced


# Columns


def _enforce_columns(data: Any, inputs: List[Dict[str, Any]]) -> Any:
    frame, columns = _select(_as_frame(data, inputs), inputs)
    fits = [_fits(dtype, column["type"]) for dtype, column in zip(frame.dtypes.tolist(), columns)]
    if all(fits):
        return frame
    import pandas

    enforced = [
        frame.iloc[:, at] if fits[at] else _enforce_column(name, frame.iloc[:, at], columns[at])
        for at, name in enumerate(frame.columns)
    ]
    result = pandas.concat(enforced, axis=1)
    result.columns = frame.columns
    return result


def _fits(dtype: Any, kind: str) -> bool:
    """Whether a column of this dtype is passed on as it is."""
    import numpy
    import pandas

    if kind in ("string", "binary"):
        return bool(dtype == "object") or isinstance(dtype, pandas.StringDtype)
    return kind in FIXED_SIZE and bool(dtype == numpy.dtype(NUMPY_NAMES[kind]))


def _select(frame: Any, inputs: List[Dict[str, Any]]) -> Tuple[Any, List[Dict[str, Any]]]:
    """The signature's columns of the frame in its order, and the schema of each."""
    if "name" not in inputs[0]:
        if frame.shape[1] < len(inputs):
            raise SchemaError(
                f"Model is missing inputs: its signature has {len(inputs)} unnamed columns, "
                f"the data has {frame.shape[1]}."
            )
        return frame.iloc[:, : len(inputs)], inputs
    if frame.columns.tolist() == [column["name"] for column in inputs]:
        return frame, inputs
    if not frame.columns.is_unique:
        raise SchemaError(f"The data has columns of the same name: {sorted(map(str, frame.columns))}.")
    present = set(frame.columns)
    _refuse_missing(inputs, present)
    columns = [column for column in inputs if column["name"] in present]
    return frame[[column["name"] for column in columns]], columns


def _refuse_missing(inputs: List[Dict[str, Any]], present: Any) -> None:
    missing = [each["name"] for each in inputs if each.get("required", True) and each["name"] not in present]
    if not missing:
        return
    known = {each["name"] for each in inputs}
    extra = sorted((name for name in present if name not in known), key=str)
    hint = f" Note that there were extra inputs: {extra}." if extra else ""
    raise SchemaError(f"Model is missing inputs {missing}.{hint}")


def _as_frame(data: Any, inputs: List[Dict[str, Any]]) -> Any:
    import numpy
    import pandas

    if isinstance(data, pandas.DataFrame):
        return data
    if isinstance(data, pandas.Series):
        return data.to_frame()
    if isinstance(data, dict):
        return _frame_of_dict(data, inputs)
    if isinstance(data, (list, numpy.ndarray)):
        return pandas.DataFrame(data)
    if isinstance(data, (str, bytes, bool, int, float, numpy.generic)):
        return pandas.DataFrame([data])
    raise SchemaError(f"Expected input to be DataFrame. Found: {type(data).__name__}")


def _frame_of_dict(data: Dict[str, Any], inputs: List[Dict[str, Any]]) -> Any:
    import numpy
    import pandas

    one_record = any(column["type"] in ("array", "object") for column in inputs)
    if one_record or any(not isinstance(value, (list, dict, numpy.ndarray)) for value in data.values()):
        return pandas.DataFrame([data])
    columns = {
        name: value.tolist() if isinstance(value, numpy.ndarray) and value.ndim > 1 else value
        for name, value in data.items()
    }
    return pandas.DataFrame(columns)


def _enforce_column(name: Any, values: Any, column: Dict[str, Any]) -> Any:
    import pandas

    if column["type"] not in NESTED:
        return _enforce_scalars(name, values, column["type"])
    required = column.get("required", True)
    enforced = [_enforce_value(name, value, column, required) for value in values]
    if column["type"] == "any" and enforced:
        return pandas.Series(enforced, index=values.index, name=name)
    return pandas.Series(enforced, index=values.index, name=name, dtype=object)


def _enforce_scalars(name: Any, values: Any, kind: str) -> Any:
    """One column of plain values: unchanged, widened without loss, or refused."""
    import numpy
    import pandas

    if kind not in NUMPY_NAMES:
        raise SchemaError(f"Column {name} has the type {kind!r}, which is none of {sorted(NUMPY_NAMES)}.")
    if _fits(values.dtype, kind):
        return values
    if kind in ("string", "binary"):
        raise _unsafe(name, values, kind)
    if values.dtype == object:
        values = values.infer_objects()
    if values.dtype == object:
        if kind == "boolean":
            return values
        if kind == "double":
            return pandas.to_numeric(values).astype("float64")
        if kind == "datetime":
            return values.astype("datetime64[ns]")
    target = numpy.dtype(NUMPY_NAMES[kind])
    if values.dtype == target or _widens(values, target):
        return values.astype(target)
    raise _unsafe(name, values, kind)


def _widens(values: Any, target: Any) -> bool:
    kind, size = getattr(values.dtype, "kind", "O"), getattr(values.dtype, "itemsize", 0)
    if kind == target.kind:
        return kind == "M" or (kind in "iufb" and size <= target.itemsize)
    if kind == "u" and target.kind == "i":
        return bool(size < target.itemsize)
    if kind in "iu" and target.kind == "f":
        if target.itemsize == 8 and size <= 4:
            return True
        # Columns of flags are integers wherever they come from; mlflow lets exactly these through.
        return kind == "i" and str(values.dtype) == "int64" and bool(values.isin([0, 1]).all())
    return False


def _unsafe(name: Any, values: Any, kind: str) -> SchemaError:
    message = f"Incompatible input types for column {name}. "
    message += f"Can not safely convert {values.dtype} to {NUMPY_NAMES[kind]}."
    if kind in ("integer", "long") and getattr(values.dtype, "kind", "") == "f" and values.isna().any():
        message += " Hint: integer columns cannot hold missing values; declare the column as double."
    return SchemaError(message)


def _enforce_value(name: Any, value: Any, spec: Dict[str, Any], required: bool) -> Any:
    """One nested value: an array, an object, a map, anything, or the plain value at the end of these."""
    import pandas

    kind = spec["type"]
    if kind == "any" or (not required and (value is None or value is pandas.NA or value != value)):  # noqa: PLR0124
        return value
    if kind == "array":
        return _enforce_array(name, value, spec["items"])
    if kind == "object":
        return _enforce_object(name, value, spec["properties"])
    if kind == "map":
        if not isinstance(value, dict):
            raise SchemaError(f"Expected column {name} to hold dictionaries, got {type(value).__name__}.")
        return {key: _enforce_value(f"{name}.{key}", each, spec["values"], True) for key, each in value.items()}
    enforced = _enforce_scalars(name, pandas.Series([value], dtype=object), kind)
    return enforced.iloc[0]


def _enforce_array(name: Any, values: Any, items: Dict[str, Any]) -> Any:
    import numpy
    import pandas

    if not isinstance(values, (list, numpy.ndarray)):
        raise SchemaError(f"Expected column {name} to hold lists or numpy arrays, got {type(values).__name__}.")
    if items["type"] in NESTED:
        return [_enforce_value(f"{name}[{at}]", each, items, True) for at, each in enumerate(values)]
    if len(values) == 0:
        return values
    enforced = _enforce_scalars(name, pandas.Series(values), items["type"])
    return enforced.to_numpy() if isinstance(values, numpy.ndarray) else enforced.tolist()


def _enforce_object(name: Any, value: Any, properties: Dict[str, Any]) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise SchemaError(f"Expected column {name} to hold dictionaries, got {type(value).__name__}.")
    missing = [key for key, spec in properties.items() if spec.get("required", True) and key not in value]
    if missing:
        raise SchemaError(f"Column {name} is missing required properties {missing}.")
    extra = [key for key in value if key not in properties]
    if extra:
        raise SchemaError(f"Column {name} has properties that the signature does not: {extra}.")
    return {
        key: _enforce_value(f"{name}.{key}", each, properties[key], properties[key].get("required", True))
        for key, each in value.items()
    }


# Tensors


def _enforce_tensors(data: Any, inputs: List[Dict[str, Any]]) -> Any:
    import pandas

    if isinstance(data, pandas.Series):
        data = data.to_frame()
    if "name" not in inputs[0]:
        return _enforce_unnamed_tensor(data, inputs[0]["tensor-spec"])
    if not isinstance(data, (dict, pandas.DataFrame)):
        _refuse_missing(inputs, ())
    _refuse_missing(inputs, set(data))
    enforced = {}
    for each in inputs:
        name, spec = each["name"], each["tensor-spec"]
        if name in data:
            value = data[name]
            if isinstance(data, pandas.DataFrame):
                value = _tensor_of_column(name, value, spec)
            enforced[name] = _enforce_tensor(value, spec)
    return enforced


def _enforce_unnamed_tensor(data: Any, spec: Dict[str, Any]) -> Any:
    import pandas

    if not isinstance(data, pandas.DataFrame):
        return _enforce_tensor(data, spec)
    if data.empty:
        raise SchemaError("Input DataFrame is empty.")
    if data.shape[1] == 1:
        return _enforce_tensor(_tensor_of_column(data.columns[0], data.iloc[:, 0], spec), spec)
    if list(spec["shape"]) != [-1, data.shape[1]]:
        raise SchemaError(
            f"The model's input is one tensor of shape {tuple(spec['shape'])}; "
            f"a DataFrame of {data.shape[1]} columns does not fit it."
        )
    return _enforce_tensor(data.to_numpy(), spec)


def _tensor_of_column(name: Any, values: Any, spec: Dict[str, Any]) -> Any:
    import numpy

    shape, dtype = tuple(spec["shape"]), numpy.dtype(spec["dtype"])
    first = values.iloc[0] if len(values) else None
    if isinstance(first, (list, numpy.ndarray)):
        try:
            return numpy.array(values.tolist(), dtype=dtype).reshape(shape)
        except (TypeError, ValueError):
            raise SchemaError(f"Column {name!r} could not be converted to a tensor of shape {shape}.") from None
    if not numpy.isscalar(first):
        raise SchemaError(f"Column {name!r} holds a {type(first).__name__}, which no tensor can hold.")
    if shape not in ((-1,), (-1, 1)):
        raise SchemaError(f"Column {name!r} contains scalar values, which do not fit a tensor of shape {shape}.")
    if dtype.kind in "iu" and values.isna().any():
        raise SchemaError(f"Column {name!r} has missing values, which a tensor of {dtype} cannot hold.")
    return numpy.array(values, dtype=dtype).reshape(shape)


def _enforce_tensor(value: Any, spec: Dict[str, Any]) -> Any:
    if not (hasattr(value, "dtype") and hasattr(value, "shape")):  # an ndarray, or a sparse matrix
        raise SchemaError(f"The model's signature asks for a numpy array; the input is a {type(value).__name__}.")
    expected, shape = spec["dtype"], tuple(spec["shape"])
    if len(value.shape) != len(shape) or any(want not in (-1, have) for want, have in zip(shape, value.shape)):
        raise SchemaError(f"Shape of input {tuple(value.shape)} does not match expected shape {shape}.")
    found = {"U": "str", "S": "bytes"}.get(value.dtype.kind, str(value.dtype))
    if found != expected:
        raise SchemaError(f"dtype of input {value.dtype} does not match expected dtype {expected}")
    return value


# Params


def _enforce_param(value: Any, spec: Dict[str, Any]) -> Any:
    if value is None:
        return None
    kind, shape = spec["type"], spec.get("shape")
    if kind in ("object", "map"):
        if not isinstance(value, dict):
            raise TypeError(f"expected a dictionary, got {value!r}")
        return value
    if shape is None:
        return _enforce_param_scalar(value, kind)
    if hasattr(value, "tolist") and not isinstance(value, (list, str)):
        value = value.tolist()
    if not isinstance(value, list):
        raise TypeError(f"expected a list of {kind}, got {value!r}")
    return [_enforce_param_scalar(each, kind) for each in value]


def _enforce_param_scalar(value: Any, kind: str) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    if kind in ("integer", "long") and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind in ("float", "double") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if (kind == "string" and isinstance(value, str)) or (kind == "boolean" and isinstance(value, bool)):
        return value
    if kind == "binary" and isinstance(value, bytes):
        return value
    if kind == "datetime":
        import numpy

        return numpy.datetime64(value).item()
    raise TypeError(f"can not safely convert {value!r} to {kind}")
