"""When traces are exported, and that nothing of it is there when they are not."""

import subprocess
import sys

import pytest

from gateway.predictions import Predictions
from gateway.tracing import exporting

HERE = "http://127.0.0.1:9"


@pytest.fixture
def variables(monkeypatch):
    """Set these of OpenTelemetry's variables, and no others."""
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    return lambda given: [monkeypatch.setenv(name, value) for name, value in given.items()]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"OTEL_SERVICE_NAME": "turnout"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE},
        {"OTEL_SDK_DISABLED": "True", "OTEL_EXPORTER_OTLP_ENDPOINT": HERE},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    ],
)
def test_off(variables, given):
    """Without an exporter the application is the one without spans."""
    variables(given)

    with exporting() as predictions:
        assert predictions is Predictions


@pytest.mark.parametrize(
    "given",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": HERE},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{HERE}/v1/traces"},
        {"OTEL_TRACES_EXPORTER": "otlp"},
        {"OTEL_TRACES_EXPORTER": "console, otlp"},
    ],
)
def test_on(variables, given):
    """An endpoint is enough, and so is an exporter."""
    variables(given)

    with exporting() as predictions:
        assert predictions is not Predictions


def test_nothing_is_imported_for_those_who_do_not_want_it():
    """A gateway without traces never loads OpenTelemetry."""
    code = "import sys, gateway.server; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
