"""Bodies of the Open Inference Protocol v2: a JSON object, and behind it the tensors that came as raw bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, NoReturn

import msgspec
from msgspec import UNSET, Meta, UnsetType

from gateway.errors import BadRequest
from gateway.worker import elements

HEADER_LENGTH = b"inference-header-content-length"
MAX_RANK = 32
MAX_INPUTS = 10_000
# What is longer is left to the replica, where it holds up no other endpoint.
MAX_READ_BYTES = 1 << 20
MAX_TEXT_BYTES = 64 << 10  # of which each is cut and decoded by itself

Size = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Parameters = dict[str, Any]


class Tensor(NamedTuple):
    """One input: raw numbers in C order, or what `elements.read` makes of the buffer where *how* says so."""

    name: str
    datatype: str
    shape: list[int]
    buffer: bytes | memoryview
    dtype: str  # its name in a payload
    how: str | None = None


class Asked(NamedTuple):
    """What the client wants to have back: its id, and which outputs; None: all, and none in binary."""

    id: str | None = None
    outputs: dict[str, bool | None] | None = None  # whether it is wanted in binary, where that was said
    is_binary: bool = False


class Inference(NamedTuple):
    """One request, read."""

    tensors: list[Tensor]
    parameters: Parameters
    asked: Asked


class _Input(msgspec.Struct, gc=False):
    name: str
    shape: Annotated[list[Size], Meta(max_length=MAX_RANK)]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw | UnsetType = UNSET


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: Parameters | None = None


class _Request(msgspec.Struct, gc=False):
    inputs: Annotated[list[_Input], Meta(min_length=1, max_length=MAX_INPUTS)]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Request).decode
_values = msgspec.json.Decoder().decode


def read(headers: Mapping[bytes, bytes], body: bytes) -> Inference:
    """The request in a body. Raises `BadRequest` with what is wrong with it, never with its data."""
    header_length = _header_length(headers, body)
    try:
        request = _decode(memoryview(body)[:header_length])
    except RecursionError:
        raise BadRequest("The request's JSON is nested too deeply.") from None
    except ValueError as problem:  # msgspec's are all of them
        raise BadRequest(f"The body is no inference request of the Open Inference Protocol v2: {problem}.") from None
    _refuse_twins(request.inputs)
    reader = _Reader(memoryview(body), header_length)
    tensors = [reader.tensor(each) for each in request.inputs]
    reader.finish()
    return Inference(tensors, request.parameters or {}, _asked(request))


def is_raw(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the whole body is the raw bytes of the only input, without any JSON."""
    return headers.get(HEADER_LENGTH) == b"0"


class _Reader:
    """Takes the inputs' data out of a body, in their order."""

    def __init__(self, body: memoryview, header_length: int) -> None:
        self._body = body
        self._position = header_length
        self._is_large = header_length > MAX_READ_BYTES

    def tensor(self, given: _Input) -> Tensor:
        name, datatype = given.name, given.datatype
        if datatype != elements.BYTES and datatype not in elements.NUMBERS:
            _refuse(name, f"has the datatype {datatype[:40]!r}; there are {', '.join(elements.NUMBERS)} and BYTES")
        size = (given.parameters or {}).get("binary_data_size")
        if size is not None:
            if given.data is not UNSET:
                _refuse(name, "has both 'data' and 'binary_data_size'; send one of them")
            return binary(name, datatype, given.shape, self._take(name, size))
        if given.data is UNSET:
            _refuse(name, "has no data: send 'data', or the parameter 'binary_data_size' and the bytes after the JSON")
        tensor = Tensor(name, datatype, given.shape, bytes(given.data), _dtype(datatype), "json")
        return tensor if self._is_large or datatype == elements.BYTES else _numbers(tensor)

    def finish(self) -> None:
        left = len(self._body) - self._position
        if left:
            raise BadRequest(
                f"{left} bytes are left over behind the inputs: the values of binary_data_size, or the header "
                "Inference-Header-Content-Length, do not fit the body."
            )

    def _take(self, name: str, size: Any) -> memoryview:
        start = self._position
        if type(size) is not int or not 0 <= size <= len(self._body) - start:
            _refuse(name, f"has the binary_data_size {str(size)[:40]}, but {len(self._body) - start} bytes are there")
        self._position += size
        return self._body[start : self._position]


