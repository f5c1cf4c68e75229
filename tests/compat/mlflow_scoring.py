"""One table of scoring requests, run under mlflow's interpreter by this program and under ours by a test.

As a program it builds mlflow's own scoring application for every signature, sends it the requests, and prints
what came back as JSON. Imported by path under our interpreter it only gives the table and the two models.
"""

import asyncio
import base64
import io
import json
import sys
import tempfile

import numpy
import pandas

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


def column(name, kind, required=True, **more):
    return {"type": kind, "required": required, **({"name": name} if name else {}), **more}


def tensor(dtype, shape, name=None):
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}, **({"name": name} if name else {})}


PARAMS = [
    {"name": "k", "default": 1, "shape": None, "type": "long"},
    {"name": "t", "default": 0.5, "shape": None, "type": "double"},
    {"name": "w", "default": ["a"], "shape": [-1], "type": "string"},
]
KINDS = {"i": "integer", "l": "long", "f": "float", "d": "double", "s": "string", "b": "boolean"}
SIGNATURES = {
    "none": None,
    "two": {"inputs": [column("a", "double"), column("b", "double")]},
    "mixed": {"inputs": [column(name, kind) for name, kind in KINDS.items()]},
    "optional": {"inputs": [column("a", "double"), column("b", "double", False), column("l", "long", False)]},
    "times": {"inputs": [column("x", "binary"), column("t", "datetime")]},
    "unnamed": {"inputs": [column(None, "double"), column(None, "double")]},
    "text": {"inputs": [column(None, "string")]},
    "object": {"inputs": [column("o", "object", properties={"q": {"type": "double", "required": True}})]},
    "matrix": {"inputs": [tensor("float64", [-1, 2])]},
    "bytes": {"inputs": [tensor("uint8", [-1])]},
    "tensors": {"inputs": [tensor("float64", [-1, 2], "x"), tensor("int64", [-1], "y")]},
    "params": {"inputs": [column("a", "double")], "params": PARAMS},
    "only params": {"inputs": None, "params": PARAMS},
    **{kind: {"inputs": [column("a", kind)]} for kind in KINDS.values()},
}


def split(columns, *rows, **more):
    return {"dataframe_split": {"columns": columns, "data": rows, **more}}


def records(*rows, **more):
    return {"dataframe_records": rows, **more}


def parquet(**columns):
    file = io.BytesIO()
    pandas.DataFrame(columns).to_parquet(file)
    return file.getvalue()


