"""Virtual environments by content: equal requirements share one, and one is complete as soon as it has its name.

    <folder>/locks/<digest of requirements, interpreter and platform>.txt
    <folder>/<digest of lock, interpreter and platform>/bin/python

Several gateways may share the folder. What has been locked and built needs no index again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import platform
import shutil
import sysconfig
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from gateway.installer import Installer, Interpreter
from gateway.requirements import Requirements
from gateway.threads import in_thread

log = logging.getLogger("turnout.environment")

FORMAT = 1  # part of every digest: raise it when environments are built another way
LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Venv:
    """A complete virtual environment."""

    key: str
    folder: Path
    interpreter: Interpreter

    @property
    def python(self) -> Path:
        """Its own executable."""
        return self.folder / "bin" / "python"

    def __str__(self) -> str:
        note = f" ({self.interpreter.note})" if self.interpreter.note else ""
        return f"uv:{self.key[:12]} python {self.interpreter.version}{note}"


class Venvs:
    """The environments below one folder. What two ask for at the same time is built once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._installer = Installer(folder / "uv-cache", os.environ)
        self._platform = [sysconfig.get_platform(), *platform.libc_ver()]
        self._building: dict[str, asyncio.Task[Venv]] = {}

    async def of(self, requirements: Requirements) -> Venv:
        """The environment that fulfils the requirements, built if need be; raises `LoadFailed` with what uv said.

        Cancelling leaves a build that has begun to go on.
        """
        interpreter = await self._installer.find(requirements.python)
        wanted = self._digest(requirements.packages, requirements.constraints, interpreter.identity)
        if wanted not in self._building:
            task = asyncio.create_task(self._prepare(wanted, requirements, interpreter))
            self._building[wanted] = task
            task.add_done_callback(lambda task: self._built(wanted, task))
        return await asyncio.shield(self._building[wanted])

    async def close(self) -> None:
        """Give up what is being built."""
        building = list(self._building.values())
        for task in building:
            task.cancel()
        await asyncio.gather(*building, return_exceptions=True)

    def _built(self, wanted: str, task: asyncio.Task[Venv]) -> None:
        del self._building[wanted]
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may wait any more

    async def _prepare(self, wanted: str, requirements: Requirements, interpreter: Interpreter) -> Venv:
        lock = self._folder / "locks" / f"{wanted}.txt"
        if not lock.is_file():
            _write_once(lock, await self._installer.lock(requirements, interpreter.path))
        key = self._digest(lock.read_text(), interpreter.identity)
        venv = Venv(key, self._folder / key, interpreter)
        if not venv.python.exists():
            async with self._alone(key):
                if not venv.python.exists():
                    await self._build(venv, lock)
        return venv

    async def _build(self, venv: Venv, lock: Path) -> None:
        begun_s = time.monotonic()
        log.info("building an environment", extra={"environment": str(venv)})
        folder = self._folder / f".building-{venv.key}-{token_hex(4)}"
        try:
            await self._installer.make(folder, lock, venv.interpreter.path)
            await in_thread(os.sync)  # its name must not outlive its files when the power fails
            folder.rename(venv.folder)
        finally:
            await in_thread(lambda: shutil.rmtree(folder, ignore_errors=True))
        seconds = round(time.monotonic() - begun_s, 1)
        log.info("environment built", extra={"environment": str(venv), "seconds": seconds})

    @contextlib.asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Of all gateways that share the folder, one at a time builds this environment."""
        descriptor = os.open(self._folder / f".{key}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while not _locks(descriptor):
                await asyncio.sleep(LOOK_AGAIN_S)
            yield
        finally:
            os.close(descriptor)

    def _digest(self, *parts: object) -> str:
        return sha256(json.dumps([FORMAT, self._platform, *parts]).encode()).hexdigest()[:32]


def _write_once(path: Path, text: str) -> None:
    """Whoever else locks the same at the same time may find other releases: the first one's lock is everybody's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{token_hex(4)}")
    try:
        with draft.open("x") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
