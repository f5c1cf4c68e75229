"""Answers to searches, kept until the registry changes: a list is looked at far more often than it changes."""

from __future__ import annotations

import threading
from collections import OrderedDict

from registry.core import ServedRegistry
from registry.errors import RegistryError
from registry.server.transport import Answer, Handler, Request, answer, refusal

MAX_ANSWER_BYTES = 1 << 20
MAX_BYTES = 16 << 20

_Key = tuple[Handler, bytes]


class Pages:
    """For handlers that only read what the change number counts. Safe for use by many threads at once.

    The registry is asked for its cursor every time, so an answer is never older than the request: what another
    process has written shows at once.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[str, Answer]] = OrderedDict()  # the longest unused first
        self._bytes = 0

    def answer(self, registry: ServedRegistry, handler: Handler, request: Request) -> Answer:
        """What `transport.answer` gives. Never raises."""
        try:
            cursor = registry.cursor()
        except RegistryError as error:
            return refusal(error)
        key = handler, request.query
        kept = self._find(key, cursor)
        if kept is not None:
            return kept
        # Read after the cursor: what changes in between is in the answer, and the cursor says that it is old already.
        found = answer(registry, handler, request)
        if found.status == 200 and len(found.body) <= MAX_ANSWER_BYTES:
            self._keep(key, cursor, found)
        return found

    def _find(self, key: _Key, cursor: str) -> Answer | None:
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept[0] != cursor:
                return None
            self._kept.move_to_end(key)
            return kept[1]

    def _keep(self, key: _Key, cursor: str, found: Answer) -> None:
        with self._lock:
            self._forget(key)
            self._kept[key] = cursor, found
            self._bytes += _size(key, found)
            while self._bytes > self._max_bytes:
                self._forget(next(iter(self._kept)))

    def _forget(self, key: _Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= _size(key, kept[1])


def _size(key: _Key, found: Answer) -> int:
    return len(key[1]) + len(found.body)