ROW = {"i": 1, "l": 2, "f": 1.5, "d": 2.5, "s": "x", "b": True}
ONE = {"a": 1}
REQUESTS = [
    # The forms, for columns
    ("two", split(["a", "b"], [1, 2.5])),
    ("two", split(["b", "a"], [1, 2.5])),
    ("two", split(["a", "b"], [1, 2], index=[7])),
    ("two", split(["a", "b"])),
    ("two", split(["a", "b", "c"], [1, 2, "z"])),
    ("two", split(["a", "b"], [1, 2, 3])),
    ("two", split(["a", "b", "b"], [1, 2, 3])),
    ("two", split(["a"], [1])),
    ("two", {"dataframe_split": {"data": [[1, 2]]}}),
    ("two", {"dataframe_split": {"columns": ["a", "b"]}}),
    ("two", split(["a", "b"], [1, 2], rows=1)),
    ("two", {"dataframe_split": 5}),
    ("two", records({"b": 1, "a": 2})),
    ("two", records({"a": 1}, {"b": 2})),
    ("two", records({"a": 1, "b": 2, "c": {"x": 1}})),
    ("two", records()),
    ("two", records(1, 2)),
    ("two", {"dataframe_records": ONE}),
    ("two", {"inputs": {"a": [1, 2], "b": [3, 4]}}),
    ("two", {"inputs": {"a": 1, "b": 2}}),
    ("two", {"inputs": {"a": [1], "b": [2, 3]}}),
    ("two", {"inputs": {"a": ["x"], "b": [2]}}),
    ("two", {"inputs": [{"a": 1, "b": 2}]}),
    ("two", {"inputs": [[1, 2]]}),
    ("two", {"inputs": []}),
    ("two", {"instances": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}),
    ("two", {"instances": [{"a": 1}, {"a": 3, "b": 4}]}),
    ("two", {"instances": {"a": [1], "b": [2]}}),
    ("mixed", split(list(ROW), list(ROW.values()))),
    ("mixed", records(ROW)),
    ("mixed", {"inputs": {name: [value] for name, value in ROW.items()}}),
    ("mixed", {"inputs": [ROW]}),
    ("optional", records({"a": 1})),
    ("optional", records({"a": 1, "b": None}, {"a": 2, "b": 3})),
    ("optional", records({"a": 1, "l": None})),
    ("optional", records({"b": 1})),
    ("unnamed", {"inputs": [[1, 2]]}),
    ("unnamed", split(["p", "q", "r"], [1, 2, 3])),
    ("unnamed", records({"p": 1})),
    ("text", {"inputs": ["a", "b"]}),
    ("text", {"inputs": "a"}),
    ("object", records({"o": {"q": 1}})),
    ("object", records({"o": {"z": 1}})),
    # Values
    ("two", split(["a", "b"], ["1", True], [None, 10**30])),
    ("two", split(["a", "b"], ["x", 1])),
    ("two", split(["a", "b"], [[1], 1])),
    ("two", b'{"dataframe_split": {"columns": ["a", "b"], "data": [[NaN, -Infinity], [1e400, -0.0]]}}'),
    ("long", split(["a"], [2.5])),
    ("long", split(["a"], ["3"])),
    ("long", split(["a"], [True])),
    ("long", split(["a"], [None])),
    ("long", split(["a"], [2**63])),
    ("long", {"inputs": {"a": [2.5, "3"]}}),
    ("long", {"inputs": {"a": [2**63]}}),
    ("integer", split(["a"], [2**31])),
    ("integer", {"inputs": {"a": [2**31]}}),
    ("float", split(["a"], [1e300], [0.1])),
    ("string", split(["a"], [5])),
    ("string", records({"a": None})),
    ("string", {"inputs": ["x", 5, None]}),
    ("boolean", split(["a"], ["false"], [None], [0.5])),
    ("times", split(["x", "t"], ["aGk=", "2020-01-02T03:04:05"])),
    ("times", split(["x", "t"], ["aGk=", None])),
    ("times", split(["x", "t"], ["aGk", "2020-01-02"])),
    ("times", split(["x", "t"], ["aGk=", "nonsense"])),
    ("times", split(["x", "t"], ["aGk=", "2020-01-02T03:04:05Z"])),
    # Arrays
    ("matrix", {"inputs": [[1, 2], [3, 4.5]]}),
    ("matrix", {"instances": [["1", None]]}),
    ("matrix", {"inputs": [1, 2]}),
    ("matrix", {"inputs": [[1, 2], [3]]}),
    ("matrix", {"inputs": []}),
    ("matrix", {"inputs": {"x": [[1, 2]]}}),
    ("matrix", records({"a": 1, "b": 2})),
    ("bytes", {"inputs": [0, 255]}),
    ("bytes", {"inputs": [256]}),
    ("bytes", {"inputs": [-1]}),
    ("tensors", {"inputs": {"y": [3.5], "x": [[1, 2]], "z": [1]}}),
    ("tensors", {"inputs": {"x": [[1, 2]]}}),
    ("tensors", {"instances": [{"x": [1, 2], "y": 3}]}),
    ("tensors", records({"x": [1, 2], "y": 3})),
    # Without a signature
    ("none", split(["a"], [1], ["x"])),
    ("none", records({"a": 1, "b": "x"}, {"a": None})),
    ("none", {"inputs": [[1, 2.5]]}),
    ("none", {"inputs": {"x": [1], "y": ["a"]}}),
    ("none", {"inputs": [{"x": 1, "y": "a"}]}),
    ("none", {"inputs": [{"a": 1}, 2]}),
    ("none", {"inputs": [1, "a", None]}),
    ("none", {"inputs": [[1], [2, 3]]}),
    ("none", {"inputs": None}),
    ("none", {"inputs": [2**70]}),
    ("none", {"instances": [{"x": 1, "y": [1, 2]}, {"x": 2, "y": [3, 4]}]}),
    ("none", {"instances": {"a": 1}}),
    ("none", {"prompt": "hi", "k": 3}),
    ("none", {"messages": [{"role": "user"}], "inputs": [1]}),
    # Documents
    ("none", {}),
    ("none", b"[]"),
    ("none", b"null"),
    ("none", b"{"),
    ("none", b""),
    ("none", {"inputs": [1], "instances": [1]}),
    ("none", {"inputs": [1], "other": 2}),
    ("none", b'{"inputs": [1], "inputs": [2]}'),
    ("none", b'{"inputs": [1]} x'),
    ("none", b'{"inputs": ["\xff"]}'),
    ("none", b'\xef\xbb\xbf{"inputs": [1]}'),
    ("none", b'{"inputs": ["\\ud800"]}'),
    ("none", b'{"inputs": ' + b"[" * 100_000),
    ("none", b'{"inputs": [' + b"9" * 5000 + b"]}"),
    # Params
    ("params", {"inputs": {"a": [1]}}),
    ("params", records(ONE, params={"k": 3, "t": 1, "w": ["z"], "other": 1})),
    ("params", records(ONE, params=None)),
    ("params", records(ONE, params={"k": None})),
    ("params", records(ONE, params={"k": "x"})),
    ("params", records(ONE, params={"k": 1.5})),
    ("params", records(ONE, params={"w": "z"})),
    ("params", records(ONE, params=[1])),
    ("params", records({"b": 1}, params={"k": "x"})),
    ("two", records({"a": 1, "b": 2}, params={"k": 1})),
    ("only params", {"inputs": [1], "params": {"k": 2}}),
    ("only params", {"prompt": "hi", "k": 2}),
    ("only params", {"prompt": "hi", "k": "x"}),
    # CSV and Parquet
    ("two", b"b,a,c\n1,2,x\n,4,y\n", CSV),
    ("two", b"a,b\n1,x\n", CSV),
    ("two", b"a\n1\n", CSV),
    ("two", b"", CSV),
    ("long", b"a\n2.5\n", CSV),
    ("string", b"a\n007\nNA\n", CSV),
    ("boolean", b"a\nTrue\nfalse\n", CSV),
    ("times", b"x,t\naGk=,2020-01-02\n", CSV),
    ("none", b"a,b\n1,x\n2,\n", CSV),
    ("none", b"a\n\xff\n", CSV),
    ("none", b"a,b\n1,2,3\n1,2,3,4,5\n", CSV),
    ("unnamed", b"a,b\n1,2\n", CSV),
    ("matrix", b"a,b\n1,2\n", CSV),
    ("params", b"a\n1\n", CSV),
    ("two", parquet(a=[1.5], b=[2.5]), PARQUET),
    ("two", parquet(a=[5], b=[2.5]), PARQUET),
    ("none", b"junk", PARQUET),
    # Content types
    ("none", {"inputs": [1]}, "application/json; charset=UTF-8"),
    ("none", {"inputs": [1]}, "application/json ; charset=utf-8 "),
    ("none", {"inputs": [1]}, "application/json;"),
    ("none", {"inputs": [1]}, "application/json; charset=latin-1"),
    ("none", {"inputs": [1]}, "application/json; format=pandas-split"),
    ("none", {"inputs": [1]}, "Application/JSON"),
    ("none", {"inputs": [1]}, "text/plain"),
    ("none", {"inputs": [1]}, None),
]

