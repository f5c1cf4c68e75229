"""What a benchmark concludes: one line for each bound, and an exit code."""

from __future__ import annotations


class Verdicts:
    """Collects whether each bound holds, and prints it as it comes in."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def check(self, holds: bool, claim: str) -> None:
        """*claim* says the bound and what was measured."""
        print(f"{'ok    ' if holds else 'MISSED'}  {claim}", flush=True)
        if not holds:
            self.missed.append(claim)

    def finish(self) -> int:
        """The exit code: 0 when every bound held, else 1."""
        print("every bound held" if not self.missed else f"{len(self.missed)} bounds were missed", flush=True)
        return 1 if self.missed else 0
