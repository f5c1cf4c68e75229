"""A registry on SQLite, models in it, and gateways that serve them."""

import contextlib

import pytest

import registry
from tests.e2e.gateways import Gateway, behaving


@pytest.fixture
def client(tmp_path):
    """A fresh SQLite registry."""
    with contextlib.closing(registry.connect(f"sqlite:///{tmp_path}/turnout.db")) as client:
        yield client


@pytest.fixture
def add(client):
    """Register the next version of model `m`; gives its number."""

    def add(model, name="m", **attributes):
        info = registry.log_model(model, name=name, registered_model_name=name, client=client, **attributes)
        return str(info.registered_model_version)

    return add


@pytest.fixture
def serve(tmp_path):
    """Start gateways on that registry; all are gone at the end of the test."""
    started = []

    def serve(*arguments, models=("models:/m@champion",), registry_uri=True, **attributes):
        flags = [flag for model in models for flag in ("-m", model)]
        flags += ["--registry-uri", f"sqlite:///{tmp_path}/turnout.db"] if registry_uri else []
        gateway = Gateway(tmp_path, [*flags, "--cache", str(tmp_path / "cache"), *arguments], **attributes)
        started.append(gateway)
        return gateway

    yield serve
    for gateway in started:
        gateway.close()


@pytest.fixture
def champion(client, add):
    """Version 1 of `m`, which the alias champion points at."""
    version = add(behaving(1))
    client.set_registered_model_alias("m", "champion", version)
    return version
