"""When a replica had the requests of those who want to know."""

from __future__ import annotations

import time
from typing import Any

from gateway.worker.frames import Timing


class Timings:
    """Those of one connection that are not answered yet, by the requests' ids. Written by the connection alone."""

    def __init__(self) -> None:
        self.pending: dict[int, tuple[Timing, ...]] = {}

    def sent(self, identity: int, timings: tuple[Timing, ...]) -> None:
        self.pending[identity] = timings
        for timing in timings:
            timing.sent_ns = time.time_ns()

    def heard(self, header: dict[str, Any]) -> None:
        """Whatever came from the replica. What it says of itself lies after the request was sent, and not ahead."""
        if header["op"] == "dropped":
            self.not_begun(header["id"])
        elif "ended_ns" in header:
            now_ns = time.time_ns()
            for timing in self.pending.get(header["id"], ()):
                timing.begun_ns = int(min(now_ns, max(timing.sent_ns, header["begun_ns"])))
                timing.ended_ns = int(min(now_ns, max(timing.begun_ns, header["ended_ns"])))

    def not_begun(self, identity: int) -> None:
        """It was sent, and is not going to be worked on."""
        for timing in self.pending.get(identity, ()):
            timing.sent_ns = 0
