"""Several requests as one call: payloads joined row by row, and answers cut apart again. Both ends use this file.

The file stands alone and runs on Python 3.9.
"""

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

ITEM_BYTES = {
    **dict.fromkeys(("float64", "int64", "uint64"), 8),
    **dict.fromkeys(("float32", "int32", "uint32"), 4),
    **dict.fromkeys(("int16", "uint16"), 2),
    **dict.fromkeys(("int8", "uint8", "bool"), 1),
}

Meta = Dict[str, Any]
Buffers = Sequence[Any]


def key(meta: Meta) -> Optional[Tuple[Any, ...]]:
    """Equal for payloads that may become one call, None for one that stays alone.

    Columns, types and params that differ are never mixed.
    """
    if "unread" in meta:
        return None
    params = json.dumps(meta["params"], sort_keys=True) if "params" in meta else None
    if meta["kind"] == "table":
        return (*meta["columns"], *meta["dtypes"], meta.get("packed", False), params)
    if meta["kind"] == "tensor" and meta["shape"]:
        return (meta["dtype"], *meta["shape"][1:], params)
    return None


def rows(meta: Meta) -> int:
    """How many rows a table or a tensor has."""
    count: int = meta["rows"] if meta["kind"] == "table" else meta["shape"][0]
    return count


def join(payloads: Sequence[Tuple[Any, ...]]) -> Tuple[Meta, List[bytes]]:
    """One payload of all rows in order; `parts` in its meta says how many each of *payloads* had.

    Each begins with its meta and its buffers; all have the same `key`.
    """
    sizes = [rows(each[0]) for each in payloads]
    meta = dict(payloads[0][0], parts=sizes)
    if meta["kind"] == "table":
        meta["rows"] = sum(sizes)
    else:
        meta["shape"] = [sum(sizes), *meta["shape"][1:]]
    columns = zip(*(each[1] for each in payloads))
    texts = [dtype == "str" for dtype in meta["dtypes"]] if meta["kind"] == "table" else [False]
    return meta, [_join_texts(each) if is_text else b"".join(each) for each, is_text in zip(columns, texts)]


def part(meta: Meta, buffers: Buffers, start: int, stop: int) -> Tuple[Meta, List[Any]]:
    """The rows from *start* to before *stop*, as a payload of their own."""
    own = {name: value for name, value in meta.items() if name not in ("parts", "sizes")}
    if meta["kind"] == "tensor":
        own["shape"] = [stop - start, *meta["shape"][1:]]
        return own, [_rows_of(buffers[0], meta["shape"][0], start, stop)]
    own["rows"] = stop - start
    if meta.get("packed"):
        return own, [_rows_of(buffers[0], meta["rows"], start, stop)]
    return own, [
        json.dumps(json.loads(bytes(buffer))[start:stop]).encode()
        if dtype == "str"
        else _rows_of(buffer, meta["rows"], start, stop)
        for buffer, dtype in zip(buffers, meta["dtypes"])
    ]


def cut(meta: Meta, buffers: Buffers, sizes: Sequence[int]) -> List[Tuple[Meta, List[Any]]]:
    """The answer to a joined payload as one answer for each part.

    An array with one entry a row is cut here; anything else, and whatever has an error in it, comes in parts.
    """
    if meta["kind"] == "parts":
        left = iter(buffers)
        return [(each, [next(left)] if each["kind"] != "error" else []) for each in meta["parts"]]
    count, *entry = meta["shape"]
    view = memoryview(buffers[0])
    width = view.nbytes // count
    cuts, start = [], 0
    for size in sizes:
        stop = start + size * width
        cuts.append((dict(meta, shape=[size, *entry]), [view[start:stop]]))
        start = stop
    return cuts


def _rows_of(buffer: Any, count: int, start: int, stop: int) -> Any:
    view = memoryview(buffer)
    width = view.nbytes // count
    return view[start * width : stop * width]


def _join_texts(texts: Sequence[Any]) -> bytes:
    """JSON arrays, none of which is empty, as one."""
    return b"[" + b",".join(bytes(each).strip()[1:-1] for each in texts) + b"]"
