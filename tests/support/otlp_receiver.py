"""A collector of OpenTelemetry traces on loopback: it decodes what is sent, and keeps it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from support.web_server import LoopbackServer


@dataclass
class OtlpReceiver:
    """The receiver's address, and what came: paths, headers, bodies, spans, resources."""

    address: str
    paths: list[str] = field(default_factory=list)
    headers: list[Message] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    def traces(self) -> dict[bytes, dict[str, Span]]:
        """Return the spans of each trace by name; no trace has two of a name."""
        found: dict[bytes, dict[str, Span]] = {}
        for span in self.spans:
            of_trace = found.setdefault(span.trace_id, {})
            assert span.name not in of_trace
            of_trace[span.name] = span
        return found


def attributes_of(item: Any) -> dict[str, Any]:
    """Return the attributes of a span, an event or a resource."""
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes
    }


class _Handler(BaseHTTPRequestHandler):
    server: "_Server"

    def do_POST(self) -> None:
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["Content-Length"]))
        receiver.paths.append(self.path)
        receiver.headers.append(self.headers)
        receiver.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            receiver.resources.append(attributes_of(resource.resource))
            receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(LoopbackServer):
    receiver: OtlpReceiver


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    """Receive traces until the context ends."""
    server = _Server(_Handler)
    server.receiver = OtlpReceiver(f"http://127.0.0.1:{server.server_port}")
    with server.running():
        yield server.receiver
