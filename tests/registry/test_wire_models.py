"""Registered models and model versions as MLflow's JSON."""

from __future__ import annotations

from registry.core import ModelVersion, RegisteredModel
from registry.wire.models import decode_model, decode_version, encode_model, encode_version

PLAIN = ModelVersion("wine", "1", 5, 6, "", source="models:/m-1", aliases=[])
FULL = ModelVersion(
    name="wine",
    version="2",
    creation_timestamp=5,
    last_updated_timestamp=6,
    description="d",
    user_id="ana",
    current_stage="Staging",
    source="s3://b/k",
    run_id="r",
    run_link="l",
    status="FAILED_REGISTRATION",
    status_message="why",
    tags={"a": "1"},
    aliases=["champion"],
)
MODEL = RegisteredModel("wine", 1, 2, "about", [PLAIN], {"a": ""}, {"champion": "2"})


def test_versions_come_back():
    """What is written is read again, but for the logged model's id, which MLflow does not tell."""
    assert [decode_version(encode_version(each)) for each in (PLAIN, FULL)] == [PLAIN, FULL]


def test_models_come_back():
    """What is written is read again."""
    bare = RegisteredModel("wine", 1, 2, latest_versions=[])
    assert [decode_model(encode_model(each)) for each in (MODEL, bare)] == [MODEL, bare]


def test_empty_values():
    """A version shows an empty run, and leaves a null description out; a model leaves an empty one out too."""
    assert encode_version(PLAIN) == {
        "name": "wine",
        "version": "1",
        "creation_timestamp": 5,
        "last_updated_timestamp": 6,
        "current_stage": "None",
        "description": "",
        "source": "models:/m-1",
        "run_id": "",
        "status": "READY",
        "run_link": "",
    }
    assert "description" not in encode_version(ModelVersion("wine", "1", 5, 6))
    assert encode_model(RegisteredModel("wine", 1, 2, "")) == {
        "name": "wine",
        "creation_timestamp": 1,
        "last_updated_timestamp": 2,
    }


def test_absent_is_empty():
    """Of a version and of a model, only the names must be there."""
    assert decode_version({"name": "wine", "version": "1"}, "r") == ModelVersion(
        "wine", "1", 0, 0, aliases=[], registry="r"
    )
    assert decode_model({"name": "wine"}) == RegisteredModel("wine", 0, 0, latest_versions=[])


def test_registry_of_nested_versions():
    """The versions inside a model belong to the same registry."""
    assert decode_model(encode_model(MODEL), "r").latest_versions[0].registry == "r"
