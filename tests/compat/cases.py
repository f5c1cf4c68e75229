"""The tables that both sides are run on: this file is imported under our interpreter and under mlflow's."""

import datetime
import decimal
import json

import numpy as np
import pandas as pd

COLUMNS = {
    "long": [{"type": "long", "name": "a", "required": True}],
    "integer": [{"type": "integer", "name": "a", "required": True}],
    "double": [{"type": "double", "name": "a", "required": True}],
    "float": [{"type": "float", "name": "a", "required": True}],
    "string": [{"type": "string", "name": "a", "required": True}],
    "boolean": [{"type": "boolean", "name": "a", "required": True}],
    "binary": [{"type": "binary", "name": "a", "required": True}],
    "datetime": [{"type": "datetime", "name": "a", "required": True}],
    "optional": [
        {"type": "double", "name": "a", "required": True},
        {"type": "long", "name": "b", "required": False},
    ],
    "two": [
        {"type": "double", "name": "a", "required": True},
        {"type": "string", "name": "b", "required": True},
    ],
    "unnamed": [{"type": "double", "required": True}, {"type": "double", "required": True}],
    "unnamed_string": [{"type": "string", "required": True}],
    "array": [{"type": "array", "items": {"type": "double"}, "name": "a", "required": True}],
    "object": [
        {
            "type": "object",
            "properties": {"x": {"type": "long", "required": True}, "y": {"type": "string", "required": False}},
            "name": "a",
            "required": True,
        }
    ],
    "map": [{"type": "map", "values": {"type": "long"}, "name": "a", "required": True}],
    "any": [{"type": "any", "name": "a", "required": True}],
    "tensor": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 2]}}],
    "tensor32": [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}],
    "tensor flat": [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}],
    "tensor column": [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, 1]}}],
    "tensor text": [{"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}}],
    "tensors": [
        {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}, "name": "a"},
        {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, 2]}, "name": "b"},
    ],
}


def frame(**columns):
    return pd.DataFrame(columns)


def enforcement_inputs():
    """Every kind of data a client may pass, by a short name."""
    day = datetime.datetime(2026, 1, 2, 3, 4, 5)
    return {
        "int64": frame(a=[1, 2]),
        "int64 01": frame(a=[0, 1]),
        "int32 01": frame(a=np.array([0, 1], "int32")),
        "int16 01": frame(a=np.array([0, 1], "int16")),
        "int32": frame(a=np.array([1, 2], "int32")),
        "int16": frame(a=np.array([1, 2], "int16")),
        "uint8": frame(a=np.array([1, 2], "uint8")),
        "uint32": frame(a=np.array([1, 2], "uint32")),
        "uint64": frame(a=np.array([1, 2], "uint64")),
        "float64": frame(a=[1.5, 2.0]),
        "float64 whole": frame(a=[1.0, 2.0]),
        "float64 nan": frame(a=[1.0, None]),
        "float32": frame(a=np.array([1.5, 2.0], "float32")),
        "float16": frame(a=np.array([1.5, 2.0], "float16")),
        "decimal": frame(a=pd.Series([decimal.Decimal("1.5"), None], dtype=object)),
        "object number texts": frame(a=pd.Series(["1", "2"], dtype=object)),
        "Int64 full": frame(a=pd.Series([1, 2], dtype="Int64")),
        "bool": frame(a=[True, False]),
        "str": frame(a=["x", "y"]),
        "str none": frame(a=["x", None]),
        "object str": frame(a=pd.Series(["x", "y"], dtype=object)),
        "object int": frame(a=pd.Series([1, 2], dtype=object)),
        "object float": frame(a=pd.Series([1.5, None], dtype=object)),
        "object mixed": frame(a=pd.Series([1, "x"], dtype=object)),
        "object bytes": frame(a=pd.Series([b"x", b"y"], dtype=object)),
        "object none": frame(a=pd.Series([None, None], dtype=object)),
        "Int64": frame(a=pd.Series([1, None], dtype="Int64")),
        "Float64": frame(a=pd.Series([1.5, None], dtype="Float64")),
        "boolean": frame(a=pd.Series([True, None], dtype="boolean")),
        "string": frame(a=pd.Series(["x", None], dtype="string")),
        "category": frame(a=pd.Series(["x", "y"], dtype="category")),
        "datetime": frame(a=pd.to_datetime(pd.Series([day, day]))),
        "datetime object": frame(a=pd.Series([day, day], dtype=object)),
        "datetime text": frame(a=["2026-01-02", "2026-01-03"]),
        "date object": frame(a=pd.Series([day.date(), day.date()], dtype=object)),
        "two": frame(a=[1.0, 2.0], b=["x", "y"]),
        "swapped extra": frame(c=[1, 2], b=["x", "y"], a=[1.0, 2.0]),
        "optional": frame(a=[1.0, 2.0], b=[1, 2]),
        "optional wrong": frame(a=[1.0, 2.0], b=[1.5, 2.5]),
        "wrong name": frame(z=[1.0]),
        "empty": frame(a=np.array([], "float64")),
        "two floats": frame(x=[1.0, 2.0], y=[3.0, 4.0]),
        "three floats": frame(x=[1.0, 2.0], y=[3.0, 4.0], z=[5.0, 6.0]),
        "array": np.array([[1.0, 2.0], [3.0, 4.0]]),
        "array column": np.array([[1.0], [3.0]]),
        "array int": np.array([[1, 2], [3, 4]]),
        "array32": np.array([[1.0, 2.0], [3.0, 4.0]], "float32"),
        "array wide": np.array([[1.0, 2.0, 3.0]]),
        "array flat": np.array([1.0, 2.0]),
        "array text": np.array(["x", "y"]),
        "list floats": [1.0, 2.0],
        "list ints": [1, 2],
        "list texts": ["x", "y"],
        "list lists": [[1.0, 2.0], [3.0, 4.0]],
        "list records": [{"a": 1.5}, {"a": 2.5}],
        "list records two": [{"a": 1.5, "b": "x"}, {"a": 2.5, "b": "y"}],
        "dict lists": {"a": [1.5, 2.5], "b": ["x", "y"]},
        "dict one list": {"a": [1.5, 2.5]},
        "dict scalar": {"a": 1.5},
        "dict text": {"a": "x"},
        "dict int": {"a": 3},
        "dict bool": {"a": True},
        "dict arrays": {"a": np.array([1.5, 2.5]), "b": np.array([[1, 2], [3, 4]])},
        "dict arrays wrong": {"a": np.array([1.5, 2.5]), "b": np.array([[1, 2, 3]])},
        "dict arrays extra": {"a": np.array([1.5]), "b": np.array([[1, 2]]), "c": np.array([0])},
        "dict array": {"a": np.array([1.5, 2.5])},
        "scalar": 1.5,
        "text": "x",
        "none": None,
        "series": pd.Series([1.5, 2.5], name="a"),
        "series unnamed": pd.Series([1.5, 2.5]),
        "nested list": frame(a=[[1.0, 2.0], [3.0]]),
        "nested ints": frame(a=[[1, 2], [3]]),
        "nested arrays": frame(a=[np.array([1.0, 2.0]), np.array([3.0])]),
        "nested texts": frame(a=[["x"], ["y"]]),
        "nested none": frame(a=[[1.0, None], [3.0]]),
        "objects": frame(a=[{"x": 1, "y": "u"}, {"x": 2}]),
        "objects missing": frame(a=[{"y": "u"}]),
        "objects extra": frame(a=[{"x": 1, "z": 3}]),
        "objects wrong": frame(a=[{"x": "no"}]),
        "maps": frame(a=[{"p": 1, "q": 2}, {"r": 3}]),
        "maps wrong": frame(a=[{"p": "one"}]),
        "dict nested": {"a": [1.0, 2.0]},
        "dict object": {"a": {"x": 1}},
    }


