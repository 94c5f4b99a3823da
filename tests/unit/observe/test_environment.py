"""Which environments ask for traces."""

import pytest

from aigid.errors import UsageError
from aigid.observe.environment import traces_asked

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({ENDPOINT: "http://c:4318"}, ENDPOINT),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "OTEL_TRACES_EXPORTER"),
        ({"OTEL_TRACES_EXPORTER": " OTLP ", ENDPOINT: "http://c:4318"}, "OTEL_TRACES_EXPORTER"),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "false"}, ENDPOINT),
        ({ENDPOINT: "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ENDPOINT),
        (
            {
                ENDPOINT: "http://c:4318",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            ENDPOINT,
        ),
    ],
)
def test_an_exporter_or_an_endpoint_asks_for_traces(
    environment: dict[str, str], variable: str
) -> None:
    asked = traces_asked(environment)
    assert asked is not None
    assert asked.variable == variable


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"},
        {ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318"},
        {"OTEL_SERVICE_NAME": "curation", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ],
)
def test_these_ask_for_none(environment: dict[str, str]) -> None:
    assert traces_asked(environment) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER 'zipkin': .* give otlp or none"),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, "'otlp,console'"),
        (
            {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL 'grpc': .* http/protobuf: .*4318.*OTEL_TRACES_EXPORTER",
        ),
    ],
)
def test_what_cannot_be_exported_is_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        traces_asked(environment)
