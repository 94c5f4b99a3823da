"""Whether the environment asks for traces, by OpenTelemetry's own variables."""

from collections.abc import Mapping
from dataclasses import dataclass

from aigid.errors import UsageError

# Those that name an exporter or where it sends to, the most special first.
_ASKING = (
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = ("otlp", "otlp_proto_http")
_PROTOCOL = "http/protobuf"


@dataclass(frozen=True)
class TracesAsked:
    """Traces are asked for, by this environment variable."""

    variable: str


def traces_asked(environment: Mapping[str, str]) -> TracesAsked | None:
    """Return what asks for traces; None where nothing does.

    Raises UsageError where the environment asks for another exporter than OTLP over HTTP.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    variable = next((name for name in _ASKING if environment.get(name, "").strip()), None)
    if variable is None or exporter == "none":
        return None
    if exporter and exporter not in _EXPORTERS:
        raise UsageError(
            f"OTEL_TRACES_EXPORTER {exporter!r}: aigid exports traces with OTLP: give otlp or none"
        )
    for name in _PROTOCOLS:
        protocol = environment.get(name, "").strip().lower()
        if not protocol:
            continue
        if protocol == _PROTOCOL:
            break
        raise UsageError(
            f"{name} {protocol!r}: aigid exports traces with {_PROTOCOL}: give that, and the "
            "collector's endpoint for it (its usual port is 4318); OTEL_TRACES_EXPORTER=none "
            "switches traces off"
        )
    return TracesAsked(variable)
