"""Requests of the Open Inference Protocol v2, built as a client builds them, and what a model gets of them."""

import json

from gateway.protocols.v2 import V2Dialect
from gateway.worker import elements, tables
from gateway.worker.frames import Payload
from registry.models import enforcement

DATATYPES = {each.dtype: name for name, each in elements.NUMBERS.items()} | {"object": "BYTES"}


def column(name, kind, required=True, **more):
    return {"type": kind, "required": required} | ({"name": name} if name else {}) | more


def tensor(dtype, shape, name=None):
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}} | ({"name": name} if name else {})


def given(name, array, binary=False, raw=None):
    """One input and the bytes that stand behind the JSON for it; *raw* in the place of its own."""
    described = {"name": name, "datatype": DATATYPES[array.dtype.name], "shape": list(array.shape)}
    if not binary:
        return {**described, "data": array.tolist()}, b""
    if raw is None:
        texts = array.dtype == object
        raw = elements.joined([each.encode() for each in array.ravel()]) if texts else array.tobytes()
    return {**described, "parameters": {"binary_data_size": len(raw)}}, raw


def encoded(inputs, padding=0, **more):
    """The body and its headers, with so many spaces in the JSON as make it large."""
    text = json.dumps({"inputs": [each for each, _ in inputs], **more}).encode() + b" " * padding
    raw = b"".join(raw for _, raw in inputs)
    return text + raw, {b"inference-header-content-length": b"%d" % len(text)} if raw else {}


def received(payload):
    """The payload as a replica gets it: its meta has been JSON."""
    return Payload(json.loads(json.dumps(payload.meta)), payload.buffers)


def read(signature, inputs, padding=0, **more):
    """What the model gets."""
    body, headers = encoded(inputs, padding, **more)
    payload = received(V2Dialect(signature).decode(headers, body)[0])
    return tables.Scorer(signature, enforcement).read(payload.meta, payload.buffers).data