def binary(name: str, datatype: str, shape: list[int], buffer: memoryview) -> Tensor:
    """A tensor that came as raw bytes. Raises `BadRequest` where they are not of its shape."""
    if datatype == elements.BYTES:
        return Tensor(name, datatype, shape, buffer, "str", "bytes")
    wanted = elements.NUMBERS[datatype].size * math.prod(shape)
    if len(buffer) != wanted:
        _refuse(name, f"has {len(buffer)} bytes, but {datatype} of shape {shape} takes {wanted}")
    if datatype == "BOOL" and bytes(buffer).translate(None, b"\0\1"):
        _refuse(name, "holds bytes other than 0 and 1, but is BOOL")
    return Tensor(name, datatype, shape, buffer, _dtype(datatype))


def texts(tensor: Tensor, dtype: str = "str") -> Tensor:
    """A BYTES tensor as texts, or for *dtype* `bytes` as those; read here where it is small. Raises `BadRequest`."""
    if tensor.how is None or len(tensor.buffer) > MAX_TEXT_BYTES:
        return tensor._replace(dtype=dtype)
    try:
        buffer = elements.read(tensor.how, tensor.datatype, tensor.shape, tensor.buffer, dtype)
    except ValueError as problem:
        _refuse(tensor.name, str(problem))
    return tensor._replace(buffer=buffer, dtype=dtype, how=None)


def _numbers(tensor: Tensor) -> Tensor:
    """Read here, by a quicker parser than a replica is sure to have."""
    try:
        values = elements.flattened(_values(tensor.buffer), tensor.shape)
        return tensor._replace(buffer=elements.packed(values, tensor.datatype), how=None)
    except RecursionError:
        _refuse(tensor.name, "has data that is nested too deeply")
    except ValueError as problem:
        _refuse(tensor.name, str(problem))


def _dtype(datatype: str) -> str:
    return "str" if datatype == elements.BYTES else elements.NUMBERS[datatype].dtype


def _header_length(headers: Mapping[bytes, bytes], body: bytes) -> int:
    announced = headers.get(HEADER_LENGTH)
    if announced is None:
        return len(body)
    if not announced.isdigit() or len(announced) > 18 or int(announced) > len(body):
        raise BadRequest(
            f"Inference-Header-Content-Length is {announced[:40].decode('latin-1')!r}, which is no length of a JSON "
            f"object at the start of a body of {len(body)} bytes."
        )
    return int(announced)


def _refuse_twins(inputs: list[_Input]) -> None:
    seen: set[str] = set()
    for each in inputs:
        if each.name in seen:
            raise BadRequest(f"Two inputs are called {each.name[:100]!r}; each may come once.")
        seen.add(each.name)


def _asked(request: _Request) -> Asked:
    is_binary = _flag(request.parameters, "binary_data_output", "the request")
    outputs = None
    if request.outputs:
        outputs = {
            each.name: _flag(each.parameters, "binary_data", f"output {each.name[:100]!r}") for each in request.outputs
        }
        for each in request.outputs:
            if each.parameters and each.parameters.get("classification"):
                raise BadRequest(
                    f"Output {each.name[:100]!r} is asked for with 'classification', which is not offered."
                )
    return Asked(request.id, outputs, bool(is_binary))


def _flag(parameters: Parameters | None, name: str, whose: str) -> bool | None:
    value = (parameters or {}).get(name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"The parameter {name!r} of {whose} must be true or false.")
    return value


def _refuse(name: str, problem: str) -> NoReturn:
    raise BadRequest(f"Input {name[:100]!r} {problem}.")
