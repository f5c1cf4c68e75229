"""Traces of a real gateway, sent by the real exporter to a collector: from the client's span to the replica's."""

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import numpy
import pandas
import pytest
from sklearn.ensemble import RandomForestRegressor

import registry
from tests.e2e.collectors import Collector
from tests.e2e.gateways import behaving, eventually

INTERNAL, SERVER = 1, 2
UNSET, ERROR = 0, 2
SPAN = "00f067aa0ba902b7"
QUICKLY = {"OTEL_BSP_SCHEDULE_DELAY": "20"}
ROOT = str(Path(registry.__file__).parents[1])


def trace_id(number):
    return f"{number:032x}"


def parent(number, flags="01"):
    """The headers of a client whose own span is sampled, or is not."""
    return {"traceparent": f"00-{trace_id(number)}-{SPAN}-{flags}"}


@pytest.fixture
def collector():
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture
def traced(serve, collector):
    """Start gateways that send their traces to the collector."""

    def traced(*flags, **variables):
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, **QUICKLY, **variables}
        return serve(*flags, environment=environment).ready()

    return traced


def arrived(collector, number, *names):
    """The trace of that number, once it has spans of these names."""
    what = f"spans {names} of {trace_id(number)}; there are: {collector.spans}"
    eventually(lambda: collector.trace(trace_id(number)).keys() >= set(names), what)
    return collector.trace(trace_id(number))


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/invocations", "/invocations"),
        ("/endpoints/m/invocations", "/endpoints/{name}/invocations"),
        ("/endpoints/m/versions/2/invocations", "/endpoints/{name}/versions/{version}/invocations"),
    ],
)
def test_from_the_client_to_the_replica(champion, client, traced, collector, path, route):
    """The client's span has the gateway's below it, and this one the time in the queue and in the replica."""
    client.create_model_version("m", client.get_model_version("m", champion).source, run_id="abc")
    client.set_registered_model_alias("m", "champion", "2")
    gateway = traced(OTEL_SERVICE_NAME="shop", OTEL_RESOURCE_ATTRIBUTES="team=fraud")
    url = gateway.client.base_url
    answer = gateway.ask("sleep 0.05", path, headers=parent(7) | {"x-request-id": "r1", "user-agent": "me"})
    trace = arrived(collector, 7, f"POST {route}", "queue", "replica")
    server, queue, replica = trace[f"POST {route}"], trace["queue"], trace["replica"]

    assert answer.status_code == 200
    assert len(trace) == 3
    assert (server.parent_id, server.kind, server.status) == (SPAN, SERVER, UNSET)
    assert {queue.parent_id, replica.parent_id} == {server.span_id}
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": route,
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": path,
        "server.address": "127.0.0.1",
        "server.port": url.port,
        "network.peer.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "me",
        "turnout.request_id": "r1",
        "turnout.endpoint": "m",
        "turnout.model_name": "m",
        "turnout.model_version": "2",
        "turnout.model_alias": "champion",
        "turnout.role": "primary",
        "turnout.run_id": "abc",
    }
    assert (replica.kind, replica.attributes) == (INTERNAL, {"turnout.batch.requests": 1})
    assert server.begun_ns <= queue.begun_ns <= queue.ended_ns == replica.begun_ns
    assert replica.begun_ns + 50_000_000 <= replica.ended_ns <= server.ended_ns  # it slept that long itself
    assert server.resource["service.name"] == "shop"
    assert server.resource["team"] == "fraud"
    assert server.resource["process.pid"] == gateway.process.pid


@pytest.fixture
def forest(add, client):
    """A model whose requests are joined; gives the body of a request of some rows."""
    data = pandas.DataFrame(numpy.random.RandomState(7).rand(60, 3), columns=["a", "b", "c"])
    model = RandomForestRegressor(10, random_state=0).fit(data, data.sum(axis="columns"))
    version = add(model, signature=registry.infer_signature(data), input_example=data.head(3))
    client.set_registered_model_alias("m", "champion", version)
    return lambda rows: {"dataframe_split": {"columns": list("abc"), "data": data.head(rows).to_numpy().tolist()}}


