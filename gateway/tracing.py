"""Whether this process exports traces, as OpenTelemetry's own variables say, and that none is lost at its end."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import entry_points
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING

from gateway.admission import Admission
from gateway.config import Settings
from gateway.endpoints import EndpointTable
from gateway.errors import InvalidSettings
from gateway.predictions import Application, Predictions

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

MakePredictions = Callable[[EndpointTable, Callable[[], Settings], Admission, Application], Application]

log = logging.getLogger("turnout.tracing")

FLUSH_TIMEOUT_S = 3.0  # for spans that are left at the end, if the collector takes them
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTERS = "OTEL_TRACES_EXPORTER"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}


@contextlib.contextmanager
def exporting() -> Iterator[MakePredictions]:
    """What makes the application for predictions: `Predictions` itself where nobody wants traces.

    At the end of the block the last spans get a moment in which to be sent. Without the extra there are none, and the
    log says so: the variables may be those of a whole cluster. Raises `InvalidSettings` where they make no sense.
    """
    wanted = _wanted(os.environ)
    if not wanted:
        yield Predictions
        return
    try:
        from gateway import spans

        provider = _provider(wanted)
    except ImportError as problem:
        log.error("no traces, although %s is set: %s; pip install 'turnout[otel]'", _asking(os.environ), problem)
        yield Predictions
        return
    except ValueError as problem:
        raise InvalidSettings(f"traces cannot be exported as the OTEL_ variables say: {problem}") from problem
    log.info("exporting traces with %s", ", ".join(wanted))
    try:
        yield partial(spans.traced, provider.get_tracer("turnout", installed_version("turnout")))
    finally:
        _flush(provider)


def _wanted(variables: Mapping[str, str]) -> list[str]:
    """The exporters that are asked for, by the names under which they are installed."""
    if variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or _asking(variables) is None:
        return []
    names = [each.strip() for each in (variables.get(EXPORTERS) or "otlp").split(",")]
    return [_otlp(variables) if each == "otlp" else each for each in names if each not in ("", "none")]


def _asking(variables: Mapping[str, str]) -> str | None:
    """The variable by which traces are asked for."""
    return next((each for each in (EXPORTERS, *ENDPOINTS) if variables.get(each)), None)


def _otlp(variables: Mapping[str, str]) -> str:
    protocol = next((variables[each] for each in PROTOCOLS if variables.get(each)), "http/protobuf").strip()
    return OTLP.get(protocol, f"OTLP over {protocol}")


def _provider(exporters: list[str]) -> TracerProvider:
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own: dict[str, str | int] = {
        "service.name": "turnout",
        "service.version": installed_version("turnout"),
        "process.pid": os.getpid(),
    }
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for each in [_exporter(name) for name in exporters]:
        provider.add_span_processor(BatchSpanProcessor(each))
    return provider


def _exporter(name: str) -> SpanExporter:
    installed = {each.name: each for each in entry_points(group="opentelemetry_traces_exporter")}
    if name not in installed:
        found = ", ".join(sorted(installed)) or "none"
        raise ValueError(f"no exporter {name!r} is installed; those that are: {found}")
    exporter: SpanExporter = installed[name].load()()
    return exporter


def _flush(provider: TracerProvider) -> None:
    """The SDK would wait for a collector for longer than a gateway may take to end."""
    last = threading.Thread(target=provider.shutdown, name="flush", daemon=True)
    last.start()
    last.join(FLUSH_TIMEOUT_S)
    if last.is_alive():
        log.warning("the last spans are lost: they could not be sent within %g s", FLUSH_TIMEOUT_S)
