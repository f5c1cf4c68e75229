"""The OpenAPI document: it tells every route, and nothing that follows it makes the server fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from registry.connection import connect
from registry.server import aliases, experiments, gateways, logged_models, models, runs, webhooks
from registry.server.openapi import MLFLOW_FIELDS, TURNOUT_FIELDS, document
from tests.registry.serving import served

schema = schemathesis.openapi.from_dict(document(""))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("openapi")
    with (
        connect(f"sqlite:///{folder / 'r.db'}", allowed_sources=["s3://"]) as registry,
        served(registry) as (host, port),
    ):
        yield f"http://{host}:{port}"


def test_every_route_is_told():
    """The document and the routes name the same methods and paths."""
    modules = (models, experiments, runs, logged_models, webhooks)
    assert set(MLFLOW_FIELDS) == {route for module in modules for route in module.ROUTES}
    assert set(TURNOUT_FIELDS) == {*aliases.ROUTES, *gateways.routes(gateways.Gateways())}


def test_prefix():
    """Paths begin with the static prefix."""
    assert all(each.startswith("/mlflow/api/") for each in document("/mlflow")["paths"])


@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_nothing_makes_the_server_fail(case, url):
    """Whatever is sent, right or wrong, the answer is JSON and no 5xx."""
    case.call_and_validate(base_url=url, checks=[not_a_server_error, content_type_conformance, status_code_conformance])
