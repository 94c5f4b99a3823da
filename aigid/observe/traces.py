"""Traces of a scan with OpenTelemetry: one trace a shard, sent with OTLP over HTTP."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Thread

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from aigid.errors import UsageError
from aigid.observe.watch import CommittedShard, OnCommit, ScanBegin
from aigid.progress import OnMessage
from aigid.records import escaped, without_secrets
from aigid.version import __version__

# For the last spans, when a scan has ended, and when it was interrupted.
_PATIENCE_S, _INTERRUPTED_PATIENCE_S = 5.0, 0.5
_SILENT = logging.CRITICAL + 1
_NS = 1_000_000_000


@contextmanager
def exported_traces(on_message: OnMessage) -> Iterator[OnCommit]:
    """Yield the function that makes the trace of a shard; the environment says where it is sent.

    When the context ends, traces that are not sent within a few seconds are lost. `on_message` is
    called once where any are. Raises UsageError where the environment's settings cannot be used.
    """
    unmute = _mute()
    try:
        exporter = _Exporter(OTLPSpanExporter(), on_message)
        processor = BatchSpanProcessor(exporter)
        # Not the application's: this provider ends with the scan.
        provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    except (ValueError, OSError, RuntimeError) as error:
        unmute()
        raise UsageError(f"the environment's settings for traces (OTEL_...): {error}") from error
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("aigid", __version__)
    patience_s = _INTERRUPTED_PATIENCE_S
    try:
        yield lambda begin, shard: _trace(tracer, begin, shard)
        patience_s = _PATIENCE_S
    except Exception:
        patience_s = _PATIENCE_S
        raise
    finally:
        # Some versions wait for as long as the exporter tries.
        closing = Thread(target=_close, args=(provider, unmute), name="traces", daemon=True)
        closing.start()
        closing.join(patience_s)
        if closing.is_alive():
            exporter.tell()


def _close(provider: TracerProvider, unmute: Callable[[], None]) -> None:
    provider.shutdown()
    unmute()


def _mute() -> Callable[[], None]:
    """Silence OpenTelemetry's log, which has stack traces, and headers that may be secret.

    Returns what ends that.
    """
    logger = logging.getLogger("opentelemetry")
    # Another scan of this process may have it silenced already.
    before = logging.NOTSET if logger.level == _SILENT else logger.level
    logger.setLevel(_SILENT)
    return lambda: logger.setLevel(before)


def _resource() -> Resource:
    """Return what the environment says of this service, by default that it is aigid."""
    found = Resource.create({SERVICE_VERSION: __version__})
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return found.merge(Resource({SERVICE_NAME: "aigid"}))
    return found


class _Exporter(SpanExporter):
    """An exporter that says once that spans do not arrive; the scan goes on."""

    def __init__(self, exporter: OTLPSpanExporter, on_message: OnMessage) -> None:
        self._exporter, self._on_message = exporter, on_message
        self._has_told = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.tell()
        return result

    def tell(self) -> None:
        """Say that spans are lost, unless that was said before."""
        if not self._has_told:
            self._has_told = True
            self._on_message(
                "traces are lost: the collector that the environment names "
                "(OTEL_EXPORTER_OTLP_ENDPOINT) does not take them; the scan is not affected"
            )

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call, unused-ignore]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: spans wait in the processor."""
        return self._exporter.force_flush(timeout_millis)


def _trace(tracer: Tracer, begin: ScanBegin, committed: CommittedShard) -> None:
    """Make the trace of a shard that was committed just now.

    The stages are events, for many threads work in all of them at the same time.
    """
    done, shard, end = committed.done, committed.shard, time.time_ns()
    scanned = end - round(committed.commit_s * _NS)
    began = scanned - round(committed.scan_s * _NS)
    first = shard.segments[0]
    attributes: dict[str, AttributeValue] = {
        "aigid.shard.index": shard.index,
        "aigid.shard.rows": done.rows,
        "aigid.shard.errors": done.failed,
        "aigid.shard.image_bytes": done.image_bytes,
        "aigid.manifest.file": escaped(without_secrets(first.file.path)),
        "aigid.manifest.first_row": first.file.first_row + first.start,
        "aigid.model.name": escaped(begin.model),
        "aigid.model.fingerprint": begin.fingerprint,
        **{f"aigid.shard.errors.{code}": count for code, count in done.errors.items()},
        **({"aigid.node": escaped(committed.node)} if committed.node else {}),
    }
    root = tracer.start_span("shard", Context(), start_time=began, attributes=attributes)
    within = set_span_in_context(root)
    scan = tracer.start_span("scan", within, start_time=began)
    for stage in ("fetch", "evidence", "decode", "score"):
        seconds = getattr(done.stages, f"{stage}_s")
        if seconds:
            scan.add_event(stage, {"aigid.thread_seconds": seconds}, timestamp=scanned)
    scan.end(scanned)
    tracer.start_span("commit", within, start_time=scanned).end(end)
    root.end(end)
