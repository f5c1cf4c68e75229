"""The elements of Open Inference Protocol tensors: JSON values and length-prefixed bytes to raw numbers and texts.

The ingress reads small tensors with it and the replica large ones. The file stands alone and runs on Python 3.9.
"""

import base64
import json
import math
import struct
from itertools import chain
from typing import Any, Dict, List, NamedTuple, Sequence


class Datatype(NamedTuple):
    """How numpy and struct call the numbers of a datatype, and how many bytes one takes."""

    dtype: str
    code: str
    size: int


NUMBERS = {
    "BOOL": Datatype("bool", "?", 1),
    "INT8": Datatype("int8", "b", 1),
    "INT16": Datatype("int16", "h", 2),
    "INT32": Datatype("int32", "i", 4),
    "INT64": Datatype("int64", "q", 8),
    "UINT8": Datatype("uint8", "B", 1),
    "UINT16": Datatype("uint16", "H", 2),
    "UINT32": Datatype("uint32", "I", 4),
    "UINT64": Datatype("uint64", "Q", 8),
    "FP16": Datatype("float16", "e", 2),
    "FP32": Datatype("float32", "f", 4),
    "FP64": Datatype("float64", "d", 8),
}
BYTES = "BYTES"
PREFIX = struct.Struct("<I")

_JSON_NAMES = {
    bool: "true or false",
    int: "whole numbers",
    float: "fractions",
    str: "text",
    type(None): "null",
    list: "lists",
    dict: "objects",
}


def count_of(shape: Sequence[int]) -> int:
    """How many elements a tensor of that shape has."""
    return math.prod(shape)


def read(how: str, datatype: str, shape: Sequence[int], buffer: Any, dtype: str) -> bytes:
    """A payload's buffer for a tensor as its client sent it: *how* is `json`, or `bytes` with a length before each.

    Raw numbers; for BYTES a JSON array of texts, or where *dtype* is `bytes` of their base64. Raises ValueError with
    what is wrong, as the rest of a sentence that begins with the tensor's name.
    """
    if datatype != BYTES:
        return packed(flattened(_parsed(buffer), shape), datatype)
    texts = _texts(buffer, shape) if how == "json" else split(buffer, count_of(shape))
    try:
        return json.dumps([_base64(each) for each in texts] if dtype == "bytes" else list(map(_text, texts))).encode()
    except UnicodeError:
        raise ValueError("holds what is no UTF-8 text") from None


def flattened(values: Any, shape: Sequence[int]) -> List[Any]:
    """The elements in row order of data that is flat already, or nested as *shape* says. Raises ValueError."""
    if not isinstance(values, list):
        raise ValueError(f"has data that is {_JSON_NAMES.get(type(values), 'no list')}; send a list")
    level: List[Any] = values
    if len(shape) > 1 and values and isinstance(values[0], list):
        level = [values]
        for size in shape:
            if any(type(each) is not list or len(each) != size for each in level):
                raise ValueError(f"has data that is not nested as its shape {list(shape)} says")
            level = list(chain.from_iterable(level))
    if len(level) != count_of(shape):
        raise ValueError(f"has {len(level)} elements, but its shape {list(shape)} has {count_of(shape)}")
    return level


def packed(elements: List[Any], datatype: str) -> bytes:
    """Raw little-endian numbers; null is a missing number where there can be one. Raises ValueError."""
    code = NUMBERS[datatype].code
    if code in "efd":
        _check_kinds(elements, {int, float, type(None)}, datatype)
        if None in elements:
            elements = [math.nan if each is None else each for each in elements]
    else:
        _check_kinds(elements, {bool if code == "?" else int}, datatype)
    try:
        return struct.pack(f"<{len(elements)}{code}", *elements)
    except (struct.error, OverflowError):
        raise ValueError(f"holds a number that {datatype} cannot hold") from None


def split(buffer: Any, count: int) -> List[bytes]:
    """The *count* elements of a BYTES tensor, each with its length before it in four bytes. Raises ValueError."""
    whole, position = bytes(buffer), 0
    elements: List[bytes] = []
    while position < len(whole) and len(elements) < count:
        start = position + PREFIX.size
        if start > len(whole):
            break
        position = start + PREFIX.unpack_from(whole, start - PREFIX.size)[0]
        elements.append(whole[start:position])
    if position != len(whole) or len(elements) != count:
        raise ValueError(
            f"is not {count} elements with a length of four bytes (little-endian) before each: "
            f"{len(elements)} elements end at byte {position} of {len(whole)}"
        )
    return elements


def joined(elements: Sequence[bytes]) -> bytes:
    """What `split` splits."""
    return b"".join(chain.from_iterable((PREFIX.pack(len(each)), each) for each in elements))


def _texts(buffer: Any, shape: Sequence[int]) -> List[Any]:
    texts = flattened(_parsed(buffer), shape)
    _check_kinds(texts, {str, type(None)}, BYTES)
    return texts


def _text(element: Any) -> Any:
    return element.decode() if isinstance(element, bytes) else element


def _base64(element: Any) -> Any:
    if element is None:
        return None
    return base64.b64encode(element.encode() if isinstance(element, str) else element).decode()


def _parsed(buffer: Any) -> Any:
    try:
        return json.loads(bytes(buffer))
    except RecursionError:
        raise ValueError("has data that is nested too deeply") from None
    except ValueError as problem:
        raise ValueError(f"has data that is no JSON: {problem}") from None


def _check_kinds(elements: List[Any], allowed: Any, datatype: str) -> None:
    over = set(map(type, elements)) - allowed
    if over:
        names: Dict[Any, str] = _JSON_NAMES
        found = " and ".join(sorted(names.get(each, each.__name__) for each in over))
        wanted = " or ".join(sorted(names[each] for each in allowed))
        raise ValueError(f"holds {found}, but {datatype} takes {wanted}")
