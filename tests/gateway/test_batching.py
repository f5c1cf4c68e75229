"""Requests that gather: when they go, with whom, and who hears of what goes wrong."""

import asyncio

import numpy
import pytest

from gateway.batching import Batcher
from gateway.errors import ModelError, ReplicaDied
from gateway.worker import parts
from gateway.worker.frames import Payload


def payload(*values, **more):
    """A table of one column."""
    meta = {"kind": "table", "columns": ["a"], "dtypes": ["float64"], "rows": len(values), "packed": True}
    return Payload(meta | more, (numpy.array(values).tobytes(),))


def values(answer):
    return numpy.frombuffer(answer.buffers[0]).tolist()


class Model:
    """Doubles what it gets, one call after another, each when it is let."""

    def __init__(self):
        self.calls = []
        self.turns = asyncio.Semaphore(0)
        self.problem = None
        self.given_up = 0

    async def __call__(self, asked, until_s):
        numbers = values(asked)
        self.calls.append(numbers)
        self.until_s = until_s
        try:
            await self.turns.acquire()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        if self.problem is not None:
            raise self.problem
        if -1.0 in numbers and "parts" in asked.meta:
            return self.one_by_one(asked)
        doubled = numpy.array(numbers) * 2
        return Payload({"kind": "tensor", "dtype": "float64", "shape": [len(numbers)]}, (doubled.tobytes(),))

    @staticmethod
    def one_by_one(asked):
        """What a replica answers when one of several is bad."""
        error = {"kind": "error", "status": 400, "code": "BAD_REQUEST", "message": "negative"}
        metas = [error if each < 0 else {"kind": "tensor", "dtype": "float64", "shape": [1]} for each in values(asked)]
        buffers = tuple(numpy.array([each * 2]).tobytes() for each in values(asked) if each >= 0)
        return Payload({"kind": "parts", "parts": metas}, buffers)

    def let(self, calls=1):
        for _ in range(calls):
            self.turns.release()


def ask(batcher, *numbers, left_s=1000.0, **more):
    each = payload(*numbers, **more)
    until_s = asyncio.get_running_loop().time() + left_s
    return asyncio.create_task(batcher.predict(parts.key(each.meta), each, until_s))


async def calm():
    """Until nothing is left to be done but what waits for the model."""
    for _ in range(20):
        await asyncio.sleep(0)


def run(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 30))


def test_the_first_goes_at_once_and_the_others_together():
    """Whoever comes while the model is busy goes with the next call; each gets the answers to its own rows."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=100)
        first = ask(batcher, 1.0)
        await calm()
        others = [ask(batcher, 2.0), ask(batcher, 3.0, 4.0), ask(batcher, 5.0)]
        await calm()
        assert (model.calls, batcher.waiting, batcher.is_free) == ([[1.0]], 3, False)
        model.let(2)
        assert [values(await each) for each in (first, *others)] == [[2.0], [4.0], [6.0, 8.0], [10.0]]
        assert (model.calls, batcher.waiting) == ([[1.0], [2.0, 3.0, 4.0, 5.0]], 0)

    run(scenario)


def test_no_call_has_more_rows_than_it_may():
    """What is too much goes with the call after; a request that is too large alone goes alone."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=2)
        asked = [ask(batcher, 0.0)]
        await calm()
        asked += [ask(batcher, 1.0), ask(batcher, 2.0), ask(batcher, 3.0), ask(batcher, 4.0, 5.0, 6.0)]
        model.let(9)
        await asyncio.gather(*asked)
        assert model.calls == [[0.0], [1.0, 2.0], [3.0], [4.0, 5.0, 6.0]]

    run(scenario)


def test_what_differs_is_never_mixed_and_nobody_starves():
    """Params apart, and in turns however many come of one kind."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=2)
        asked = [ask(batcher, 0.0)]
        await calm()
        asked += [ask(batcher, 1.0), ask(batcher, 10.0, params={"k": 1}), ask(batcher, 2.0), ask(batcher, 3.0)]
        model.let(9)
        await asyncio.gather(*asked)
        assert model.calls == [[0.0], [1.0, 2.0], [10.0], [3.0]]

    run(scenario)


def test_one_bad_request_fails_alone():
    """It gets the model's refusal, and the others their answers."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=100)
        asked = [ask(batcher, 0.0)]
        await calm()
        asked += [ask(batcher, 1.0), ask(batcher, -1.0), ask(batcher, 2.0)]
        model.let(2)
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [values(found[at]) for at in (0, 1, 3)] == [[0.0], [2.0], [4.0]]
        assert isinstance(found[2], ModelError)
        assert (str(found[2]), found[2].http_status) == ("negative", 400)

    run(scenario)


