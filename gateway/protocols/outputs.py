"""What a model returned as named tensors, and those as the body of an answer, in JSON or in raw bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from gateway.errors import BadRequest
from gateway.protocols.inputs import TENSOR_DATATYPES, described
from gateway.protocols.tensors import Asked
from gateway.worker import elements
from gateway.worker.frames import Payload

UNNAMED = "predict"
MIN_INT64, MAX_INT64, MAX_UINT64 = -(2**63), 2**63 - 1, 2**64 - 1
WHOLE = ("INT64", "INT32", "INT16", "INT8", "UINT64", "UINT32", "UINT16", "UINT8")

_encode = msgspec.json.Encoder().encode


class Output(NamedTuple):
    """One tensor of an answer: raw numbers in *buffer*, or its elements in *values*."""

    name: str
    datatype: str
    shape: list[int]
    buffer: bytes | bytearray | memoryview | None = None
    values: Sequence[Any] = ()

    def in_json(self) -> Sequence[Any]:
        """Its elements; those that JSON has no number for become null when they are written."""
        return self.values if self.buffer is None else _unpacked(self.datatype, self.buffer)

    def in_binary(self) -> bytes | bytearray | memoryview:
        """Its elements as the binary tensor data extension sends them."""
        if self.buffer is not None:
            return self.buffer
        if self.datatype == elements.BYTES:
            return elements.joined([(each or "").encode("utf-8", "surrogatepass") for each in self.values])
        return elements.packed(list(self.values), self.datatype)


class Outputs:
    """Makes answers of one version, with the names and datatypes of its signature."""

    def __init__(self, signature: Mapping[str, Any]) -> None:
        specs = signature.get("outputs") or []
        self._names = [each["name"] for each in described(specs, UNNAMED)]
        self._datatypes = {each["name"]: each["datatype"] for each in described(specs, UNNAMED)}
        self._alone = self._names[0] if len(self._names) == 1 else UNNAMED

    def body(self, answer: Payload, asked: Asked, head: dict[str, Any]) -> tuple[bytes, int | None]:
        """The answer's body, and the length of its JSON where raw bytes follow. Raises `BadRequest`."""
        outputs = self.of(answer)
        if asked.outputs is not None:
            outputs = _selected(outputs, asked.outputs)
        wanted = asked.outputs or {}
        described_outputs, raw = [], []
        for each in outputs:
            entry: dict[str, Any] = {"name": each.name, "datatype": each.datatype, "shape": each.shape}
            in_binary = wanted.get(each.name)
            if asked.is_binary if in_binary is None else in_binary:
                raw.append(each.in_binary())
                entry["parameters"] = {"binary_data_size": memoryview(raw[-1]).nbytes}
            else:
                entry["data"] = each.in_json()
            described_outputs.append(entry)
        text = _text({**head, "outputs": described_outputs})
        return (b"".join((text, *raw)), len(text)) if raw else (text, None)

    def of(self, answer: Payload) -> list[Output]:
        """The tensors of an answer, whatever the model returned."""
        meta = answer.meta
        if meta["kind"] == "tensor":
            return self._of_array(TENSOR_DATATYPES[meta["dtype"]], meta["shape"], answer.buffers[0])
        returned = json.loads(bytes(answer.buffers[0]))
        if isinstance(returned, list) and returned and all(type(each) is dict for each in returned):
            names = dict.fromkeys(chain.from_iterable(returned))
            return [self._of_values(name, [row.get(name) for row in returned]) for name in names] or [
                self._of_values(self._alone, returned)
            ]
        if isinstance(returned, dict) and returned:
            return [self._of_values(name, value) for name, value in returned.items()]
        return [self._of_values(self._alone, returned)]

    def _of_array(self, datatype: str, shape: list[int], buffer: bytes | bytearray | memoryview) -> list[Output]:
        width = len(self._names)
        if width < 2 or len(shape) != 2 or shape[1] != width:
            return [Output(self._alone, datatype, shape, buffer)]
        code: Any = elements.NUMBERS[datatype].code.replace("e", "H")
        view = memoryview(buffer).cast("B").cast(code)
        return [Output(name, datatype, shape[:1], view[at::width].tobytes()) for at, name in enumerate(self._names)]

    def _of_values(self, name: str, returned: Any) -> Output:
        shape, flat = _regular(returned)
        declared = self._datatypes.get(name, "")
        datatype = _datatype(flat, declared)
        if datatype is not None:
            return Output(name, datatype, shape, values=flat)
        # No one type fits: each entry as JSON, so that nothing of it is lost.
        entries = returned if isinstance(returned, list) else [returned]
        return Output(name, elements.BYTES, [len(entries)], values=[json.dumps(each) for each in entries])


def _text(document: Any) -> bytes:
    try:
        return _encode(document)
    except UnicodeEncodeError:  # half a character, which a model may return and UTF-8 cannot say
        return _encode(_mended(document))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list | tuple) else value


def _selected(outputs: list[Output], wanted: Mapping[str, Any]) -> list[Output]:
    by_name = {each.name: each for each in outputs}
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise BadRequest(
            f"The model has no output {', '.join(repr(name[:60]) for name in unknown[:10])}; "
            f"it has: {', '.join(name[:60] for name in list(by_name)[:30])}."
        )
    return [by_name[name] for name in wanted]


def _unpacked(datatype: str, buffer: bytes | bytearray | memoryview) -> Sequence[Any]:
    number = elements.NUMBERS[datatype]
    raw = memoryview(buffer).cast("B")
    if number.code == "e":  # which a memoryview does not know
        return struct.unpack(f"<{len(raw) // number.size}e", raw)
    code: Any = number.code
    return raw.cast(code).tolist()


def _regular(returned: Any) -> tuple[list[int], list[Any]]:
    """The shape and the elements of nested lists, as far as all of one depth have one length; a value alone is [1]."""
    if not isinstance(returned, list):
        return [1], [returned]
    shape, level = [len(returned)], returned
    while level and all(type(each) is list for each in level) and len({*map(len, level)}) == 1:
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    return shape, level


def _datatype(flat: Sequence[Any], declared: str) -> str | None:
    """The datatype that holds all of them, the declared one where it does; None where none does."""
    kinds = {*map(type, flat)}
    if not kinds:
        return declared or "FP64"
    if kinds == {bool}:
        return "BOOL"
    if kinds <= {str, type(None)} and (str in kinds or declared == elements.BYTES):
        return elements.BYTES
    if kinds == {int} and not declared.startswith("FP"):
        return _whole(flat, declared)
    if kinds <= {int, float, type(None)}:
        return _fraction(flat, declared)
    return None


def _whole(flat: Sequence[int], declared: str) -> str | None:
    low, high = min(flat), max(flat)
    if declared in WHOLE:
        bits = elements.NUMBERS[declared].size * 8
        least, most = (0, 2**bits - 1) if declared.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        if least <= low and high <= most:
            return declared
    if low >= MIN_INT64 and high <= MAX_INT64:
        return "INT64"
    return "UINT64" if low >= 0 and high <= MAX_UINT64 else None


def _fraction(flat: Sequence[Any], declared: str) -> str | None:
    numbers = [each for each in flat if each is not None]
    if any(type(each) is int and abs(each) > 2**53 for each in numbers):
        return None
    if declared == "FP32" and all(math.isnan(each) or _is_single(each) for each in numbers):
        return declared
    return "FP64"


def _is_single(number: float) -> bool:
    try:
        return bool(struct.unpack("<f", struct.pack("<f", number))[0] == number)
    except OverflowError:
        return False
