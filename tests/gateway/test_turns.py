"""Requests that are ready together begin in turns, in order; whoever is alone does not wait."""

import asyncio

from gateway.turns import Turns


class Connection:
    def __init__(self, turns, log):
        self.turns, self.log = turns, log
        self.postponed = 0

    def read(self, data):
        if self.turns.begins(asyncio.get_running_loop(), self, data):
            self.log.append(data)

    def postpone(self):
        self.postponed += 1

    def go_on(self, data):
        self.log.append(data)


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
        assert [each.postponed for each in connections] == [0, 0, 0, 1, 1, 1, 1, 1]

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
        assert connection.postponed == 0

    asyncio.run(scenario())
