"""What a transfer tells: how far it is, how much it moved, and what it left out and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from registry.errors import RegistryError, Unavailable

# A server that fails on one thing is asked for the next; one that is away is not asked for a thousand.
FAILURES_IN_A_ROW = 3


@dataclass(slots=True)
class Summary:
    """How much was found and moved, and what was left out and why; `files` and `bytes` are those that were copied."""

    experiments: int = 0
    runs: int = 0
    logged_models: int = 0
    models: int = 0
    versions: int = 0
    files: int = 0
    bytes: int = 0
    problems: list[str] = field(default_factory=list)


class Report:
    """Collects the summary, and hands on a line for each thing that is begun."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.progress = progress
        self.summary = Summary()
        self._failures = 0

    def note(self, problem: str) -> None:
        """Tell of something that is left out; each problem is told once."""
        if problem not in self.summary.problems:
            self.summary.problems.append(problem)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Around a whole transfer: a server that went away is told together with how to go on."""
        try:
            yield
        except Unavailable as problem:
            raise Unavailable(f"{problem}; what was copied stays: repeat the command to go on") from None

    @contextmanager
    def noting(self, what: str) -> Iterator[None]:
        """What is refused inside the block is noted and left out. Raises `Unavailable` when that goes on and on."""
        try:
            yield
        except Unavailable as problem:
            self._failures += 1
            if self._failures >= FAILURES_IN_A_ROW:
                raise
            self.note(f"{what} was left out: {problem}")
        except RegistryError as problem:
            self.note(f"{what} was left out: {problem}")
        else:
            self._failures = 0
