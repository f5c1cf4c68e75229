"""Moving an alias under load: who moved what when, what `/status` said when, and what may answer when."""

from __future__ import annotations

import http.client
import json
import os
import threading
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic, sleep
from typing import Any

from load import Records

from registry import Registry

NICENESS = 19


@dataclass(frozen=True, slots=True)
class Move:
    """The alias was pointed at *version*, which began at a moment of the monotonic clock, and of the calendar's."""

    version: int
    begun_s: float
    begun_at: datetime | None = None


@dataclass(slots=True)
class Timeline:
    """The moves in order, and from when on `/status` named which of them. Written by one `Mover`."""

    moves: list[Move]
    seen_s: list[float] = field(default_factory=lambda: [float("-inf")])
    seen: list[int] = field(default_factory=lambda: [0])
    went_back: list[str] = field(default_factory=list)

    def see(self, at_s: float, version: int) -> None:
        """`/status` named *version*: it is the earliest move to it that has not been passed yet."""
        for index in range(self.seen[-1], len(self.moves)):
            if self.moves[index].version == version:
                if index != self.seen[-1]:
                    self.seen_s.append(at_s)
                    self.seen.append(index)
                return
        self.went_back.append(f"/status named {version} after {self.moves[self.seen[-1]].version}")

    def stale(self, records: Records) -> list[str]:
        """Answers of a version that `/status` had left behind when they were asked, or that is not due yet."""
        begun_s = [each.begun_s for each in self.moves]
        allowed: dict[tuple[int, int], set[int]] = {}
        found = []
        for sent_s, done_s, version in zip(records.sent, records.done, records.versions, strict=True):
            span = self.seen[bisect_right(self.seen_s, sent_s) - 1], bisect_right(begun_s, done_s)
            if span not in allowed:
                allowed[span] = {each.version for each in self.moves[span[0] : span[1]]}
            if version not in allowed[span]:
                found.append(f"version {version} answered what was sent at {sent_s:.3f}, not {allowed[span]}")
        return found


class Mover:
    """Moves one alias and watches `/status`, one thing at a time.

    Who moves it is on another machine as a rule, so the commit itself runs in a thread that gives way to everybody.
    """

    def __init__(self, client: Registry, model: str, alias: str, port: int) -> None:
        self._client = client
        self._model = model
        self._alias = alias
        self._elsewhere = ThreadPoolExecutor(1, initializer=_give_way)
        self._status = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.timeline = Timeline([Move(self._primary(self._ask()), float("-inf"))])

    @property
    def current(self) -> Move:
        return self.timeline.moves[-1]

    def move(self, version: int) -> Move:
        """Point the alias at *version*; returns when it is committed."""
        begun_at = datetime.now(UTC)
        self.timeline.moves.append(Move(version, monotonic(), begun_at))
        self._elsewhere.submit(self._client.set_registered_model_alias, self._model, self._alias, version).result()
        return self.current

    def look(self) -> dict[str, Any]:
        """One `/status`; gives the endpoint's entry."""
        endpoint = self._ask()
        self.timeline.see(monotonic(), self._primary(endpoint))
        return endpoint

    def is_settled(self) -> bool:
        """`/status` shows the last move served, or why it cannot be."""
        endpoint = self.look()
        if self._primary(endpoint) == self.current.version:
            return True
        error = endpoint["last_error"]
        if error is None or error["version"] != str(self.current.version):
            return False
        # Both cut to milliseconds, as times are in `/status`.
        return error["at"][:23] >= self.current.begun_at.isoformat(timespec="milliseconds")[:23]

    def settle(self, limit_s: float) -> bool:
        """Look until the last move is settled; False when that takes too long."""
        give_up_s = monotonic() + limit_s
        while not self.is_settled():
            if monotonic() > give_up_s:
                return False
            sleep(0.005)
        return True

    def _ask(self) -> dict[str, Any]:
        self._status.request("GET", "/status")
        return json.loads(self._status.getresponse().read())["endpoints"][0]

    @staticmethod
    def _primary(endpoint: dict[str, Any]) -> int:
        return next(int(each["version"]) for each in endpoint["versions"] if each["role"] == "primary")


def _give_way() -> None:
    """For this thread alone, as Linux has it."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
