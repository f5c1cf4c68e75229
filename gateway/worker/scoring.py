"""A client's body, read as MLflow's scoring server reads it: JSON in all its forms, CSV and Parquet.

Everything that is wrong with a body comes out as `Refused`, with MLflow's status and error code, and without
stack trace or whole data. The file stands alone and runs on Python 3.9; pandas is imported once it is needed.
"""

import io
import json
import warnings
from types import ModuleType
from typing import Any, Callable, Dict, List, NamedTuple, NoReturn, Optional

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
LLM_KEYS = ("messages", "prompt", "input")
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
MAX_EXCERPT = 400
MAX_PARQUET_BYTES = 1 << 30


class Refused(Exception):
    """A request that cannot be answered: the status, the code and the sentence that its client gets."""

    def __init__(self, message: str, error_code: str = "BAD_REQUEST", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code
        self.status = status


class Request(NamedTuple):
    """What the model gets. *wrapped*: its answer is sent as `{"predictions": ...}`."""

    data: Any
    params: Optional[Dict[str, Any]]
    wrapped: bool = True


def shortened(problem: object) -> str:
    """The text of *problem*, cut where it begins to repeat the client's data at length."""
    text = str(problem)
    return text if len(text) <= MAX_EXCERPT else f"{text[:MAX_EXCERPT]}…"


def invalid(problem: object) -> Refused:
    """The body cannot be read, or cannot be converted to the signature's types."""
    return Refused(f"Invalid input. {shortened(problem)}")


def misfit(data: Any, problem: object) -> Refused:
    """The body was read, and the signature refuses it."""
    seen = described(data)
    return Refused(
        f"Failed to predict data '{seen}'. \nError: Failed to enforce schema of data '{seen}'. "
        f"Error: {shortened(problem)}",
        "INVALID_PARAMETER_VALUE",
    )


def described(data: Any) -> str:
    """What kind of thing *data* is and its outline, never its values."""
    columns = getattr(data, "columns", None)
    if columns is not None:
        names = ", ".join(repr(str(name)[:40]) for name in columns[:20])
        return f"table of {len(data)} rows with columns {names or 'none'}{', …' if len(columns) > 20 else ''}"
    if hasattr(data, "shape"):
        return f"{data.dtype} array of shape {data.shape}"
    if isinstance(data, dict):
        return f"object with keys {', '.join(repr(str(key)[:40]) for key in list(data)[:20]) or 'none'}"
    return type(data).__name__


class Bodies:
    """Reads bodies for one signature; *casts* and *enforcement* are the modules of these names."""

    def __init__(self, signature: Optional[Dict[str, Any]], casts: ModuleType, enforcement: ModuleType) -> None:
        signature = signature or {}
        self.inputs: List[Dict[str, Any]] = signature.get("inputs") or []
        self._params: List[Dict[str, Any]] = signature.get("params") or []
        self.is_from_type_hint = bool(signature.get("is_signature_from_type_hint"))
        self._casts = casts
        self._enforcement = enforcement
        self._names = [spec.get("name") for spec in self.inputs]
        self._is_named = bool(self.inputs) and None not in self._names
        self._is_tensor = bool(self.inputs) and self.inputs[0]["type"] == "tensor"
        self._is_named_tensor = self._is_tensor and self._is_named
        self._dtypes = {spec.get("name"): casts.dtype_of(spec) for spec in self.inputs}

    def read(self, content_type: str, body: bytes, params: Any = None) -> Request:
        """The whole way from bytes to what the model gets; *params* where the body has none. Raises `Refused`."""
        if content_type == JSON:
            return self._read_json(body, params)
        if content_type == CSV:
            frame = self._read_csv(body)
        elif content_type == PARQUET:
            frame = _read_parquet(body)
        else:
            raise Refused(f"no reader for content type {shortened(content_type)!r}", status=415)
        if self.is_from_type_hint:
            data = frame.iloc[:, 0].tolist() if frame.shape[1] == 1 else frame
            return Request(data, self.enforce_params(params))
        return Request(self.enforce(frame), self.enforce_params(params))

    def enforce(self, data: Any) -> Any:
        """What MLflow would hand to the model for data that was read. Raises `Refused`."""
        if not self.inputs or self.is_from_type_hint:
            return data
        try:
            return self._enforcement.enforce_inputs(self._shape(data), self.inputs)
        except MemoryError:
            raise
        except Exception as problem:
            raise misfit(data, problem) from None

    def enforce_params(self, given: Any) -> Optional[Dict[str, Any]]:
        """The schema's parameters with their defaults; {} where something came and there is no schema."""
        if not self._params:
            return None if given is None else {}
        try:
            if not (given is None or isinstance(given, dict)):
                raise ValueError(f"Parameters must be a dictionary. Got type '{type(given).__name__}'.")
            enforced: Dict[str, Any] = self._enforcement.enforce_params(given or {}, self._params)
        except Exception as problem:
            message = f"Failed to predict data. \nError: {shortened(problem)}"
            raise Refused(message, "INVALID_PARAMETER_VALUE") from None
        return enforced

    # JSON

    def _read_json(self, body: bytes, params: Any) -> Request:
        document = _parse(body)
        if any(key in document for key in LLM_KEYS):
            names = {spec["name"] for spec in self._params}
            given = {key: document.pop(key) for key in list(document) if key in names}
            return Request(self.enforce(document), self.enforce_params(given), wrapped=False)
        forms = [key for key in document if key in FORMS]
        params = document.get("params", params)
        if self.is_from_type_hint:
            if "inputs" not in document:
                raise Refused(
                    "A model whose signature comes from type hints takes a JSON object with the key 'inputs'; "
                    f"found {forms}.",
                    "INVALID_PARAMETER_VALUE",
                )
            return Request(document["inputs"], self.enforce_params(params))
        if len(forms) != 1:
            _refuse_forms(f"found {forms or 'none of them'}")
        read = _FORMS[forms[0]]
        data = or_invalid(lambda: read(self, document[forms[0]]))
        return Request(self.enforce(data), self.enforce_params(params))

    def _split(self, split: Any) -> Any:
        if not isinstance(split, dict):
            raise ValueError(f"Dataframe split format must be a dictionary. Got {type(split).__name__}.")
        if "data" not in split or not split.keys() <= {"data", "columns", "index"}:
            raise ValueError(
                "Dataframe split format must have 'data' and may have 'columns' and 'index'. "
                f"Got {shortened(sorted(split))}."
            )
        return self._frame(split["data"], split.get("columns"), split.get("index"), "split")

    def _records(self, records: Any) -> Any:
        if not isinstance(records, list):
            raise ValueError(f"Dataframe records format must be a list of records. Got {type(records).__name__}.")
        return self._frame(records, None, None, "records")

    def _frame(self, data: Any, columns: Any, index: Any, form: str) -> Any:
        import pandas

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # short rows are filled up, in MLflow too
                frame = pandas.DataFrame(data, columns=columns, index=index)
        except MemoryError:
            raise
        except Exception as problem:
            raise ValueError(
                f"The dataframe_{form} field is no table in '{form}' format. Error: {shortened(problem)}"
            ) from None
        if not self.inputs or self._is_named_tensor or not frame.columns.is_unique:
            return frame  # the enforcement makes tensors of columns, and refuses two columns of one name
        frame = self._casts.convert(frame, self.inputs)
        for spec in self.inputs:
            if self._casts.dtype_of(spec) is None and spec.get("name") in frame.columns:
                self._enforcement.enforce_inputs(frame[[spec["name"]]], [spec])
        return frame

    def _inputs(self, value: Any) -> Any:
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            if not self._is_named or self._is_tensor:
                return [{name: self._array(each) for name, each in row.items()} for row in value]
            return self._casts.frame_of_records(value, self._dtypes)
        return self._arrays(value) if isinstance(value, dict) else self._single(value)

    def _instances(self, value: Any) -> Any:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            columns: Dict[str, List[Any]] = {}
            for row in value:
                if not isinstance(row, dict):
                    raise ValueError(f"instances: objects are mixed with a {type(row).__name__}")
                for name, each in row.items():
                    columns.setdefault(name, []).append(each)
            value = columns
        if not isinstance(value, dict):
            return self._single(value)
        arrays = self._arrays(value)
        if len({len(array) for array in arrays.values()}) > 1:
            raise ValueError("The length of values for each input/column name are not the same")
        return arrays

    def _single(self, value: Any) -> Any:
        if value == []:
            return value
        return self._array(value, self._casts.dtype_of(self.inputs[0])) if self.inputs else self._array(value)

    def _arrays(self, columns: Dict[str, Any]) -> Dict[str, Any]:
        if self.inputs and not self._is_named:
            raise ValueError("The model's inputs have no names: send one array or value, not an object of them.")
        return {
            name: self._array(each, self._dtypes[name]) if name in self._dtypes else self._array(each)
            for name, each in columns.items()
        }

    def _array(self, value: Any, *dtype: Optional[str]) -> Any:
        if dtype:
            return self._casts.to_array(value, dtype[0], not self._is_tensor)
        return self._casts.guessed_array(value)

    def _shape(self, data: Any) -> Any:
        """What came in a form of MLflow's own, as the enforcement takes it."""
        columns = getattr(data, "columns", None)
        if columns is not None and not columns.is_unique:
            raise ValueError(f"Two columns are called {columns[columns.duplicated()][0]!r}.")
        if self._is_tensor:
            is_single = hasattr(data, "dtype") and self._is_named and len(self.inputs) == 1
            return {self._names[0]: data} if is_single else data
        if isinstance(data, dict) and all(hasattr(each, "dtype") for each in data.values()):
            return self._casts.frame_of_columns(data)
        if hasattr(data, "dtype") and data.ndim < 2:
            if self._is_named and not (len(self._names) == 1 and data.ndim):
                raise ValueError(f"Model is missing inputs {self._names}: one value or list came, without names.")
            return self._casts.frame_of_columns({self._names[0] or 0: data})
        return data

    def _read_csv(self, body: bytes) -> Any:
        try:
            text = str(body, "utf-8")
        except UnicodeDecodeError as problem:
            raise invalid(f"The body is not UTF-8 text: {problem.reason} at byte {problem.start}.") from None
        if self._is_tensor:
            raise Refused("The model takes arrays, which CSV cannot carry: send JSON.")
        try:
            return self._casts.frame_of_csv(text, self.inputs)
        except MemoryError:
            raise
        except Exception as problem:
            raise _no_table("CSV", problem) from None


_FORMS: Dict[str, Callable[[Bodies, Any], Any]] = {
    "dataframe_split": Bodies._split,
    "dataframe_records": Bodies._records,
    "inputs": Bodies._inputs,
    "instances": Bodies._instances,
}


def _parse(body: bytes) -> Dict[str, Any]:
    try:
        document = json.loads(bytes(body))
    except RecursionError:
        raise invalid("The body's JSON is nested too deeply.") from None
    except UnicodeDecodeError as problem:
        raise invalid(f"The body is not UTF-8 text: {problem.reason} at byte {problem.start}.") from None
    except ValueError as problem:
        raise invalid(f"The body is not valid JSON: {shortened(problem)}.") from None
    if not isinstance(document, dict):
        _refuse_forms(f"the body is a JSON {type(document).__name__}", "Invalid input. ")
    return document


def _refuse_forms(found: str, prefix: str = "") -> NoReturn:
    raise Refused(f"{prefix}The body must be a JSON object with exactly one of the keys {list(FORMS)}; {found}.")


def or_invalid(read: Callable[[], Any]) -> Any:
    """What *read* gives. Raises `Refused` for whatever it raises, as what it reads is the client's."""
    try:
        return read()
    except (MemoryError, Refused):
        raise
    except RecursionError:
        raise invalid("The body's JSON is nested too deeply.") from None
    except Exception as problem:
        raise invalid(problem) from None


def _read_parquet(body: bytes) -> Any:
    import pandas

    try:
        import pyarrow.parquet

        outline = pyarrow.parquet.ParquetFile(io.BytesIO(body)).metadata
        if outline.num_rows * outline.num_columns * 8 > MAX_PARQUET_BYTES:  # a few bytes can stand for any number
            raise Refused(f"The table has {outline.num_rows} rows: send fewer at a time.", status=413)
        return pandas.read_parquet(io.BytesIO(body))
    except (MemoryError, Refused):
        raise
    except ImportError:
        raise Refused(
            "The model's environment cannot read Parquet: add pyarrow to its requirements, or send JSON or CSV.",
            status=415,
        ) from None
    except Exception as problem:
        raise _no_table("Parquet", problem) from None


def _no_table(kind: str, problem: Exception) -> Refused:
    return Refused(
        f"Failed to parse input as a Pandas DataFrame: the body is no valid {kind}. Error: {shortened(problem)}"
    )
