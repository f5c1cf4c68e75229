"""What models print, relayed through real pipes."""

import asyncio
import logging
import os
import subprocess
import sys
import textwrap

from gateway.runtimes.output import relay

REPLICAS = 4000
# In a process of its own, for one that loses descriptors may also end or stand still.
MANY_ENDS = """
    import asyncio, os, threading
    import uvloop
    from gateway.runtimes.output import relay

    lost = 0
    is_over = threading.Event()

    def open_files():
        global lost
        while not is_over.is_set():
            try:
                os.close(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                lost += 1

    async def relay_many():
        for number in range({replicas}):
            readable, writable = os.pipe()
            relay(readable, "wine", "1")
            os.close(writable)
            await asyncio.sleep(0.001 if number % 50 == 0 else 0)
        await asyncio.sleep(0.1)

    threads = [threading.Thread(target=open_files) for _ in range(2)]
    for each in threads:
        each.start()
    uvloop.run(relay_many())
    is_over.set()
    for each in threads:
        each.join()
    print(lost, "lost", len(os.listdir("/proc/self/fd")), "open")
"""


async def closed(descriptor):
    """Return when the number is nobody's any more."""
    async with asyncio.timeout(10):
        while os.path.exists(f"/proc/self/fd/{descriptor}"):
            await asyncio.sleep(0.005)


async def test_what_a_replica_prints_is_logged_and_its_pipe_closed(caplog):
    """Lines come whole, also the last one, which has no end."""
    readable, writable = os.pipe()
    caplog.set_level(logging.INFO, "turnout.model")

    relay(readable, "wine", "3")
    os.write(writable, b"one\ntw")
    os.write(writable, b"o\nthree")
    os.close(writable)
    await closed(readable)

    assert [each.message for each in caplog.records] == ["one", "two", "three"]
    assert {(each.endpoint, each.version) for each in caplog.records} == {("wine", "3")}


def test_a_replica_that_ends_takes_nobody_elses_descriptor_along():
    """A transport of uvloop closes a pipe's descriptor, and then its file object the same number again.

    Other threads open files meanwhile, and the number that was freed last is soon given again.
    """
    script = textwrap.dedent(MANY_ENDS).format(replicas=REPLICAS)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout.split()[:2]) == (0, ["0", "lost"]), done.stderr
    assert int(done.stdout.split()[2]) < 20
