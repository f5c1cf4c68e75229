"""Who gets an endpoint's traffic."""

import pytest

from gateway.split import Arm, Split

SPLIT = Split("old", (Arm("new", 0.25, "canary"), Arm("rival", 0.1, "challenger")))


def test_a_plain_split_sends_everything_to_the_primary():
    """Without arms every point picks the primary."""
    assert Split("only").pick(0.999) == ("only", "primary")


@pytest.mark.parametrize(
    ("point", "picked"),
    [
        (0.0, ("new", "canary")),
        (0.2499, ("new", "canary")),
        (0.25, ("rival", "challenger")),
        (0.3499, ("rival", "challenger")),
        (0.36, ("old", "primary")),
        (0.9999, ("old", "primary")),
    ],
)
def test_arms_take_their_weight_in_order(point, picked):
    """An arm gets as much of [0, 1) as its weight says, and the primary the rest."""
    assert SPLIT.pick(point) == picked


def test_shares_add_up_to_one():
    """What /status shows is the whole traffic."""
    assert [role for _, role, _ in SPLIT.shares()] == ["primary", "canary", "challenger"]
    assert sum(share for _, _, share in SPLIT.shares()) == pytest.approx(1.0)