OUTPUTS = {
    "frame": lambda: pandas.DataFrame({"a": [1.5, float("nan")], "b": ["x", "y"]}, index=[3, 4]),
    "frame of times": lambda: pandas.DataFrame({"t": pandas.to_datetime(["2020-01-01", None])}),
    "frame without names": lambda: pandas.DataFrame([[1, 2]]),
    "frame of nullable integers": lambda: pandas.DataFrame({"a": pandas.array([1, None], dtype="Int64")}),
    "series": lambda: pandas.Series([1, 2], name="q"),
    "floats": lambda: numpy.array([[1.5, numpy.nan], [numpy.inf, -numpy.inf]]),
    "float32": lambda: numpy.array([0.1, 1e10, 1e-7], "float32"),
    "integers": lambda: numpy.array([1, 2], "int32"),
    "unsigned": lambda: numpy.array([2**64 - 1], "uint64"),
    "flags": lambda: numpy.array([True, False]),
    "strings": lambda: numpy.array(["a", "b"]),
    "objects": lambda: numpy.array(["a", 1, None, numpy.float64(2.5)], dtype=object),
    "days": lambda: numpy.array(["2020-01-01"], "datetime64[D]"),
    "bytes": lambda: [b"hi\xff", numpy.array([b"hi"])],
    "scalar": lambda: numpy.float32(0.1),
    "single": lambda: numpy.array(5.0),
    "empty": lambda: numpy.zeros((0, 3)),
    "list": lambda: [1.5, float("nan"), None, True, "é\ud800", 2**70, (1, 2)],
    "dict": lambda: {"a": numpy.array([1.5]), 1: 2, None: 3},
    "nothing": lambda: None,
    "set": lambda: {1},
    "generator": lambda: (each for each in [1]),
    "complex": lambda: numpy.array([1j]),
    "tuple as key": lambda: {(1, 2): 3},
    "table inside": lambda: [pandas.DataFrame({"a": [1]})],
    "object": lambda: object(),
    "error": lambda: int("x"),
}


