"""What a change of the settings does to the control path."""

import asyncio
import threading
from dataclasses import replace

from gateway.config import EndpointConfig, Settings
from gateway.endpoints import EndpointTable
from gateway.reconciler import Reconciler
from gateway.runtimes.local import LocalRuntime
from registry import ModelUri

CONFIG = EndpointConfig("m", ModelUri.parse("models:/m@champion"))


def watchers():
    return [each for each in threading.enumerate() if each.name == "watch"]


async def test_other_settings_leave_the_registry_open(tmp_path, sqlite_registry):
    """A version may be on its way from it, which a new connection would have begin again."""
    settings = Settings((CONFIG,), registry_uri=sqlite_registry.uri, cache=tmp_path)

    async with LocalRuntime(tmp_path) as runtime:
        reconciler = Reconciler(settings, EndpointTable(()), runtime)
        before = set(watchers())
        running = asyncio.create_task(reconciler.run())
        while reconciler.last_seen is None:
            await asyncio.sleep(0.01)
        [watcher] = set(watchers()) - before

        reconciler.reconfigure(replace(settings, endpoints=(replace(CONFIG, replicas=2),)))
        seen = reconciler.last_seen
        while reconciler.last_seen == seen:
            await asyncio.sleep(0.01)

        assert set(watchers()) - before == {watcher}
        running.cancel()
        await asyncio.wait({running})
