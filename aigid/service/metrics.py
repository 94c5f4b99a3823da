"""What the service tells Prometheus."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from aigid.contract import ModelContract
from aigid.detection import Detection
from aigid.version import __version__

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """Counts requests and pairs, in a registry of its own. Threads can share it."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, contract: ModelContract) -> None:
        self._registry = registry = CollectorRegistry()
        model = {"model": contract.name, "fingerprint": contract.fingerprint}
        Info("aigid_service", "The service and its model.", registry=registry).info(
            {"version": __version__, **model}
        )
        self._requests = Counter(
            "aigid_service_requests", "Requests.", ("path", "status"), registry=registry
        )
        self._request_seconds = Histogram(
            "aigid_service_request_seconds",
            "From the head of a request to its answer.",
            ("path",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._stages = Histogram(
            "aigid_service_stage_seconds",
            "Seconds of read and parse (a request), fetch and decode (an image), score (a batch).",
            ("stage",),
            registry=registry,
            buckets=_SECONDS,
        )
        self._batch_rows = Histogram(
            "aigid_service_batch_rows", "Pairs scored together.", registry=registry, buckets=_ROWS
        )
        self._pairs = Counter(
            "aigid_service_pairs", "Pairs answered, by verdict.", ("verdict",), registry=registry
        )
        self._errors = Counter(
            "aigid_service_pair_errors", "Pairs with an error.", ("code",), registry=registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is asked for its value."""
        Gauge(f"aigid_service_{name}", text, registry=self._registry).set_function(value)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is that of a route, never what a client wrote."""
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """Note how long a stage took."""
        self._stages.labels(name).observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        """Note a batch that was scored."""
        self._batch_rows.observe(rows)
        self.stage("score", seconds)

    def answers(self, detections: Iterable[Detection]) -> None:
        """Count the answers of a request."""
        for one in detections:
            if one.error is not None:
                self._errors.labels(one.error.code.value).inc()
            elif one.verdict is not None:
                self._pairs.labels(one.verdict.value).inc()

    def text(self) -> bytes:
        """Return all of it, as Prometheus reads it."""
        return generate_latest(self._registry)
