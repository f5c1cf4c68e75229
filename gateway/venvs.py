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
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from secrets import token_hex

from gateway.installer import Installer, Interpreter
from gateway.requirements import Requirements
from gateway.threads import in_thread

log = logging.getLogger("turnout.environment")

FORMAT = 1  # part of every digest: raise it when environments are built another way
LOOK_AGAIN_S = 0.1
BUILDS_AT_ONCE = 4  # each compiles on every core
DIGEST_LENGTH = 32
UNUSED_S = 30 * 24 * 3600.0
ABANDONED_S = 24 * 3600.0


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

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder.absolute()  # uv runs in another working directory
        self._installer = Installer(self._folder / "uv-cache", environment)
        self._platform = [sysconfig.get_platform(), *platform.libc_ver()]
        self._building: dict[str, asyncio.Task[str]] = {}
        self._at_work = asyncio.Semaphore(BUILDS_AT_ONCE)

    @contextlib.asynccontextmanager
    async def hold(self, requirements: Requirements) -> AsyncIterator[Venv]:
        """The environment that fulfils the requirements, built if need be; it stays while the block runs.

        Raises `LoadFailed` with what uv said. Cancelling leaves a build that has begun to go on.
        """
        while True:
            venv = await self._ready(requirements)
            descriptor = _take(venv.folder, fcntl.LOCK_SH)
            if descriptor is not None:
                break
        try:
            _touch(venv.folder)
            yield venv
        finally:
            _touch(venv.folder)
            os.close(descriptor)

    async def close(self) -> None:
        """Give up what is being built."""
        building = list(self._building.values())
        for task in building:
            task.cancel()
        await asyncio.gather(*building, return_exceptions=True)

    async def _ready(self, requirements: Requirements) -> Venv:
        interpreter = await self._installer.find(requirements.python)
        wanted = self._digest(requirements.packages, requirements.constraints, interpreter.identity)
        if wanted not in self._building:
            task = asyncio.create_task(self._prepare(wanted, requirements, interpreter))
            self._building[wanted] = task
            task.add_done_callback(lambda task: self._prepared(wanted, task))
        key = await asyncio.shield(self._building[wanted])
        return Venv(key, self._folder / key, interpreter)

    def _prepared(self, wanted: str, task: asyncio.Task[str]) -> None:
        del self._building[wanted]
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may wait any more

    async def _prepare(self, wanted: str, requirements: Requirements, interpreter: Interpreter) -> str:
        """Have the lock and the environment; the key of both."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._folder / "locks" / f"{wanted}.txt"
        if not lock.is_file():
            async with self._at_work:
                text = await self._installer.lock(requirements, interpreter.path)
            await in_thread(partial(_write_once, lock, text))
        key = self._digest(lock.read_text(), interpreter.identity)
        venv = Venv(key, self._folder / key, interpreter)
        if not venv.python.exists():
            async with self._at_work, self._alone(key):
                if not venv.python.exists():
                    await self._build(venv, lock)
        return key

    async def _build(self, venv: Venv, lock: Path) -> None:
        begun_s = time.monotonic()
        log.info("building an environment", extra={"environment": str(venv)})
        await in_thread(partial(_sweep, self._folder))
        await in_thread(partial(shutil.rmtree, venv.folder, ignore_errors=True))  # one that has lost its Python
        folder = self._folder / f".building-{token_hex(8)}"
        try:
            await self._installer.make(folder, lock, venv.interpreter.path)
            await in_thread(os.sync)  # its name must not outlive its files when the power fails
            folder.rename(venv.folder)
        finally:
            await in_thread(partial(shutil.rmtree, folder, ignore_errors=True))
        seconds = round(time.monotonic() - begun_s, 1)
        log.info("environment built", extra={"environment": str(venv), "seconds": seconds})

    @contextlib.asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """Of all gateways that share the folder, one at a time builds this environment."""
        path = self._folder / "locks" / f"{key}.building"
        path.touch(0o600)
        while (descriptor := _take(path, fcntl.LOCK_EX)) is None:
            await asyncio.sleep(LOOK_AGAIN_S)
        try:
            yield
        finally:
            os.close(descriptor)

    def _digest(self, *parts: object) -> str:
        return sha256(json.dumps([FORMAT, self._platform, *parts]).encode()).hexdigest()[:DIGEST_LENGTH]


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


def _take(path: Path, how: int) -> int | None:
    """A descriptor that holds the file or folder against others; None when they hold it, or it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _touch(folder: Path) -> None:
    with contextlib.suppress(OSError):  # the folder may be on a disk that takes no writes
        os.utime(folder)


def _sweep(folder: Path) -> None:
    """Remove environments that no gateway has used for long, and what killed gateways left half-built."""
    for each in (*folder.glob(".*-*"), *folder.glob("?" * DIGEST_LENGTH)):
        limit_s = ABANDONED_S if each.name.startswith(".") else UNUSED_S
        descriptor = _take(each, fcntl.LOCK_EX)
        if descriptor is None:
            continue
        try:
            if time.time() - os.fstat(descriptor).st_mtime > limit_s:
                gone = folder / f".removed-{token_hex(8)}"
                each.rename(gone)  # at once, so that nobody finds half of it
                shutil.rmtree(gone, ignore_errors=True)
                log.info("removed %s, which was not used for long", each.name)
        finally:
            os.close(descriptor)
