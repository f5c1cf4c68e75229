"""Frames on a replica's socket: two lengths, a small JSON header, raw buffers. Both ends use this file.

Nothing here is ever unpickled, so a replica cannot run code in the gateway. The file stands alone and runs
on Python 3.9: a replica loads it by its path under the model's own interpreter.
"""

import json
import struct
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple, Union

Buffer = Union[bytes, bytearray, memoryview]

LENGTHS = struct.Struct("!IQ")
MAX_HEADER_BYTES = 16 << 20


class Timing:
    """When a replica had a request, in nanoseconds as `time.time_ns` counts them; 0 for what has not happened.

    *requests* and *rows* tell of a call that several requests were joined into. Written by whoever passes it on.
    """

    __slots__ = ("begun_ns", "ended_ns", "requests", "rows", "sent_ns")

    def __init__(self) -> None:
        self.sent_ns = self.begun_ns = self.ended_ns = 0
        self.requests, self.rows = 1, 0


class Payload(NamedTuple):
    """What a model eats or returns: *meta* says what the raw *buffers* hold. JSON values only in *meta*.

    kind `table`:  columns (names), dtypes (numpy names, or "str"), rows; `packed` true: one buffer with all
                   values in row order, all of one dtype; else one buffer a column, of which a "str" column's
                   is a JSON array.
    kind `tensor`: dtype, shape; one buffer in C order, little-endian.
    kind `tensors`: names, dtypes, shapes; one buffer each, of which a "str" or "bytes" tensor's is a JSON array of
                   texts or of base64. A name is null where there is only one and it has none.
    kind `body`:   content_type; one buffer, the client's body as it came, for the replica to read.
    kind `json`:   one buffer, JSON text that is ready to send; `whole` true: it is the whole answer.
    Any of them may carry `params`, a JSON object, and those of arrays and columns `unread`: for each buffer what
    `elements.read` needs to make of it what is said above; null where that is done.

    *timings* stay on this side of the socket: they are filled in for those who asked.
    """

    meta: Dict[str, Any]
    buffers: Tuple[Buffer, ...] = ()
    timings: Tuple[Timing, ...] = ()


class BadFrame(Exception):
    """The other end sent something that is no frame of ours; the connection is of no more use."""


def encode(header: Dict[str, Any], buffers: Sequence[Buffer] = ()) -> bytes:
    """One frame, ready to be written."""
    if buffers:
        header["sizes"] = [memoryview(each).nbytes for each in buffers]
    text = json.dumps(header, separators=(",", ":")).encode()
    return b"".join([LENGTHS.pack(len(text), sum(header.get("sizes", ()))), text, *buffers])


class Decoder:
    """Cuts a stream of bytes into frames. `feed` what arrived, get what is complete."""

    def __init__(self, max_body_bytes: int = 1 << 40) -> None:
        self._pending = bytearray()
        self._wanted = LENGTHS.size
        self._max_body_bytes = max_body_bytes

    def feed(self, data: Buffer) -> List[Tuple[Dict[str, Any], Tuple[memoryview, ...]]]:
        """Every frame that *data* completes, as (header, buffers)."""
        self._pending += data
        frames: List[Tuple[Dict[str, Any], Tuple[memoryview, ...]]] = []
        if len(self._pending) < self._wanted:
            return frames
        whole, offset = bytes(self._pending), 0
        while True:
            if len(whole) - offset < LENGTHS.size:
                self._wanted = LENGTHS.size
                break
            header_bytes, body_bytes = LENGTHS.unpack_from(whole, offset)
            if header_bytes > MAX_HEADER_BYTES or body_bytes > self._max_body_bytes:
                raise BadFrame(f"a frame announced {header_bytes} + {body_bytes} bytes")
            end = offset + LENGTHS.size + header_bytes + body_bytes
            if end > len(whole):
                self._wanted = end - offset
                break
            frames.append(_frame(whole, offset + LENGTHS.size, header_bytes, end))
            offset = end
        self._pending = bytearray(whole[offset:])
        return frames


def _frame(whole: bytes, start: int, header_bytes: int, end: int) -> Tuple[Dict[str, Any], Tuple[memoryview, ...]]:
    try:
        header = json.loads(whole[start : start + header_bytes])
        sizes = header.get("sizes", [])
        position = start + header_bytes
        view = memoryview(whole)
        buffers = []
        for size in sizes:
            if not isinstance(size, int) or size < 0:
                raise ValueError(f"size {size!r}")
            buffers.append(view[position : position + size])
            position += size
    except (ValueError, AttributeError, TypeError, RecursionError) as problem:
        raise BadFrame(f"unreadable header: {problem}") from None
    if position != end:
        raise BadFrame("the sizes in the header do not add up to the body")
    return header, tuple(buffers)
