"""Requests that are ready together begin in turns, in order; whoever is alone does not wait."""

import asyncio

from gateway.turns import Turns


class Connection:
    def __init__(self, turns, log):
        self.turns, self.log = turns, log
        self.has_waited = False

    def read(self, data):
        self.data = data
        if self.turns.begins(asyncio.get_running_loop(), self):
            self.log.append(data)

    def go_on(self):
        self.has_waited = True
        self.log.append(self.data)


def test_so_many_begin_in_each_turn_and_the_rest_in_order():
    """Nobody is left out, and nobody overtakes: also who comes while others wait."""

    async def scenario():
        turns, log, begun = Turns(3), [], []
        connections = [Connection(turns, log) for _ in range(8)]
        for number, each in enumerate(connections):
            each.read(number)
        for late in range(8, 10):
            begun.append(list(log))
            await asyncio.sleep(0)
            Connection(turns, log).read(late)
        while len(log) < 10:
            begun.append(list(log))
            await asyncio.sleep(0)
        assert log == list(range(10))
        assert begun == [[0, 1, 2], [0, 1, 2, 3, 4, 5], list(range(9))]
        assert [each.has_waited for each in connections] == [False] * 3 + [True] * 5

    asyncio.run(scenario())


def test_a_connection_that_is_alone_never_waits():
    """However many turns there are."""

    async def scenario():
        turns, log = Turns(1), []
        connection = Connection(turns, log)
        for number in range(5):
            connection.read(number)
            await asyncio.sleep(0)
        assert log == list(range(5))
        assert not connection.has_waited

    asyncio.run(scenario())