def test_a_call_that_fails_fails_for_all_of_it_and_the_next_goes_on():
    """A replica that dies takes the requests of its call with it, and no others."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=2)
        asked = [ask(batcher, 0.0)]
        await calm()
        asked += [ask(batcher, 1.0), ask(batcher, 2.0), ask(batcher, 3.0)]
        model.let()
        await calm()
        model.problem = ReplicaDied("gone", started=True)
        model.let()
        await calm()
        model.problem = None
        model.let()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(each) for each in found] == [Payload, ReplicaDied, ReplicaDied, Payload]

    run(scenario)


def test_as_many_calls_as_there_are_replicas():
    """Two replicas, two calls at once."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 2, max_rows=100)
        asked = [ask(batcher, float(each)) for each in range(2)]
        await calm()
        asked += [ask(batcher, float(each)) for each in range(2, 5)]
        await calm()
        assert model.calls == [[0.0], [1.0]]
        model.let(3)
        await asyncio.gather(*asked)
        assert model.calls[2:] == [[2.0, 3.0, 4.0]]

    run(scenario)


def test_who_leaves_is_not_worked_for():
    """While it waits it is taken out; when all of a call have left, the call is given up, and the next begins."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=2)
        first = ask(batcher, 0.0)
        await calm()
        left, one, other, last = (ask(batcher, each) for each in (1.0, 2.0, 3.0, 4.0))
        await calm()
        left.cancel()
        model.let()
        await first
        await calm()
        assert (model.calls, batcher.waiting) == ([[0.0], [2.0, 3.0]], 1)
        one.cancel()
        await calm()
        assert model.given_up == 0
        other.cancel()
        await calm()
        assert model.given_up == 1
        model.let()
        assert values(await last) == [8.0]

    run(scenario)


def test_all_leave_at_the_moment_at_which_it_is_their_turn():
    """Nothing is called for them, and whoever comes next is answered."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=2)
        first = ask(batcher, 0.0)
        await calm()
        leaving = [ask(batcher, each) for each in (1.0, 2.0)]
        await calm()
        model.let()
        for each in leaving:
            each.cancel()
        await calm()
        assert (batcher.is_free, values(await first)) == (True, [0.0])
        model.let()
        assert values(await ask(batcher, 3.0)) == [6.0]
        assert model.calls == [[0.0], [3.0]]

    run(scenario)


@pytest.mark.parametrize("max_rows", [2, 100])
def test_waiting_for_company(max_rows):
    """With a wait, a request goes when there are rows enough, or when it has waited so long."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=max_rows, max_wait_s=60.0 if max_rows == 2 else 0.05)
        model.let(9)
        one = ask(batcher, 1.0)
        await calm()
        assert model.calls == []
        other = ask(batcher, 2.0)
        assert [values(await each) for each in (one, other)] == [[2.0], [4.0]]
        assert model.calls == [[1.0, 2.0]]

    run(scenario)


def test_a_call_is_of_use_until_the_last_of_its_members_leaves():
    """Each has its own deadline; the model works for whoever still waits."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=100)
        now_s = asyncio.get_running_loop().time()
        asked = [ask(batcher, 0.0)]
        await calm()
        asked += [ask(batcher, 1.0, left_s=10), ask(batcher, 2.0, left_s=500), ask(batcher, 3.0, left_s=20)]
        await calm()
        assert batcher.calls == 1
        model.let(2)
        await asyncio.gather(*asked)
        assert 499 < model.until_s - now_s < 510

    run(scenario)


def test_whoever_has_little_time_ends_the_wait_for_company():
    """A batch that waits for others goes while its most impatient member still has half of its time."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=100, max_wait_s=600.0)
        model.let()
        one = ask(batcher, 1.0)
        await calm()
        other = ask(batcher, 2.0, left_s=0.1)
        assert [values(await each) for each in (one, other)] == [[2.0], [4.0]]

    run(scenario)


def test_whoever_has_waited_long_enough_goes_as_soon_as_there_is_room():
    """And not only when somebody who came later has waited long enough too."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=10, max_wait_s=600.0)
        first = ask(batcher, *range(10))
        await calm()
        waiting, hurried = ask(batcher, 1.0), ask(batcher, 2.0, left_s=0.1)
        with pytest.raises(TimeoutError):
            await hurried  # for whom the others' wait for company has ended long before
        late = ask(batcher, 3.0)
        await calm()
        model.let(2)
        await first
        assert [values(await each) for each in (waiting, late)] == [[2.0], [6.0]]
        assert model.calls[1:] == [[1.0, 3.0]]

    run(scenario)


def test_each_waits_only_until_its_own_time():
    """Who runs out of time leaves the line, or the call, and those beside it are answered."""

    async def scenario():
        model = Model()
        batcher = Batcher(model, lambda: 1, max_rows=2)
        first = ask(batcher, 1.0, left_s=0.02)
        await calm()
        late, patient, behind = ask(batcher, 2.0, left_s=0.05), ask(batcher, 3.0), ask(batcher, 4.0, left_s=0.05)
        with pytest.raises(TimeoutError):
            await first
        await calm()
        for each in (late, behind):
            with pytest.raises(TimeoutError):
                await each
        assert batcher.waiting == 0
        model.let(9)
        assert values(await patient) == [6.0]
        assert (model.calls, model.given_up) == ([[1.0], [2.0, 3.0]], 1)

    run(scenario)
