"""Frames on a replica's socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.worker.frames import LENGTHS, BadFrame, Decoder, encode

FRAMES = st.lists(st.tuples(st.dictionaries(st.text(), st.integers()), st.lists(st.binary(), max_size=4)), max_size=5)


@given(FRAMES, st.integers(1, 50))
def test_any_stream_of_frames_comes_out_as_it_went_in(frames, chunk):
    """However the socket cuts the stream, headers and buffers are the same."""
    stream = b"".join(encode({"meta": header}, buffers) for header, buffers in frames)
    decoder = Decoder()

    heard = [frame for start in range(0, len(stream), chunk) for frame in decoder.feed(stream[start : start + chunk])]

    assert [(header["meta"], [bytes(each) for each in buffers]) for header, buffers in heard] == [
        (header, buffers) for header, buffers in frames
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        LENGTHS.pack(1 << 31, 0),
        LENGTHS.pack(2, 1 << 50),
        LENGTHS.pack(2, 0) + b"[]",
        LENGTHS.pack(4, 0) + b"null",
        LENGTHS.pack(3, 0) + b"{a}",
        LENGTHS.pack(13, 1) + b'{"sizes":[2]}' + b"x",
        LENGTHS.pack(14, 1) + b'{"sizes":[-1]}' + b"x",
        LENGTHS.pack(15, 1) + b'{"sizes":["1"]}' + b"x",
        LENGTHS.pack(100_000, 0) + b"[" * 100_000,
    ],
)
def test_what_is_no_frame_is_refused(garbage):
    """Neither lengths nor headers from the other end are trusted."""
    with pytest.raises(BadFrame):
        Decoder(1 << 40).feed(garbage)
