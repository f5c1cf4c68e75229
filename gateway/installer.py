"""uv, as a process that locks, makes and fills environments. Nothing that it installs runs while it has credentials."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
import re
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from gateway.errors import LoadFailed
from gateway.forkserver import scrubbed
from gateway.indexes import uv_environment, uv_options
from gateway.requirements import Requirements

OLDEST_PYTHON = (3, 9)  # what the worker runs on
LIMIT_S = 1800.0
LOW_PRIORITY = 10
MAX_MESSAGE = 1200
PREFIX = re.compile(r"(error|cause|hint): ")
CREDENTIALS = re.compile(r"://[^/\s]*@")
WHEELS_ONLY = "--no-build"  # building runs code of the package's choice, here and with the credentials of the index
ONLY_FOR_LOCKING = ("UV_CONSTRAINT", "UV_OVERRIDE")  # with hashes uv takes nothing beside the lock
NEVER_IMPORTED = r"/site-packages/.+/tests/"  # a large part of what scientific packages bring
ASK = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.implementation.name]))"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that environments can be made of, and how far it is what was asked for."""

    path: Path
    version: str
    implementation: str
    note: str | None = None

    @property
    def identity(self) -> list[str]:
        """What environments of it depend on."""
        return [str(self.path), self.implementation, self.version]


def own_interpreter(note: str | None = None) -> Interpreter:
    """The one that the gateway runs under, outside of any virtual environment."""
    path = Path(os.path.realpath(sys.executable))
    return Interpreter(path, platform.python_version(), sys.implementation.name, note)


class Installer:
    """One uv binary with the gateway's settings for it; every method may raise `LoadFailed` with what uv said."""

    def __init__(self, cache: Path, environment: Mapping[str, str]) -> None:
        # On one file system with the environments, packages are linked and not copied.
        self._environment = {"UV_CACHE_DIR": str(cache)} | uv_environment(environment)
        self._index = uv_options(environment)
        self._bare = scrubbed(dict(environment))

    async def find(self, python: str | None) -> Interpreter:
        """An interpreter of this minor version, never downloaded; else the gateway's own, with a note that says so."""
        if python is None or python == _minor(platform.python_version()):
            return own_interpreter()
        if tuple(map(int, python.split("."))) < OLDEST_PYTHON:
            return own_interpreter(f"the model asks for {python}, which is too old for replicas")
        try:
            found = await self._uv("python", "find", "--system", "--no-project", "--no-python-downloads", python)
            path = Path(os.path.realpath(found.strip()))
            version, implementation = json.loads(await _run([str(path), "-I", "-S", "-c", ASK], self._bare))
        except (LoadFailed, ValueError):
            return own_interpreter(f"the model asks for {python}, which was not found")
        return Interpreter(path, version, implementation)

    async def lock(self, requirements: Requirements, python: Path) -> str:
        """The exact versions that fulfil the requirements, each with its hashes, as a requirements file."""
        options = ("--generate-hashes", "--no-header", "--no-annotate", WHEELS_ONLY, "--no-python-downloads")
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
            constraints.writelines(f"{each}\n" for each in requirements.constraints)
            constraints.flush()
            more = ("-c", constraints.name) if requirements.constraints else ()
            text = "".join(f"{each}\n" for each in requirements.packages)
            return await self._uv(
                "pip", "compile", "--quiet", *self._index, *options, "--python", str(python), *more, "-", text=text
            )

    async def make(self, folder: Path, lock: Path, python: Path) -> None:
        """Make *folder* a virtual environment that holds what *lock* says and nothing else, compiled."""
        no_download = "--no-python-downloads"
        await self._uv("venv", "--quiet", "--relocatable", no_download, "--python", str(python), str(folder))
        executable = str(folder / "bin" / "python")
        options = ("--quiet", *self._index, "--require-hashes", "--no-deps", WHEELS_ONLY, no_download)
        into = ("--python", executable, "-r", str(lock))
        await self._uv("pip", "install", *options, *into, without=ONLY_FOR_LOCKING)
        # Not by uv: its compiler runs what packages put into .pth files. Some packages bring files that are no Python.
        compiler = [executable, "-I", "-S", "-m", "compileall", "-qq", "-j", "0", "-x", NEVER_IMPORTED]
        with contextlib.suppress(LoadFailed):
            await _run([*compiler, str(folder / "lib")], self._bare)

    async def _uv(self, *arguments: str, text: str = "", without: Container[str] = ()) -> str:
        environment = {name: value for name, value in self._environment.items() if name not in without}
        return await _run([uv.find_uv_bin(), *arguments], environment, text)


async def _run(command: list[str], environment: dict[str, str], text: str = "") -> str:
    """What the command prints; raises `LoadFailed` with what it says when it fails. Ended when nobody waits."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE if text else DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        cwd="/",  # whatever lies in the folder that the gateway was started in is no settings of uv's
        start_new_session=True,  # Ctrl-C is for the gateway
    )
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, LOW_PRIORITY)  # what serves goes first
    try:
        async with asyncio.timeout(LIMIT_S):
            output, errors = await process.communicate(text.encode() if text else None)
    except TimeoutError:
        raise LoadFailed(f"uv was not done within {LIMIT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise LoadFailed(f"uv says: {meaning(errors.decode(errors='replace')) or f'exit status {process.returncode}'}")
    return output.decode()


def meaning(text: str) -> str:
    """What uv says, in one line: without its drawing, its warnings, and passwords."""
    parts: list[str] = []
    for line in text.splitlines():
        words = " ".join(line.strip(" ×╰├│─▶").split())
        kind = PREFIX.match(words)
        if words.startswith(("warning:", "For more information")) or not words:
            continue
        if kind or not parts:
            parts.append(words[kind.end() :] if kind else words)
        else:
            parts[-1] += f" {words}"
    return CREDENTIALS.sub("://***@", "; ".join(parts))[:MAX_MESSAGE]


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
