"""Loads on idle cores, watched by way of real processes."""

import asyncio
import os
import subprocess
import sys

import pytest

from gateway.runtimes import starvation
from gateway.runtimes.starvation import IdleLoads, Starved

SPIN = """
import os, sys

os.sched_setaffinity(0, {int(sys.argv[1])})
exec(sys.argv[2])
print("spins", flush=True)
while True:
    pass
"""
ON_IDLE_CORES = "os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"


@pytest.fixture
def spin():
    """Start a process that spins on one core, after it has done what it is told."""
    started = []
    core = min(os.sched_getaffinity(0))

    def start(first="pass"):
        process = subprocess.Popen([sys.executable, "-c", SPIN, str(core), first], stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.communicate()


def load_for(seconds):
    return asyncio.create_task(asyncio.sleep(seconds))


async def test_a_load_that_finds_no_idle_core_is_starved(spin):
    """Its core is another's all the time; the load is cancelled."""
    pid = spin(ON_IDLE_CORES)
    spin()
    load = load_for(60)

    with pytest.raises(Starved):
        await IdleLoads().wait(load, pid)

    with pytest.raises(asyncio.CancelledError):
        await load


async def test_a_load_that_has_its_share_goes_on(spin):
    """It shares the core with one other."""
    pid = spin()
    spin()

    await IdleLoads().wait(load_for(3), pid)


async def test_loads_that_share_the_idle_cores_do_not_starve_each_other(spin, monkeypatch):
    """Eight on one core have an eighth of it each, which is less than one alone should have."""
    monkeypatch.setattr(starvation, "LEAST_SHARE", 0.2)
    loads = IdleLoads()
    pids = [spin() for _ in range(8)]

    await asyncio.gather(*(loads.wait(load_for(3), pid) for pid in pids))


async def test_who_waits_for_something_else_does_not_starve():
    """A process that sleeps wants no core, nor does one that is gone."""
    with subprocess.Popen(["sleep", "60"]) as sleeping:
        await IdleLoads().wait(load_for(2), sleeping.pid)
        sleeping.kill()
    await IdleLoads().wait(load_for(2), sleeping.pid)


async def test_a_load_that_fails_says_why():
    """As it would without anybody who watches."""

    async def fail():
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        await IdleLoads().wait(asyncio.create_task(fail()), 0)