PARAMS_SCHEMA = [
    {"name": "i", "type": "integer", "default": 1, "shape": None},
    {"name": "l", "type": "long", "default": 2, "shape": None},
    {"name": "f", "type": "float", "default": 0.5, "shape": None},
    {"name": "d", "type": "double", "default": 0.25, "shape": None},
    {"name": "s", "type": "string", "default": "x", "shape": None},
    {"name": "b", "type": "boolean", "default": False, "shape": None},
    {"name": "ls", "type": "long", "default": [1, 2], "shape": [-1]},
    {"name": "ds", "type": "double", "default": [0.5], "shape": [-1]},
    {"name": "ss", "type": "string", "default": ["p"], "shape": [-1]},
    {"name": "t", "type": "datetime", "default": "2026-01-02T03:04:05", "shape": None},
    {"name": "n", "type": "string", "default": None, "shape": None},
]
PARAMS = [
    None,
    {},
    {"unknown": 1},
    {"i": 2},
    {"i": 2.0},
    {"i": "2"},
    {"i": True},
    {"i": None},
    {"i": [1]},
    {"l": 3},
    {"l": 3.5},
    {"l": True},
    {"f": 1},
    {"f": 1.5},
    {"f": "1.5"},
    {"d": 1},
    {"d": 1.5},
    {"d": True},
    {"d": "x"},
    {"s": "y"},
    {"s": 1},
    {"s": None},
    {"b": True},
    {"b": 1},
    {"b": "true"},
    {"ls": [3]},
    {"ls": 3},
    {"ls": []},
    {"ls": [1.5]},
    {"ls": ["x"]},
    {"ls": [[1]]},
    {"ls": (1, 2)},
    {"ds": [1, 2]},
    {"ds": [1, 2.5]},
    {"ss": ["q", "r"]},
    {"ss": "q"},
    {"ss": [1]},
    {"t": "2027-01-02"},
    {"t": "no date"},
    {"n": None},
    {"n": "z"},
    {"i": 1, "nope": 2, "s": "q"},
    "not a dict",
    [1],
]


