"""Who gets an endpoint's traffic: one immutable value, replaced as a whole. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Arm(Generic[T]):
    """A version beside the primary, with its share of the traffic."""

    servable: T
    weight: float
    role: str  # canary (the primary's next version) or challenger (an alias of its own)


@dataclass(frozen=True, slots=True)
class Split(Generic[T]):
    """How one endpoint's traffic is divided between versions at one moment."""

    primary: T
    arms: tuple[Arm[T], ...] = ()

    def pick(self, point: float) -> tuple[T, str]:
        """Choose by a point in [0, 1), and say in which role; the caller supplies the randomness."""
        for arm in self.arms:
            if point < arm.weight:
                return arm.servable, arm.role
            point -= arm.weight
        return self.primary, "primary"

    def shares(self) -> Iterator[tuple[T, str, float]]:
        """Every version with its role and its share; the shares add up to 1."""
        yield self.primary, "primary", 1.0 - sum(arm.weight for arm in self.arms)
        for arm in self.arms:
            yield arm.servable, arm.role, arm.weight
