"""MLflow's scoring protocol in the ingress: clean bodies to raw numbers, answers to JSON, without pandas.

The ingress reads only bodies of exactly the signature's types, on which its reading and the replica's
(`gateway/worker/scoring.py`, MLflow's whole semantics) give the same model input. Everything else, right or wrong,
goes to the replica as it came.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec

from gateway.errors import UnsupportedMediaType
from gateway.protocols import clean
from gateway.worker.frames import Payload

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
MAX_PARSED_BYTES = 1 << 20

_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=256)
def media_type(content_type: str | bytes | None) -> str:
    """The content type without its parameters. Raises `UnsupportedMediaType` as MLflow refuses it."""
    if content_type is None:
        raise UnsupportedMediaType(f"The request has no Content-Type; send one of {JSON}, {CSV}, {PARQUET}.")
    text = content_type.decode("latin-1") if isinstance(content_type, bytes) else content_type
    mime, *pairs = (part.strip() for part in text.split(";"))
    parameters = {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
    if parameters.pop("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType("The body's charset must be utf-8.")
    if parameters:
        names = ", ".join(sorted(parameters))[:200]
        raise UnsupportedMediaType(f"Content-Type may have no parameter but charset=utf-8; found: {names}.")
    if mime not in (JSON, CSV, PARQUET):
        raise UnsupportedMediaType(f"Content-Type must be one of {JSON}, {CSV}, {PARQUET}; got {text[:200]!r}.")
    return mime


class MlflowDialect:
    """Reads and writes bodies for one loaded version; built once from its signature, None where it has none."""

    def __init__(self, signature: dict[str, Any] | None) -> None:
        self._reader = clean.reader(signature or {})

    def decode(self, content_type: str | bytes | None, body: bytes) -> Payload:
        """The payload to send to a replica. Raises `UnsupportedMediaType`; what is in the body never raises."""
        mime = media_type(content_type)
        if self._reader is not None and mime == JSON and len(body) <= MAX_PARSED_BYTES:
            try:
                payload = self._reader(body)
            except clean.NOT_CLEAN:
                payload = None
            if payload is not None:
                return payload
        return Payload({"kind": "body", "content_type": mime}, (body,))

    def encode(self, answer: Payload) -> bytes:
        """The reply's body: `{"predictions": ...}`, or the answer itself where it is marked as whole."""
        meta = answer.meta
        if meta["kind"] == "tensor":
            return b"".join((b'{"predictions": ', _numbers(meta, answer.buffers[0]), b"}"))
        if meta.get("whole"):
            return bytes(answer.buffers[0])
        return b"".join((b'{"predictions": ', answer.buffers[0], b"}"))


def _numbers(meta: dict[str, Any], buffer: bytes | bytearray | memoryview) -> bytes:
    shape = meta["shape"]
    if 0 in shape:
        return _encode(_empty(shape))
    dtype = meta["dtype"]
    if dtype == "float16":  # which a memoryview does not know
        halves = struct.unpack(f"<{memoryview(buffer).nbytes // 2}e", buffer)
        dtype, buffer = "float64", struct.pack(f"<{len(halves)}d", *halves)
    code: Any = clean.CODES[dtype]
    values = memoryview(buffer).cast("B").cast(code, shape).tolist()
    text = _encode(values)
    # msgspec writes null for what JSON has no number for; MLflow writes NaN and Infinity, and so does json.
    return json.dumps(values).encode() if b"null" in text else text


def _empty(shape: Sequence[int]) -> list[Any]:
    return [_empty(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else [None] * shape[0]