def signature_inputs():
    """Examples whose signature both sides infer."""
    inputs = dict(enforcement_inputs())
    del inputs["none"]
    inputs |= {
        "floats nan ints": frame(a=[1, 2], b=[1.0, float("nan")], c=["x", None], d=[True, False]),
        "integer names": pd.DataFrame([[1.0, 2], [3.0, 4]]),
        "one unnamed": pd.DataFrame({0: ["x"]}),
        "list bools": [True, False],
        "list mixed": [1, 2.5],
        "list mixed types": [1, "x"],
        "list none": ["x", None],
        "list numpy": [np.float32(0.5), np.float32(1.5)],
        "list arrays": [np.array([1.0, 2.0]), np.array([3.0])],
        "list nested mixed": [[1, 2.5], [3]],
        "list lists lists": [[[1], [2]], [[3]]],
        "list empty": [],
        "list records none": [{"a": None, "b": 1}, {"a": 1, "b": 2}],
        "list records mixed": [{"a": 1}, {"a": 1.5}],
        "dict none": {"a": None, "b": 1},
        "dict numpy": {"a": np.int32(1), "b": np.array([1.0, 2.0])},
        "dict empty list": {"a": []},
        "dict list none": {"a": [1, None]},
        "dict list records": {"a": [{"x": 1}, {"x": 2, "y": "u"}]},
        "dict datetime": {"a": datetime.datetime(2026, 1, 2), "b": b"x"},
        "bytes": b"x",
        "integer": 3,
        "category int": frame(a=pd.Series([1, 2], dtype="category")),
        "object bool none": frame(a=pd.Series([True, None], dtype=object)),
        "object int none": frame(a=pd.Series([1, None], dtype=object)),
        "object numbers": frame(a=pd.Series([1, 2.5], dtype=object)),
        "nested mixed": frame(a=[[1, 2.5], [3.0]]),
        "nested null row": frame(a=[[1.0], None]),
        "nested objects": frame(a=[[{"x": 1}], [{"x": 2, "y": 3}]]),
        "array zero rank": np.array(1.5),
        "array bytes": np.array([b"xy"]),
        "timezone": frame(a=pd.to_datetime(pd.Series(["2026-01-02"]), utc=True)),
        "timedelta": frame(a=pd.to_timedelta(pd.Series([1, 2]))),
        "tuple": (1, 2),
        "list dict nested": [{"a": {"b": [1, 2]}, "c": "x"}, {"a": {"b": [3]}}],
        "dict mixed": {"a": 1, "b": "x", "c": [1.5], "d": {"e": True}},
        "array3": np.zeros((2, 3, 4), "int32"),
        "array bool": np.array([True]),
        "array object": np.array(["x", None], dtype=object),
        "dict of arrays": {"u": np.zeros((3, 2)), "v": np.zeros(3, "int64")},
        "texts": "hello",
        "array datetime": np.array(["2026-01-02"], dtype="datetime64[ns]"),
    }
    return inputs


SIGNATURE_PARAMS = [
    {"a": 1, "b": 1.5, "c": "x", "d": True, "e": [1, 2], "f": ["x"], "g": [0.5]},
    {"day": datetime.datetime(2026, 1, 2)},
    {"n": np.int32(3), "x": np.float32(0.5), "l": np.array([1.0])},
    {"tuple": (1, 2)},
    {"mixed": [1, 2.5]},
    {"none": None},
    {"empty": []},
    {"bytes": b"x"},
    {"nested": {"a": 1, "b": "x"}},
    {"table": [[1], [2]]},
]


def shown(value):
    """A JSON-able picture of a value: equal pictures mean equal data."""
    if isinstance(value, pd.DataFrame):
        columns = [[str(name), str(value[name].dtype), shown(list(value[name]))] for name in value.columns]
        return {"frame": columns}
    if isinstance(value, pd.Series):
        return {"series": [str(value.dtype), shown(list(value))]}
    if isinstance(value, np.ndarray):
        return {"array": [value.dtype.str[1:], list(value.shape), shown(value.tolist())]}
    if isinstance(value, dict):
        return {str(name): shown(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    if isinstance(value, np.generic):
        return shown(value.item())
    if isinstance(value, (bool, int, str, type(None))):
        return value
    return repr(value)


def answer(call, *arguments):
    """What the call returned, or that it refused and why."""
    try:
        return {"ok": shown(call(*arguments))}
    except Exception as problem:
        return {"refused": str(problem)}


def main(enforce_inputs, enforce_params, infer):
    inputs = enforcement_inputs()
    return json.dumps(
        {
            "inputs": {
                f"{schema} <- {name}": answer(enforce_inputs, inputs[name], COLUMNS[schema])
                for schema in COLUMNS
                for name in inputs
            },
            "params": {repr(params): answer(enforce_params, params, PARAMS_SCHEMA) for params in PARAMS},
            "signatures": {name: answer(infer, each, None) for name, each in signature_inputs().items()},
            "signature params": [answer(infer, ["x"], each) for each in SIGNATURE_PARAMS],
        }
    )
