"""The gateway as Prometheus sees it; the only file that knows its library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from gateway.configfile import ConfigFile
from gateway.endpoints import EndpointTable
from gateway.meters import BOUNDS_S, LoopLag
from gateway.reconciler import Reconciler

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
VERSION = ("endpoint", "version")
ROLE = (*VERSION, "role")


class Exposition:
    """Reads the numbers when it is asked, so that counting costs a request nothing more."""

    def __init__(
        self,
        endpoints: EndpointTable,
        reconciler: Reconciler,
        lag: LoopLag,
        file: ConfigFile | None,
        processes: Callable[[], Sized],
    ) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Gateway(endpoints, reconciler, lag, file, processes))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)


class _Gateway(Collector):
    def __init__(
        self,
        endpoints: EndpointTable,
        reconciler: Reconciler,
        lag: LoopLag,
        file: ConfigFile | None,
        processes: Callable[[], Sized],
    ) -> None:
        self._endpoints = endpoints
        self._reconciler = reconciler
        self._lag = lag
        self._file = file
        self._processes = processes

    def describe(self) -> Iterator[Metric]:
        return iter(())  # or the library would collect once to see what there is

    def collect(self) -> Iterator[Metric]:
        yield from self._predictions()
        yield from self._versions()
        yield from self._endpoints_now()
        yield from self._whole()
        yield from self._memory()
        if self._file is not None:
            yield from _configuration(self._file)

    def _predictions(self) -> Iterator[Metric]:
        counts = _counter("predictions", "Predictions by what they came to.", *ROLE, "outcome")
        times = HistogramMetricFamily(
            "turnout_prediction_seconds", "Time of predictions that were answered.", labels=ROLE
        )
        bounds = [*(str(each) for each in BOUNDS_S), "+Inf"]
        for endpoint in self._endpoints:
            for version, role, meter in endpoint.meters:
                labels = [endpoint.name, version, role]
                for outcome, count in meter.outcomes.items():
                    counts.add_metric([*labels, outcome], count)
                times.add_metric(labels, list(zip(bounds, accumulate(meter.counts), strict=True)), meter.sum_s)
        yield counts
        yield times

    def _versions(self) -> Iterator[Metric]:
        replicas = _gauge("replicas", "Replicas that are up.", *ROLE)
        calls = _counter("model_calls", "Calls of the model; one may join several requests.", *VERSION)
        for endpoint in self._endpoints:
            for servable, role in endpoint.servables():
                labels = [endpoint.name, servable.resolved.label]
                replicas.add_metric([*labels, role], servable.replicas)
                calls.add_metric(labels, servable.calls)
        yield replicas
        yield calls

    def _endpoints_now(self) -> Iterator[Metric]:
        ready = _gauge("endpoint_ready", "1 while there is a version to serve.", "endpoint")
        failing = _gauge("endpoint_failing", "1 while the version that is wanted cannot be served.", "endpoint")
        waiting = _gauge("requests_waiting", "Requests that wait for a replica.", "endpoint")
        in_flight = _gauge("requests_in_flight", "Requests that are not answered yet.", "endpoint")
        for endpoint in self._endpoints:
            servables = [servable for servable, _ in endpoint.servables()]
            ready.add_metric([endpoint.name], float(endpoint.is_ready))
            failing.add_metric([endpoint.name], float(endpoint.last_error is not None))
            waiting.add_metric([endpoint.name], sum(each.waiting_everywhere for each in servables))
            in_flight.add_metric([endpoint.name], sum(each.leases for each in servables))
        yield from (ready, failing, waiting, in_flight)

    def _whole(self) -> Iterator[Metric]:
        swaps = _counter("swaps", "Versions that were swapped in.")
        reachable = _gauge("registry_reachable", "1 while the registry answers.")
        lag = _gauge("loop_lag_seconds", "How late the event loop was at worst since the last look.")
        swaps.add_metric([], self._reconciler.routing.epoch)
        reachable.add_metric([], float(bool(self._reconciler.reachable)))
        lag.add_metric([], self._lag.take())
        workers = _gauge("http_workers", "Processes that take requests.")
        workers.add_metric([], len(self._processes()))
        yield from (swaps, reachable, lag, workers)

    def _memory(self) -> Iterator[Metric]:
        memory = self._reconciler.memory
        used = _gauge("models_memory_bytes", "What the loaded models hold; measured where there is a limit.")
        limit = _gauge("models_memory_limit_bytes", "What they may hold together; 0 without a limit.")
        slept = _counter("models_put_to_sleep", "Models that made room for others.")
        used.add_metric([], memory.used_bytes)
        limit.add_metric([], memory.limit_bytes)
        slept.add_metric([], memory.put_to_sleep)
        yield from (used, limit, slept)


def _configuration(file: ConfigFile) -> Iterator[Metric]:
    good = _gauge("config_last_reload_successful", "1 while the configuration file says what is in force.")
    when = _gauge("config_last_reload_success_timestamp_seconds", "When the file was last taken over.")
    good.add_metric([], float(file.problem is None))
    when.add_metric([], file.loaded_at.timestamp() if file.loaded_at else 0.0)
    yield from (good, when)


def _counter(name: str, help_text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"turnout_{name}", help_text, labels=labels)


def _gauge(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnout_{name}", help_text, labels=labels)