def test_joined_requests_have_a_trace_each(forest, traced, collector):
    """Requests that became one call name how many they were, and were in the replica at the same time."""
    gateway = traced("--batch-max-wait", "2s", "--batch-max-rows", "6")
    eventually(lambda: gateway.status()["versions"][0]["path"].endswith("batch"), "a proof")
    together = threading.Barrier(3)

    def ask(number):
        together.wait(30)
        return gateway.client.post("/invocations", json=forest(number), headers=parent(number))

    with ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(ask, (1, 2, 3)))
    traces = [arrived(collector, number, "POST /invocations", "queue", "replica") for number in (1, 2, 3)]
    replicas = [trace["replica"] for trace in traces]

    assert [len(each.json()["predictions"]) for each in answers] == [1, 2, 3]
    assert [each.attributes for each in replicas] == [{"turnout.batch.requests": 3, "turnout.batch.rows": 6}] * 3
    assert len({(each.begun_ns, each.ended_ns) for each in replicas}) == 1
    assert [each.parent_id for each in replicas] == [trace["POST /invocations"].span_id for trace in traces]


def test_v2_is_traced_too(forest, traced, collector):
    """An inference of the Open Inference Protocol is a span with its own route."""
    gateway = traced()
    columns = [{"name": name, "shape": [1], "datatype": "FP64", "data": [0.5]} for name in "abc"]
    answer = gateway.client.post("/v2/models/m/infer", json={"inputs": columns}, headers=parent(1))

    trace = arrived(collector, 1, "POST /v2/models/{name}/infer", "queue", "replica")

    assert answer.status_code == 200, answer.text
    assert trace["POST /v2/models/{name}/infer"].parent_id == SPAN


def test_who_is_to_blame(champion, traced, collector):
    """What a client did wrong is no error of the server; a replica that dies is one, of both spans."""
    gateway = traced()
    statuses = [
        gateway.ask("raise", headers=parent(1)).status_code,
        gateway.ask("die", headers=parent(2)).status_code,
        gateway.ask(path="/endpoints/no/invocations", headers=parent(3)).status_code,
    ]
    refused = arrived(collector, 1, "POST /invocations", "queue", "replica")
    died = arrived(collector, 2, "POST /invocations", "queue", "replica")
    unknown = arrived(collector, 3, "POST /endpoints/{name}/invocations")

    assert statuses == [400, 503, 404]
    assert {each.status for each in refused.values()} == {UNSET}
    assert refused["POST /invocations"].attributes["turnout.error_code"] == "BAD_REQUEST"
    assert died["POST /invocations"].status == died["replica"].status == ERROR
    assert died["POST /invocations"].attributes["error.type"] == "503"
    assert died["replica"].attributes["error.type"] == "TEMPORARILY_UNAVAILABLE"
    assert "was killed by SIGKILL" in died["replica"].message
    assert {each.status for each in unknown.values()} == {UNSET}
    assert len(unknown) == 1


def test_where_the_time_went(champion, traced, collector):
    """Of two requests whose time is over, one was in the replica, and the other behind it in the queue."""
    gateway = traced()
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(gateway.ask, "sleep 4", headers=parent(1) | {"x-request-timeout": "3s"})
        eventually(gateway.is_busy, "the model sleeps")
        waiting = gateway.ask(headers=parent(2) | {"x-request-timeout": "200ms"})
    first = arrived(collector, 1, "POST /invocations", "queue", "replica")
    second = arrived(collector, 2, "POST /invocations", "queue")

    assert (hanging.result().status_code, waiting.status_code) == (504, 504)
    assert [first[name].status for name in ("POST /invocations", "queue", "replica")] == [ERROR, UNSET, ERROR]
    assert first["replica"].attributes["error.type"] == "DEADLINE_EXCEEDED"
    assert second.keys() == {"POST /invocations", "queue"}
    assert second["queue"].attributes["error.type"] == "DEADLINE_EXCEEDED"


