"""A member: one more process that takes requests, for the endpoints and replicas that its leader tells it of."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import uvloop

from gateway import telemetry, tracing
from gateway.admission import Admission
from gateway.connections import raise_descriptor_limit
from gateway.endpoints import Endpoint, EndpointTable, Failure
from gateway.http import SWITCH_INTERVAL_S, HttpServer, several
from gateway.ingress import messages, numbers
from gateway.ingress.asking import Questions
from gateway.ingress.line import Line, Message
from gateway.meters import LoopLag
from gateway.routing import spare_the_collector
from gateway.runtimes.shared import SharedPlace
from gateway.servable import Servable
from gateway.split import Split
from gateway.tracing import MakePredictions
from gateway.worker.lifetime import die_with_parent

log = logging.getLogger("turnout.ingress")

STDERR = 2
REPORT_INTERVAL_S = 0.5


def main(options_as_json: str) -> int:
    """The whole life of a member; its exit status."""
    options = json.loads(options_as_json)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the leader says when to end, also when all are told to
    die_with_parent(options["parent"])
    raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with (
        telemetry.logging_to(STDERR, options["log_format"]),
        socket.socket(fileno=options["line"]) as end,
        socket.socket(fileno=options["listener"]) as listener,
        tracing.exporting() as predictions,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(Member(listener, predictions).run(end))


class Member:
    """Goes by what the leader says, one message after the other; the only writer of its endpoints' splits."""

    def __init__(self, listener: socket.socket, predictions: MakePredictions) -> None:
        self._listener = listener
        self._predictions = predictions
        self._endpoints = EndpointTable(())
        self._wakers: dict[str, asyncio.Task[None]] = {}
        self._servables: dict[int, Servable] = {}
        self._places: dict[int, SharedPlace] = {}
        self._orders: asyncio.Queue[Message] = asyncio.Queue()
        self._lag = LoopLag()
        self._told_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: asyncio.Task[None] | None = None

    async def run(self, end: socket.socket) -> int:
        """Until the leader says `drain`, or is gone."""
        over = asyncio.Event()
        self._line = await Line.open(end, self._heard)
        self._questions = Questions(self._line)
        work = (self._line.gone.wait(), self._obey(over), self._report(), self._lag.watch())
        working: list[asyncio.Task[Any]] = [asyncio.create_task(each) for each in work]
        for each in working:
            each.add_done_callback(lambda _: over.set())  # one that ends by itself ends them all
        await over.wait()
        for each in working:
            each.cancel()
        outcomes = await asyncio.gather(*working, return_exceptions=True)
        self._line.close()
        await self._line.gone.wait()
        problems = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        for problem in problems:
            log.error("unexpected", exc_info=problem)
        return 1 if problems else 0

    def _heard(self, message: Message, body: bytes) -> None:
        if message["op"] == "answer":
            self._questions.answered(message, body)
        else:
            self._orders.put_nowait(message)

    async def _obey(self, over: asyncio.Event) -> None:
        while True:
            message = await self._orders.get()
            match message["op"]:
                case "table":
                    self._configure(message["settings"])
                case "route":
                    await self._route(message)
                    self._confirm(message["epoch"])
                case "routed":
                    self._confirm(message["epoch"])
                case "lend":
                    self._lend(message)
                case "awake":
                    self._awake(message["endpoint"], message["why"])
                case "serve":
                    self._serve()
                case "drain":
                    self._begin(self._drain(over))

    def _confirm(self, epoch: int) -> None:
        self._line.send({"op": "confirmed", "epoch": epoch})

    # Routes

    def _configure(self, row: dict[str, Any]) -> None:
        self._settings = messages.settings_from(row)
        known = {each.name: each for each in self._endpoints}
        wanted = []
        for config in self._settings.endpoints:
            endpoint = known.pop(config.name, None) or self._new(Endpoint(config))
            endpoint.config = config
            wanted.append(endpoint)
        self._endpoints.replace(wanted)
        for endpoint in known.values():
            self._wakers.pop(endpoint.name).cancel()
            self._leave(endpoint.close())

    def _new(self, endpoint: Endpoint) -> Endpoint:
        endpoint.is_asleep = True  # the leader knows better, and is asked when a request waits
        self._wakers[endpoint.name] = asyncio.create_task(self._wake(endpoint))
        return endpoint

    async def _route(self, message: Message) -> None:
        endpoint, row = self._endpoints.find(message["endpoint"]), message["servable"]
        split = None if row is None else Split(await self._borrow(row))
        if endpoint is None:
            self._leave(split)
            return
        before = endpoint.split
        if split is None:
            endpoint.split, endpoint.is_asleep = None, True
        else:
            endpoint.serve(split)
        self._leave(before)

    async def _borrow(self, row: dict[str, Any]) -> Servable:
        """A version whose replicas are connected to, as far as they are up."""
        identity = row["id"]
        resolved, config = messages.version_from(row)

        def end(replica: str, why: str) -> None:
            self._line.send({"op": "end", "servable": identity, "replica": replica, "why": why})

        place = self._places[identity] = SharedPlace(row["environment"], f"{config.name} version {resolved.label}", end)
        servable = self._servables[identity] = Servable.lent(place, resolved, config)
        place.lend(row["replicas"], "is gone")
        servable.trouble = row["trouble"]
        await place.tried()
        return servable

    def _lend(self, message: Message) -> None:
        identity = message["servable"]
        if identity in self._places:
            self._places[identity].lend(message["replicas"], message["how"])
            self._servables[identity].trouble = message["trouble"]

    def _leave(self, split: Split[Servable] | None) -> None:
        if split is not None:
            self._begin(self._release(split.primary))

    async def _release(self, servable: Servable) -> None:
        """Once its last request is over, say so: the leader may end the replicas then."""
        await servable.retire()
        self._tell_numbers()
        (identity,) = (number for number, each in self._servables.items() if each is servable)
        del self._servables[identity], self._places[identity]
        self._line.send({"op": "released", "servable": identity})

    async def _wake(self, endpoint: Endpoint) -> None:
        """Pass on that requests wait, one time for all of them."""
        while True:
            await endpoint.changed.wait()
            endpoint.changed.clear()
            self._line.send({"op": "wake", "endpoint": endpoint.name})

    def _awake(self, name: str, why: str | None) -> None:
        """Something came of waking it: those who wait go on, and then the leader may put it to sleep again."""
        endpoint = self._endpoints.find(name)
        if endpoint is None:
            return
        if endpoint.split is None and why is not None:
            endpoint.last_error = Failure(None, why, datetime.now(UTC))
            endpoint.came_to_nothing()
            endpoint.is_asleep = True
        if endpoint.split is None and why is None and endpoint.is_awaited:
            endpoint.changed.set()  # it fell asleep before it could be told of
        else:
            self._begin(self._awoken(endpoint))

    async def _awoken(self, endpoint: Endpoint) -> None:
        while endpoint.is_awaited and endpoint.split is not None:
            await asyncio.sleep(0)  # they have been told, and are about to go on
        self._tell_numbers()
        self._line.send({"op": "awoken", "endpoint": endpoint.name})

    # Serving

    def _serve(self) -> None:
        admission = Admission(self._endpoints, lambda: self._settings)
        application = self._predictions(self._endpoints, lambda: self._settings, admission, self._questions)
        self._http = HttpServer(application, admission, self._settings)
        self._serving = asyncio.create_task(self._http.serve(several(self._listener)))
        spare_the_collector()

    async def _drain(self, over: asyncio.Event) -> None:
        if self._serving is not None:
            self._http.should_exit = True
            await asyncio.wait({self._serving})
        self._tell_numbers()
        over.set()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_INTERVAL_S)
            self._tell_numbers()

    def _tell_numbers(self) -> None:
        used = numbers.taken(self._endpoints, self._servables, self._told_s)
        self._told_s = perf_counter()
        connections = self._http.connections if self._serving is not None else 0
        self._line.send({"op": "used", "connections": connections, "lag_s": self._lag.take(), **used})

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
