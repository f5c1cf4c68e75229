"""A collector of traces: a real HTTP server that takes what the real exporter sends."""

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    """What arrived of one span."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    begun_ns: int
    ended_ns: int
    status: int
    message: str
    attributes: dict
    resource: dict


class Collector:
    """OTLP over HTTP on a free port, until `close`."""

    def __init__(self):
        self.spans = []
        taken = self.spans

        class Taking(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                taken.extend(spans_of(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def trace(self, trace_id):
        """The spans of one trace by their names."""
        return {each.name: each for each in list(self.spans) if each.trace_id == trace_id}

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def spans_of(request):
    for group in request.resource_spans:
        resource = attributes_of(group.resource)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code,
                    span.status.message,
                    attributes_of(span),
                    resource,
                )


def attributes_of(thing):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in thing.attributes}
