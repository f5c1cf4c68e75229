"""What the kernel says about the processes of a server: who they are, and what memory they hold."""

from __future__ import annotations

import contextlib
from pathlib import Path

PROC = Path("/proc")


def of_session(session: int) -> list[int]:
    """Every living process of a session; servers are started with one of their own."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name in brackets may hold anything, so count from behind it.
                state, _, _, its_session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(its_session) == session and state != "Z":
                    found.append(int(entry.name))
    return found


def pss_mb(pid: int) -> float:
    """Proportional set size: pages that n processes share count one n-th in each."""
    return _field(PROC / str(pid) / "smaps_rollup", "Pss:")


def rss_mb(pid: int) -> float:
    """Resident set size: every page in memory, shared or not."""
    return _field(PROC / str(pid) / "status", "VmRSS:")


def total_pss_mb(session: int) -> float:
    return sum(pss_mb(pid) for pid in of_session(session))


def mapped_files(pid: int) -> set[str]:
    """The files that a process has mapped into its memory, its extension modules among them."""
    lines = (PROC / str(pid) / "maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if line.count("/")}


def _field(file: Path, name: str) -> float:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{file} has no line {name}")