def test_a_model_that_is_loaded_for_a_request(champion, traced, collector):
    """The time in which it was loaded is a span of the request that asked for it."""
    gateway = traced("--lazy")
    assert gateway.ask(headers=parent(1)).status_code == 200

    trace = arrived(collector, 1, "POST /invocations", "load", "queue", "replica")

    assert trace["load"].parent_id == trace["POST /invocations"].span_id
    assert trace["load"].status == UNSET


def test_a_model_that_does_not_load(add, client, traced, collector):
    """A request that asked for it got no further."""
    client.set_registered_model_alias("m", "champion", add(behaving(1, on_load="raise")))
    gateway = traced("--lazy")
    assert gateway.ask(headers=parent(1)).status_code == 503

    trace = arrived(collector, 1, "POST /invocations", "load")

    assert trace.keys() == {"POST /invocations", "load"}
    assert {each.status for each in trace.values()} == {ERROR}
    assert "bad luck" in trace["load"].message


def test_what_is_not_sampled_is_not_sent(champion, traced, collector):
    """The client's decision is kept to, as the SDK's own sampler does by default."""
    gateway = traced()
    for number, flags in ((1, "00"), (2, "01")):
        assert gateway.ask(headers=parent(number, flags)).status_code == 200

    arrived(collector, 2, "POST /invocations", "queue", "replica")

    assert collector.trace(trace_id(1)) == {}


def test_every_process_exports(champion, traced, collector):
    """With several ingress processes each sends the spans of the requests that it took, the last ones at its end."""
    gateway = traced("--http-workers", "2", OTEL_BSP_SCHEDULE_DELAY="600000")
    workers = eventually(
        lambda: len(rows := gateway.client.get("/status").json()["http_workers"]) == 2 and rows, "two processes"
    )
    with ExitStack() as stack:
        for number in range(1, 41):
            url = f"{gateway.client.base_url}/invocations"
            own = stack.enter_context(httpx2.Client())
            body = {"dataframe_records": [{"do": "nothing"}]}
            assert own.post(url, json=body, headers=parent(number)).status_code == 200
    assert collector.spans == []

    assert gateway.stop() == 0

    traces = [collector.trace(trace_id(number)) for number in range(1, 41)]
    assert [trace.keys() for trace in traces] == [{"POST /invocations", "queue", "replica"}] * 40
    exporters = {each.resource["process.pid"] for trace in traces for each in trace.values()}
    assert exporters == {each["pid"] for each in workers}


def test_nobody_waits_for_a_collector(champion, serve):
    """One that is away, or takes connections and never answers, costs no request and does not keep the gateway up."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as away:
        away.bind(("127.0.0.1", 0))
        for collector in (silent, away):
            endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
            gateway = serve(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **QUICKLY}).ready()

            assert {gateway.ask().status_code for _ in range(20)} == {200}

            assert gateway.stop(timeout=20) == 0
            assert "the last spans are lost" in gateway.log() or "opentelemetry.exporter" in gateway.log()


def test_without_the_extra_the_log_says_so(champion, serve, tmp_path):
    """The gateway serves, for the variables may be those of a whole cluster."""
    shadow = tmp_path / "shadow" / "opentelemetry"
    shadow.mkdir(parents=True)
    (shadow / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'opentelemetry'\")")
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "PYTHONPATH": f"{shadow.parent}{os.pathsep}{ROOT}",
    }
    gateway = serve(environment=variables).ready()

    assert gateway.ask().status_code == 200
    assert "no traces, although OTEL_EXPORTER_OTLP_ENDPOINT is set" in gateway.log()
    assert "pip install 'turnout[otel]'" in gateway.log()


def test_an_exporter_that_is_not_there_is_refused(tmp_path):
    """The command fails at once, and says what there is."""
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "-m", "models:/m@a", "--port", "0"],
        env=os.environ | {"OTEL_TRACES_EXPORTER": "zipkin", "PYTHONPATH": ROOT},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 2
    assert "no exporter 'zipkin' is installed; those that are: console, otlp_proto_http" in ended.stderr
    assert "Traceback" not in ended.stderr
