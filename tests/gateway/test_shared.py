"""A real replica that several processes ask: here the others are further connections to it."""

import asyncio
import contextlib
import json
import time

import pytest
from sklearn.linear_model import LinearRegression

import registry
from gateway.config import EndpointConfig
from gateway.errors import ModelError, NotReady, ReplicaDied
from gateway.runtimes.base import Resolved
from gateway.runtimes.connected import OVERRAN
from gateway.runtimes.local import LocalRuntime
from gateway.runtimes.shared import SharedPlace
from gateway.servable import Servable
from gateway.worker.frames import Payload, Timing
from tests.e2e.gateways import behaving


def payload(word):
    body = json.dumps({"dataframe_records": [{"do": word}]}).encode()
    return Payload({"kind": "body", "content_type": "application/json"}, (body,))


@pytest.fixture
def shared(tmp_path):
    """Run a scenario with a replica of a model, and places of two others that it is lent to."""

    def run(model, scenario):
        registry.save_model(tmp_path / "model", model)
        resolved = Resolved(tmp_path / "model", "sha256:0", registry.read_mlmodel(tmp_path / "model"))
        config = EndpointConfig("m", tmp_path)

        async def whole():
            async with (
                LocalRuntime(tmp_path / "cache", shares=True) as runtime,
                runtime.prepare(resolved, config) as place,
            ):
                replica = await place.start(lambda _: None)
                accused = []
                others = [SharedPlace("local", "m", lambda *said: accused.append(said)) for _ in range(2)]
                for each in others:
                    each.lend([replica.address], "is gone")
                try:
                    return await asyncio.wait_for(scenario(replica, others, accused), 60)
                finally:
                    await replica.close()

        return asyncio.run(whole())

    return run


def soon():
    return asyncio.get_running_loop().time() + 60


@pytest.mark.parametrize("word", ["nothing", "raise"])
def test_who_asks_for_times_gets_them(shared, word):
    """Those of the replica, of an answer and of a refusal, whoever else asks it."""
    timing = Timing()

    async def scenario(replica, others, accused):
        place, _ = others
        mine = await place.start(lambda _: None)
        with contextlib.suppress(ModelError):
            await mine.predict(payload(word)._replace(timings=(timing,)), soon())
        return await replica.predict(payload("nothing"), soon())

    answer = shared(behaving(1), scenario)

    assert 0 < timing.sent_ns <= timing.begun_ns <= timing.ended_ns <= time.time_ns()
    assert answer.timings == ()


def test_a_replica_takes_turns_between_those_who_ask(shared):
    """One who sends much at once is answered no oftener than one who sends little."""
    order = []

    async def ask(replica, name, word):
        await replica.predict(payload(word), soon())
        order.append(name)

    async def scenario(replica, others, accused):
        other = await others[0].start(lambda _: None)
        await other.predict(payload("nothing"), soon())
        greedy = [asyncio.create_task(ask(replica, "greedy", "sleep 0.3")) for _ in range(4)]
        await asyncio.sleep(0.1)  # the replica has begun the first
        modest = asyncio.create_task(ask(other, "modest", "nothing"))
        await asyncio.gather(*greedy, modest)

    shared(behaving(1), scenario)

    assert order.index("modest") <= 2


def test_who_attaches_late_hears_what_is_proven(shared):
    """And so does who was there before the proof: which way a version answers is the same for all."""

    async def scenario(replica, others, accused):
        first = await anext(aiter(replica.proven()))
        late = await others[0].start(lambda _: None)
        return first, await anext(aiter(late.proven()))

    first, late = shared(LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0]), scenario)

    assert late == first


def test_what_one_gives_up_does_not_concern_another(shared):
    """Requests have numbers of their own on each connection."""

    async def scenario(replica, others, accused):
        other = await others[0].start(lambda _: None)
        busy = asyncio.create_task(replica.predict(payload("sleep 0.5"), soon()))
        given_up, kept = (asyncio.create_task(each.predict(payload("nothing"), soon())) for each in (replica, other))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await busy
        return await kept

    answer = shared(behaving(1), scenario)

    assert json.loads(bytes(answer.buffers[0])) is not None


def test_one_that_leaves_ends_nobody(shared):
    """A place that is left closes its connection; the replica goes on for the others."""

    async def scenario(replica, others, accused):
        leaving, staying = [await each.start(lambda _: None) for each in others]
        await leaving.close()
        return [await each.predict(payload("nothing"), soon()) for each in (replica, staying)]

    assert len(shared(behaving(1), scenario)) == 2


def test_only_the_request_that_it_worked_on_counts_as_begun(shared):
    """When it dies, the others know that theirs can be asked again."""

    async def scenario(replica, others, accused):
        other = await others[0].start(lambda _: None)
        working = asyncio.create_task(replica.predict(payload("sleep 30"), soon()))
        await asyncio.sleep(0.3)
        waiting = asyncio.create_task(other.predict(payload("nothing"), soon()))
        await asyncio.sleep(0.1)
        replica.accuse("was ended for a test", 0.0)
        others[0].lend([], await replica.closed())
        return await asyncio.gather(working, waiting, return_exceptions=True)

    outcomes = shared(behaving(1), scenario)

    assert [type(each) for each in outcomes] == [ReplicaDied] * 2
    assert [each.started for each in outcomes] == [True, False]
    assert "was ended for a test" in str(outcomes[1])


def test_whoever_waits_is_told_when_nothing_will_be_up_for_a_while(shared, tmp_path):
    """As the lender says it in one breath: that the last replica has ended, and that there is a pause."""

    async def scenario(replica, others, accused):
        resolved = Resolved(tmp_path, "sha256:0", {})
        servable = Servable.lent(others[0], resolved, EndpointConfig("m", tmp_path))
        await others[0].tried()
        asked = [asyncio.create_task(servable.predict(payload("sleep 30"))) for _ in range(4)]
        while servable.waiting < 2:
            await asyncio.sleep(0)
        replica.accuse("was ended for a test", 0.0)
        how = await replica.closed()

        others[0].lend([], how)
        servable.trouble = how

        outcomes = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)
        await servable.abandon()
        return outcomes

    outcomes = shared(behaving(1), scenario)

    assert [type(each) for each in outcomes[-2:]] == [NotReady] * 2
    assert "was ended for a test" in str(outcomes[-1])


def test_the_replicas_own_word_decides_on_an_overrun(shared):
    """Somebody who waited behind others may say that it overran; it did not, so it stays."""

    async def scenario(replica, others, accused):
        working = asyncio.create_task(replica.predict(payload("sleep 0.5"), soon()))
        await asyncio.sleep(0.2)
        replica.accuse(OVERRAN, 30.0)
        return await working

    assert shared(behaving(1), scenario).meta
