"""Since when a replica works on the call that it is at, and for whom: a few bytes that all who share it can read.

A connection alone cannot tell whether a request waits behind those of others. The file stands alone and runs on
Python 3.9.
"""

import mmap
import os
import struct
import time
from typing import Tuple

RECORD = struct.Struct("=dQ")
SINCE = struct.Struct("=d")


class Timecard:
    """One replica's; it writes, everybody else reads. A prediction pays well under a microsecond for it."""

    def __init__(self, path: str, is_new: bool = False) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if is_new else 0), 0o600)
        try:
            os.ftruncate(descriptor, RECORD.size)
            self._record = mmap.mmap(descriptor, RECORD.size)
        finally:
            os.close(descriptor)

    def begin(self, caller: int) -> None:
        """A call begins, for that caller."""
        RECORD.pack_into(self._record, 0, time.monotonic(), caller)

    def end(self) -> None:
        """The call is over; for whom it was stands until the next."""
        SINCE.pack_into(self._record, 0, -time.monotonic())

    def read(self) -> Tuple[float, int]:
        """When the call that is under way began, on the machine's monotonic clock; and the last caller.

        Between two calls it is when the last one ended, as a negative number, or 0 before the first.
        """
        since_s, caller = RECORD.unpack_from(self._record, 0)
        return since_s, caller
