"""Replicas as processes of this machine, forked from warm fork servers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Self

from gateway.config import EndpointConfig
from gateway.environments import Environment
from gateway.errors import LoadFailed
from gateway.forkserver import LOCAL, ForkServer
from gateway.requirements import read_requirements
from gateway.runtimes.base import Resolved
from gateway.runtimes.connected import LocalReplica
from gateway.runtimes.folders import open_folder
from gateway.runtimes.output import relay
from gateway.runtimes.starvation import IdleLoads, Starved
from gateway.threads import in_thread
from gateway.venvs import Venvs

log = logging.getLogger("turnout.replica")


class LocalPlace:
    """Where the replicas of one version run: an environment, held until it is left."""

    def __init__(
        self,
        environment: Environment,
        name: str,
        resolved: Resolved,
        config: EndpointConfig,
        shares: bool,
        idle_loads: IdleLoads,
    ) -> None:
        self.environment = name
        self._environment = environment
        self._resolved = resolved
        self._config = config
        self._shares = shares
        self._idle_loads = idle_loads

    async def start(self, progress: Callable[[str], None], is_awaited: bool = True) -> LocalReplica:
        """Loaded at low priority; if nobody waits, on idle cores as long as there are any, so that nobody notices."""
        if is_awaited:
            return await self._start(progress, on_idle_cores=False)
        try:
            return await self._start(progress, on_idle_cores=True)
        except Starved:
            labels = {"endpoint": self._config.name, "version": self._resolved.label}
            log.info("no core is idle; loading again at low priority", extra=labels)
            return await self._start(progress, on_idle_cores=False)

    async def _start(self, progress: Callable[[str], None], on_idle_cores: bool) -> LocalReplica:
        endpoint, version = self._config.name, self._resolved.label
        readable, writable = os.pipe()
        try:
            relay(readable, endpoint, version)
            process = await self._environment.spawn(writable, _imports(self._resolved))
        finally:
            os.close(writable)
        replica = LocalReplica(process, f"{endpoint} version {version}")
        try:
            timecard = process.share() if self._shares else None
            load = replica.load(self._resolved, self._config, progress, on_idle_cores, timecard)
            if on_idle_cores:
                await self._idle_loads.wait(asyncio.create_task(load), process.pid or 0)
            else:
                await load
        except BaseException as problem:
            process.kill()
            how = await replica.closed()
            if isinstance(problem, OSError):
                raise LoadFailed(f"the process that was to load the model {how}") from None
            raise
        return replica


def _imports(resolved: Resolved) -> tuple[str, ...]:
    """What reading the model's format takes, beyond what every fork server imports."""
    match resolved.mlmodel["flavors"]:
        case {"sklearn": {"serialization_format": "skops"}}:
            return ("skops.io",)
    return ()


class LocalRuntime:
    """Starts replicas here. Open it with `async with`; leaving ends every process it started.

    Versions with equal environments share a fork server, which ends when the last of them has left. That of the
    gateway's own interpreter stays, and may have been launched before: *fork_server*, which ends here in any case. With
    *shares* other processes ask the same replicas.
    """

    def __init__(self, cache: Path, shares: bool = False, fork_server: ForkServer | None = None) -> None:
        self._cache = cache
        self._shares = shares
        self._launched = fork_server
        self._idle_loads = IdleLoads()

    async def __aenter__(self) -> Self:
        self._folder, self._lock = open_folder()
        self._venvs = Venvs(self._cache / "environments", os.environ)
        self._environments: dict[Path, Environment] = {}
        self._guests: Counter[Path] = Counter()
        self._numbers = itertools.count()
        if self._launched is not None:
            self._make_environment(*LOCAL, self._launched)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def build(self, resolved: Resolved, config: EndpointConfig) -> None:
        async with self._interpreter(resolved, config):
            pass

    @contextlib.asynccontextmanager
    async def prepare(self, resolved: Resolved, config: EndpointConfig) -> AsyncIterator[LocalPlace]:
        async with self._interpreter(resolved, config) as (python, name), self._fork_server(python, name) as server:
            yield LocalPlace(server, name, resolved, config, self._shares, self._idle_loads)

    async def close(self) -> None:
        await self._venvs.close()
        for environment in self._environments.values():
            environment.close()
        os.close(self._lock)
        shutil.rmtree(self._folder, ignore_errors=True)  # a lock and a few sockets

    @contextlib.asynccontextmanager
    async def _interpreter(self, resolved: Resolved, config: EndpointConfig) -> AsyncIterator[tuple[Path, str]]:
        """The Python that the version runs under, and what the environment is called."""
        if config.env_manager == "local":
            yield LOCAL
            return
        requirements = await in_thread(partial(read_requirements, resolved.path))
        async with self._venvs.hold(requirements) as venv:
            yield venv.python, str(venv)

    @contextlib.asynccontextmanager
    async def _fork_server(self, python: Path, name: str) -> AsyncIterator[Environment]:
        """The one of this interpreter, ready; whoever is the last to leave ends it."""
        environment = self._environments.get(python) or self._make_environment(python, name)
        self._guests[python] += 1
        try:
            await environment.start()
            yield environment
        finally:
            self._guests[python] -= 1
            if not self._guests[python] and python != LOCAL[0]:
                del self._environments[python]
                environment.close()

    def _make_environment(self, python: Path, name: str, fork_server: ForkServer | None = None) -> Environment:
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        self._environments[python] = Environment(folder, python, name, fork_server)
        return self._environments[python]
