"""The line in front of a version's replicas: who goes next, and who is told what, when they end and come up again."""

import asyncio
import contextlib
from pathlib import Path

from gateway.config import EndpointConfig
from gateway.errors import ReplicaDied
from gateway.runtimes.base import Resolved
from gateway.servable import Servable
from gateway.worker.frames import Payload

RESOLVED = Resolved(Path("/m"), "sha256:0", {})


class Process:
    """A replica that takes *window* requests, answers the first of them when it is let, and ends when it is told."""

    service_s = 0.0
    address = "here"

    def __init__(self, window):
        self.window = window
        self.asked = []  # every word that it was sent
        self.unanswered = []
        self.end = asyncio.get_running_loop().create_future()

    @property
    def room(self):
        return 0 if self.end.done() else self.window - len(self.unanswered)

    async def predict(self, payload, until_s):
        self.asked.append(payload.meta["word"])
        answer = asyncio.get_running_loop().create_future()
        self.unanswered.append(answer)
        return await answer

    def answer(self):
        self.unanswered.pop(0).set_result(Payload({}))
        self.freed()

    def die(self):
        self.end.set_result("died")
        for at, each in enumerate(self.unanswered):
            each.set_exception(ReplicaDied("it died", started=at == 0))

    async def proven(self):
        await self.closed()
        return
        yield

    async def closed(self):
        return await asyncio.shield(self.end)

    def given_up(self, limit_s):
        pass

    async def close(self):
        pass


class Processes:
    """A place, and a runtime with that place alone: gives the processes that it is given, one after the other."""

    environment = "none"

    def __init__(self, *processes):
        self.next = asyncio.Queue()
        for each in processes:
            self.next.put_nowait(each)

    @contextlib.asynccontextmanager
    async def prepare(self, resolved, config):
        yield self

    async def start(self, progress, is_awaited=True):
        return await self.next.get()

    async def serve(self, **settings):
        return await Servable.start(self, RESOLVED, EndpointConfig("m", Path("/m"), **settings), lambda _: None)


def ask(servable, *words):
    return [asyncio.create_task(servable.predict(Payload({"word": each}))) for each in words]


async def calm():
    """Until nothing is left to be done but what waits for a replica."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_who_waits_for_one_replica_keeps_the_order_while_another_is_down():
    """A pause before the other is brought up again concerns nobody who need not wait for that."""
    one, other, *more = [Process(1) for _ in range(4)]
    place = Processes(one, other)
    servable = await place.serve(replicas=2)
    asked = ask(servable, *"abcde")
    await calm()

    for each in (other, *more):  # so often that there is a pause
        each.die()
        place.next.put_nowait(each)
        await calm()
    for _ in range(4):
        one.answer()
        await calm()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    await servable.abandon()

    assert one.asked == ["a", "c", "d", "e"]
    assert [isinstance(each, ReplicaDied) for each in outcomes] == [False, True, False, False, False]


async def test_whoever_comes_while_only_one_of_several_is_down_for_long_may_wait():
    """The other one is restarted at once, and that is waited for as if it were alone."""
    one, other, *more, last = [Process(1) for _ in range(5)]
    place = Processes(one, other)
    servable = await place.serve(replicas=2)
    for each in (other, *more):  # so often that there is a pause
        each.die()
        place.next.put_nowait(each)
        await calm()

    one.die()
    await calm()
    (asked,) = ask(servable, "a")
    await calm()
    place.next.put_nowait(last)
    await calm()
    last.answer()

    assert await asked == Payload({})
    await servable.abandon()


async def test_what_was_on_its_way_to_a_replica_that_dies_goes_to_the_next_before_those_who_wait():
    """It has its place already: a line that is full by now is no reason to refuse it."""
    one, next_one = Process(4), Process(4)
    place = Processes(one)
    servable = await place.serve(max_queue=1)
    asked = ask(servable, *"abcde")
    await calm()
    assert servable.waiting == 1

    one.die()
    await calm()
    place.next.put_nowait(next_one)
    await calm()
    for _ in range(4):
        next_one.answer()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    await servable.abandon()

    assert [isinstance(each, ReplicaDied) for each in outcomes] == [True, False, False, False, False]
    assert outcomes[1:] == [Payload({})] * 4
    assert next_one.asked[3] == "e"


async def test_all_that_a_replica_has_room_for_go_on_when_it_takes_more_than_before():
    """One answer may show that the model is quick: then several may be on their way to it, and not one."""
    process = Process(1)
    servable = await Processes(process).serve()
    asked = ask(servable, *"abcdefghi")
    await calm()
    assert process.asked == ["a"]

    process.window = 4
    process.answer()
    await calm()
    assert process.asked == [*"abcde"]
    for _ in range(3):  # at once
        process.answer()
    await calm()
    assert process.asked == [*"abcdefgh"]

    for each in asked:
        each.cancel()
    await servable.abandon()
