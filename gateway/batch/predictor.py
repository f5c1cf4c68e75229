"""Asks a servable about rows: again when a replica dies, and in halves when the model refuses some of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gateway.batch.answers import Outputs, columns_of
from gateway.batch.rows import Columns, Rows
from gateway.errors import BadRow, BatchFailed, DeadlineExceeded, ModelError, NotReady, ReplicaDied
from gateway.servable import Servable
from gateway.threads import in_thread
from gateway.worker.frames import Payload

log = logging.getLogger("turnout.batch")

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """One value a row in each column; None in all of them for a bad row."""

    columns: Columns
    bad_rows: int = 0


class Predictor:
    """Answers rows with the replicas of one servable; as many calls are under way as there are replicas."""

    def __init__(self, servable: Servable, params: Mapping[str, Any] | None, max_bad_rows: int) -> None:
        self._servable = servable
        self._params = params
        self._outputs = Outputs.of(servable.resolved.signature)
        self._free = asyncio.Semaphore(servable.config.replicas)
        self._max_bad_rows = max_bad_rows
        self.bad_rows = 0

    async def answer(self, rows: Rows, body: bytes) -> Answer:
        """The model's answer to all of them, whose body is there already.

        Raises `BadRow` at one bad row more than there may be, and `BatchFailed` where it takes too long, or where
        replicas keep dying of it.
        """
        if not len(rows):
            return Answer({name: [] for name in self._outputs.expected})
        spans = await self._spans(rows, body)
        return spans[0] if len(spans) == 1 else _joined(spans)

    def count(self, bad_rows: int, where: str = "", why: object = "") -> None:
        """Count bad rows; raises `BadRow` when there are too many by then."""
        self.bad_rows += bad_rows
        if self.bad_rows <= self._max_bad_rows:
            return
        if not self._max_bad_rows:
            raise BadRow(f"{where}: {why}; mend it, or pass --max-bad-rows to go on without")
        raise BadRow(f"more than {self._max_bad_rows} bad rows, as --max-bad-rows allows; {where}: {why}")

    async def _spans(self, rows: Rows, body: bytes | None = None) -> list[Answer]:
        """Answers to neighbours: whatever is refused is asked in halves, down to the row that is refused alone."""
        try:
            return [Answer(await self._ask(rows, body))]
        except (ModelError, BadRow) as refusal:
            if len(rows) == 1:
                self.count(1, rows.place(), refusal)
                log.warning("%s has no prediction: %s", rows.place(), refusal)
                nothing = [None]
                return [Answer(dict.fromkeys(self._outputs.expected, nothing), 1)]
        middle = len(rows) // 2
        return await self._spans(rows.cut(0, middle)) + await self._spans(rows.cut(middle, len(rows)))

    async def _ask(self, rows: Rows, body: bytes | None) -> Columns:
        await in_thread(rows.check)
        whole = rows.body() if body is None else body
        payload = Payload({"kind": "body", "content_type": rows.content_type, "params": self._params}, (whole,))
        async with self._free:
            answer = await self._insist(payload, rows)
        return await in_thread(partial(columns_of, answer, len(rows), self._outputs))

    async def _insist(self, payload: Payload, rows: Rows) -> Payload:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._servable.predict(payload)
            except (ReplicaDied, NotReady) as problem:
                death = str(problem).removesuffix("; try again")
                log.warning("attempt %d of %d at %s failed: %s", attempt, ATTEMPTS, rows.place(), death)
            except DeadlineExceeded as problem:
                raise BatchFailed(
                    f"{rows.place()}: {problem}; pass a longer --predict-timeout, or fewer --chunk-rows"
                ) from None
        raise BatchFailed(
            f"{rows.place()} could not be predicted in {ATTEMPTS} attempts: {death}; if memory is short, fewer "
            "--chunk-rows or a larger --memory-limit helps"
        )


def _joined(spans: Sequence[Answer]) -> Answer:
    """Neighbours as one; a bad row has None in the columns of the others."""
    names = list(dict.fromkeys(name for span in spans if not span.bad_rows for name in span.columns))
    names = names or list(spans[0].columns)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for span in spans:
        count = len(next(iter(span.columns.values())))
        for name, values in columns.items():
            values.extend(span.columns.get(name, [None] * count))
    return Answer(columns, sum(span.bad_rows for span in spans))
