"""What a gateway is told at its start."""

from pathlib import Path

import pytest

from gateway.config import EndpointConfig, parse_duration, parse_size, plan_endpoints
from gateway.errors import InvalidSettings

TEMPLATE = EndpointConfig("", Path(), replicas=3, predict_timeout_s=5.0)


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("1.5m", 90), ("2h", 7200)])
def test_durations_have_units(text, seconds):
    """A duration is a number with its unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(("text", "size"), [("1B", 1), ("2KiB", 2048), ("64MiB", 64 << 20), ("1GB", 10**9)])
def test_sizes_have_units(text, size):
    """A size is a number with its unit."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 day", "1e3s", "٣s"])
def test_a_duration_without_a_unit_is_refused(text):
    """The message shows what a duration looks like."""
    with pytest.raises(InvalidSettings, match="250ms, 30s or 2m"):
        parse_duration(text)


def test_an_endpoint_is_named_as_asked_or_as_its_model():
    """`-m NAME=URI` names it; otherwise the model's name, whatever the reference."""
    planned = plan_endpoints(["models:/wine@champion", "old=models:/wine/3", "models:/price/latest"], TEMPLATE)

    assert [each.name for each in planned] == ["wine", "old", "price"]
    assert {each.replicas for each in planned} == {3}
    assert str(planned[0].model) == "models:/wine@champion"


def test_a_directory_is_served_under_its_folder_name(tmp_path):
    """A model directory needs no registry."""
    folder = tmp_path / "my-model"
    folder.mkdir()

    (planned,) = plan_endpoints([str(folder)], TEMPLATE)

    assert (planned.name, planned.model) == ("my-model", folder)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([], "nothing to serve"),
        (["models:/wine@a", "models:/wine@b"], "two endpoints would be called 'wine'"),
        (["models:/größe@a"], "-m NAME="),
        (["nowhere"], "neither a models:/ reference nor a directory"),
        (["models:/wine"], "wine"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(models, message):
    """Each refusal says what to do."""
    with pytest.raises(InvalidSettings, match=message):
        plan_endpoints(models, TEMPLATE)
