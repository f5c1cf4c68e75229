"""The leader's side of several ingress processes: keeps the members running, and tells them where requests go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any

from gateway.app import Gateway
from gateway.config import Settings
from gateway.endpoints import Endpoint, EndpointTable
from gateway.errors import GatewayError
from gateway.http import HttpServer
from gateway.ingress import messages, numbers
from gateway.ingress.asking import answer
from gateway.ingress.line import Message
from gateway.ingress.process import MemberProcess
from gateway.meters import LoopLag
from gateway.servable import Servable

log = logging.getLogger("turnout.ingress")

CONFIRM_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 1.0
MAX_SILENCE = 15  # looks without a word from a member, which speaks twice a second
STEADY_S = 30.0  # who lived so long is replaced at once
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Crew:
    """The members, one for each of the *listeners*. `run` it beside the leader's own server, which is *http*."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        http: HttpServer,
        gateway: Gateway,
        endpoints: EndpointTable,
        settings: Settings,
        lag: LoopLag,
        log_format: str,
    ) -> None:
        self._listeners = listeners
        self._http = http
        self._gateway = gateway
        self._endpoints = endpoints
        self._settings = settings
        self._lag = lag
        self._log_format = log_format
        self._members: set[MemberProcess] = set()
        self._epoch = 0
        self._routes: dict[str, int | None] = {}  # by endpoint: the version that was announced last
        self._servables: dict[int, Servable] = {}
        self._last_id = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = asyncio.Event()

    async def run(self) -> None:
        """Keep every place filled, until `drain` and the last member's end, or until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                watch = group.create_task(self._watch())
                async with asyncio.TaskGroup() as places:
                    for listener in self._listeners:
                        places.create_task(self._fill(listener))
                watch.cancel()
        finally:
            for member in self._members:
                member.kill()
            for task in self._tasks:
                task.cancel()

    def drain(self) -> None:
        """No more connections are taken anywhere; members end when their last request is over."""
        self._draining.set()
        for listener in self._listeners:
            self._http.step_back(listener)
            listener.close()
        for member in self._members:
            member.send({"op": "drain"})

    def as_json(self) -> list[dict[str, Any]]:
        """The members' part of `http_workers` in `/status`."""
        return [
            {"pid": each.pid, "epoch": each.epoch, "connections": each.connections}
            for each in sorted(self._members, key=lambda member: member.pid)
            if each.is_serving
        ]

    # What members are told: routing.Members

    def announce(self, epoch: int, endpoint: Endpoint, servable: Servable | None) -> asyncio.Future[None]:
        before = self._routes.get(endpoint.name)
        self._epoch = epoch
        self._routes[endpoint.name] = None if servable is None else self._introduce(servable)
        self._forget(before)
        for member in self._members:
            self._send_route(member, epoch, endpoint.name)
        waiting = {member: member.confirmation(epoch) for member in self._members if member.is_serving}
        return self._begin(self._confirmed(waiting))

    def configure(self, settings: Settings) -> None:
        self._settings = settings
        names = {each.name for each in settings.endpoints}
        self._routes = {name: identity for name, identity in self._routes.items() if name in names}
        for member in self._members:
            member.send({"op": "table", "settings": messages.settings_as_json(settings)})

    async def _confirmed(self, waiting: dict[MemberProcess, asyncio.Future[None]]) -> None:
        if not waiting:
            return
        await asyncio.wait(waiting.values(), timeout=CONFIRM_TIMEOUT_S)
        for member, confirmation in waiting.items():
            if not confirmation.done():
                log.warning("an ingress process did not follow a change and is ended", extra={"pid": member.pid})
                member.kill()
        await asyncio.wait(waiting.values())

    def _introduce(self, servable: Servable) -> int:
        self._last_id += 1
        identity = self._last_id
        self._servables[identity] = servable
        servable.replicas_changed = partial(self._lend, identity)
        return identity

    def _send_route(self, member: MemberProcess, epoch: int, name: str) -> None:
        identity = self._routes[name]
        row = None
        if identity is not None:
            servable = self._servables[identity]
            servable.hold(member)
            member.held[identity] = servable
            row = messages.servable_as_json(identity, servable)
        member.send({"op": "route", "epoch": epoch, "endpoint": name, "servable": row})

    def _lend(self, identity: int) -> None:
        servable = self._servables[identity]
        message = {
            "op": "lend",
            "servable": identity,
            "replicas": messages.addresses(servable),
            "how": servable.last_end,
            "trouble": servable.trouble,
        }
        for member in self._members:
            if identity in member.held:
                member.send(message)

    # What members say

    def _heard(self, member: MemberProcess, message: Message, body: bytes) -> None:
        member.silence = 0
        match message["op"]:
            case "confirmed":
                member.confirmed(message["epoch"])
                self._put_to_work(member)
            case "released":
                member.let_go(message["servable"])
                self._forget(message["servable"])
            case "wake":
                endpoint = self._endpoints.find(message["endpoint"])
                if endpoint is not None:  # else the member is about to hear that it is no more
                    member.await_(endpoint)  # at once: in a task of its own the member may be gone by then
                    self._begin(self._wake(member, endpoint))
            case "awoken":
                endpoint = self._endpoints.find(message["endpoint"])
                if endpoint is not None:
                    member.awoken(endpoint)
            case "used":
                member.connections = message["connections"]
                self._lag.saw(message["lag_s"])
                numbers.add(message, member, self._endpoints, member.held)
            case "end":
                self._end(message["servable"], message["replica"], message["why"])
            case "ask":
                self._begin(self._answer(member, message, body))

    def _put_to_work(self, member: MemberProcess) -> None:
        """Whoever has caught up takes connections; from there on nothing changes here before it does there."""
        if not member.is_serving and member.epoch == self._epoch and not self._draining.is_set():
            member.is_serving = True
            member.send({"op": "serve"})
            self._http.step_back(member.listener)
            log.info("an ingress process takes requests", extra={"pid": member.pid})

    async def _wake(self, member: MemberProcess, endpoint: Endpoint) -> None:
        why = None
        try:
            if endpoint.split is None:
                await endpoint.awakened()
        except GatewayError:
            why = endpoint.why_not()
        member.send({"op": "awake", "endpoint": endpoint.name, "why": why})

    def _end(self, identity: int, address: str, why: str) -> None:
        servable = self._servables.get(identity)
        for replica in () if servable is None else servable.replicas_up:
            if servable is not None and replica.address == address:
                replica.accuse(why, servable.config.predict_timeout_s)

    async def _answer(self, member: MemberProcess, message: Message, body: bytes) -> None:
        member.send(*await answer(self._gateway, message, body))

    # Keeping

    async def _fill(self, listener: socket.socket) -> None:
        """Have a member take this listener's connections; as long as there is none, the leader takes them."""
        loop, pause_s = asyncio.get_running_loop(), 0.0
        while not self._draining.is_set():
            await self._http.stand_in(listener)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._draining.wait()
                    return
            begun_s = loop.time()
            try:
                member = await MemberProcess.start(listener, self._log_format, self._heard)
            except OSError as problem:
                log.warning("an ingress process could not be started: %s", problem)
                pause_s = _longer(pause_s)
                continue
            self._members.add(member)
            self._teach(member)
            if self._draining.is_set():
                member.send({"op": "drain"})
            await member.ended.wait()
            self._members.discard(member)
            for identity in list(self._servables):
                self._forget(identity)
            level = logging.INFO if self._draining.is_set() else logging.WARNING
            log.log(level, "an ingress process %s", member.how, extra={"pid": member.pid})
            is_steady = loop.time() - begun_s > STEADY_S
            pause_s = 0.0 if is_steady else _longer(pause_s)

    def _teach(self, member: MemberProcess) -> None:
        """Tell one that has just begun everything that the others know."""
        member.send({"op": "table", "settings": messages.settings_as_json(self._settings)})
        for name in self._routes:
            self._send_route(member, self._epoch, name)
        member.send({"op": "routed", "epoch": self._epoch})

    def _forget(self, identity: int | None) -> None:
        """Drop a version that nobody sends requests to any more, or will."""
        is_held = any(identity in member.held for member in self._members)
        if identity in self._servables and not is_held and identity not in self._routes.values():
            self._servables.pop(identity).replicas_changed = lambda: None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            for member in self._members:
                member.silence += 1
                if member.silence == MAX_SILENCE:
                    log.warning("an ingress process says nothing and is ended", extra={"pid": member.pid})
                    member.kill()

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _longer(pause_s: float) -> float:
    return min(max(FIRST_PAUSE_S, pause_s * 2), LONGEST_PAUSE_S)
