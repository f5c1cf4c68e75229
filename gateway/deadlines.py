"""Until when a caller waits: its own word in a header, or the endpoint's `predict_timeout` where that is sooner.

A moment is a time of the event loop, which is the machine's monotonic clock: replicas on this machine read the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gateway.config import SECONDS
from gateway.errors import BadRequest, DeadlineExceeded

HEADER = b"x-request-timeout"
PATIENCE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h)?")


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which a request is answered 504, and whose limit that is."""

    at_s: float
    limit_s: float
    is_own: bool = False

    def sooner(self, now_s: float, predict_timeout_s: float) -> Deadline:
        """This one, or the endpoint's where that comes first."""
        at_s = now_s + predict_timeout_s
        return self if self.at_s <= at_s else Deadline(at_s, predict_timeout_s)

    def exceeded(self, what: str) -> DeadlineExceeded:
        """*what* is a clause that says who did not answer."""
        whose = "X-Request-Timeout" if self.is_own else "predict_timeout"
        return DeadlineExceeded(f"{what} within its {whose} of {self.limit_s:g} s")


def own_deadline(header: bytes | None, now_s: float) -> Deadline | None:
    """What the request asks for with `250ms`, `30s`, `2m`, `1h` or plain seconds; raises `BadRequest`."""
    if header is None:
        return None
    text = header.decode("latin-1").strip()
    found = PATIENCE.fullmatch(text)
    limit_s = float(found[1]) * SECONDS[found[2] or "s"] if found else 0.0
    if not limit_s:
        raise BadRequest(
            f"X-Request-Timeout: {text[:100]!r} is no duration above zero, such as 250ms, 30s, 2m or 1.5 (seconds)"
        )
    return Deadline(now_s + limit_s, limit_s, is_own=True)