def described(value):
    """A value and its types as JSON; text is one type, whatever a release of pandas calls it."""
    if isinstance(value, pandas.DataFrame):
        dtypes = ["text" if str(each) in ("object", "str") else str(each) for each in value.dtypes]
        columns = [described(value[name].tolist()) for name in value.columns]
        return ["table", [str(name) for name in value.columns], [str(each) for each in value.index], dtypes, columns]
    if isinstance(value, numpy.ndarray):
        return ["array", str(value.dtype), list(value.shape), described(value.tolist())]
    if isinstance(value, dict):
        return {str(name): described(each) for name, each in value.items()}
    if isinstance(value, list):
        return [described(each) for each in value]
    if isinstance(value, numpy.generic):
        value = value.item()
    return f"{type(value).__name__} {value!r}"


def echo(data, params):
    """The model that the requests are sent to: it answers what it got."""
    return {"data": described(data), "params": described(params or {})}


def bodies():
    """Every request as (signature, body in bytes, content type)."""
    for signature, body, *content_type in REQUESTS:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        yield signature, text, *(content_type or [JSON])


async def ask(app, body, content_type):
    answer = {"status": None, "body": b""}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answer["status"] = message.get("status", answer["status"])
        answer["body"] += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/invocations",
        "raw_path": b"/invocations",
        "query_string": b"",
        "headers": [] if content_type is None else [(b"content-type", content_type.encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    try:
        await app(scope, receive, send)
    except Exception:  # starlette answers 500, and then raises what the application raised
        assert answer["status"] == 500
    return [answer["status"], base64.b64encode(answer["body"]).decode()]


def main():
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import scoring_server

    class Echo(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return echo(model_input, params)

    class Giver(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return OUTPUTS[str(model_input[0])]()

    def application(model, signature=None):
        parts = {"inputs": None, "outputs": None, "params": None, **(signature or {})}
        texts = {name: None if part is None else json.dumps(part) for name, part in parts.items()}
        with tempfile.TemporaryDirectory() as folder:
            mlflow.pyfunc.save_model(
                folder + "/model",
                python_model=model,
                signature=ModelSignature.from_dict(texts) if signature else None,
                pip_requirements=["mlflow"],
            )
            return scoring_server.init(mlflow.pyfunc.load_model(folder + "/model"))

    apps = {name: application(Echo(), signature) for name, signature in SIGNATURES.items()}
    giver = application(Giver())
    results = {
        "requests": [asyncio.run(ask(apps[name], body, content_type)) for name, body, content_type in bodies()],
        "outputs": {name: asyncio.run(ask(giver, json.dumps({"inputs": [name]}).encode(), JSON)) for name in OUTPUTS},
    }
    with open(sys.argv[1], "w") as file:
        json.dump(results, file)


if __name__ == "__main__":
    main()
