"""The metrics of a scan, in Prometheus' form, from an HTTP server of the scan's own."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO
from wsgiref.simple_server import WSGIRequestHandler

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from aigid.batching import BatchQueue
from aigid.errors import UsageError
from aigid.observe.watch import ScanBegin, ScanWatch
from aigid.progress import ClusterState
from aigid.records import ErrorCode, escaped
from aigid.version import __version__


@contextmanager
def serve_metrics(watch: ScanWatch, host: str, port: int) -> Iterator[str]:
    """Serve the metrics of a scan until the context ends, and yield their URL.

    Requests that have not ended by then are not waited for. Raises UsageError where the host or
    the port cannot be used.
    """
    registry = CollectorRegistry()
    registry.register(ScanCollector(watch))
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such host"
        raise UsageError(
            f"`metrics_port` {port}: cannot be used on `metrics_host` {host}: {reason}: choose "
            "another port, or 0 for any free one"
        ) from error
    server.RequestHandlerClass = _Handler
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(WSGIRequestHandler):
    """Answers a request, and logs none."""

    timeout = 10
    """The seconds after which a client that sends nothing holds no thread any more."""

    def handle(self) -> None:
        """Answer, unless the client is silent or leaves: that is nothing to report."""
        with suppress(OSError):
            super().handle()

    def get_stderr(self) -> TextIO:
        """Return where failures to answer are described: nowhere, the progress is on stderr."""
        return io.StringIO()

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing."""


class ScanCollector(Collector):
    """Reads a watch whenever metrics are asked for."""

    def __init__(self, watch: ScanWatch) -> None:
        self._watch = watch
        self._highest: dict[tuple[str, str], float] = {}

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics as they are now."""
        yield from self._rows()
        yield from self._stages()
        watch = self._watch
        if watch.begin is not None:
            yield from _plan(watch.begin, watch.committed_shards)
        if watch.queue is not None:
            yield _batches(watch.queue)
        if watch.cluster_state is not None:
            yield from _cluster(watch.cluster_state)

    def _rows(self) -> Iterator[Metric]:
        done = self._watch.done
        yield self._counter(
            "rows", "Rows that this run has scanned, with or without an error.", {"": done.rows}
        )
        yield self._counter(
            "errors",
            "Rows that this run has scanned and that have an error, by error code.",
            {code: done.errors.get(code, 0) for code in ErrorCode},
            "code",
        )
        yield self._counter(
            "duplicates",
            "Rows of this run whose answer another row had before. Always 0 unless answers are "
            "reused.",
            {"": done.stages.duplicates or 0},
        )
        yield self._counter(
            "image_bytes",
            "Bytes of the encoded images that this run has fetched or read from its manifest.",
            {"": done.image_bytes},
        )

    def _stages(self) -> Iterator[Metric]:
        stages = self._watch.done.stages
        yield self._counter(
            "stage_seconds",
            "Seconds that this run has spent in a stage, of all its threads together: fetch, "
            "evidence, decode or score.",
            {
                "fetch": stages.fetch_s,
                "evidence": stages.evidence_s,
                "decode": stages.decode_s,
                "score": stages.score_s,
            },
            "stage",
        )

    def _counter(
        self, name: str, text: str, values: dict[str, float], label: str | None = None
    ) -> Metric:
        family = CounterMetricFamily(f"aigid_scan_{name}", text, labels=[label] if label else [])
        for value_of, value in values.items():
            # Prometheus takes less than before for a restart. Rows that were lost with a worker
            # are counted when they were scanned first, and not again.
            highest = max(value, self._highest.get((name, value_of), 0))
            self._highest[name, value_of] = highest
            family.add_metric([value_of] if label else [], highest)
        return family


def _plan(begin: ScanBegin, committed: int) -> Iterator[Metric]:
    info = {
        "version": __version__,
        "model": escaped(begin.model),
        "fingerprint": begin.fingerprint,
        "precision": begin.precision,
    }
    yield InfoMetricFamily("aigid_scan", "The program and the model of this scan.", info)
    totals = begin.totals
    yield _gauge(
        "planned_rows",
        "Rows of the whole scan, without those of tars that are not counted yet.",
        {"": totals.rows},
    )
    yield _gauge("done_before_rows", "Rows that earlier runs have done.", {"": totals.done_rows})
    yield _gauge("planned_shards", "Shards of the whole scan.", {"": totals.shards})
    yield _gauge(
        "done_shards",
        "Shards whose result files are there, also those of earlier runs.",
        {"": totals.done_shards + committed},
    )


def _batches(queue: BatchQueue) -> Metric:
    return _gauge(
        "batches",
        "Batches that wait for a thread (waiting), and that threads or servers work on "
        "(in_flight).",
        {"waiting": queue.waiting, "in_flight": queue.in_flight},
        "state",
    )


def _cluster(state: ClusterState) -> Iterator[Metric]:
    yield _gauge("running_shards", "Shards that workers of the cluster have.", {"": state.running})
    yield _gauge(
        "failed_shards", "Shards that were given up after all attempts.", {"": state.failed}
    )
    yield _gauge(
        "workers",
        "Workers of the cluster that are ready.",
        {"": sum(node.workers for node in state.nodes.values())},
    )


def _gauge(name: str, text: str, values: dict[str, float], label: str | None = None) -> Metric:
    family = GaugeMetricFamily(f"aigid_scan_{name}", text, labels=[label] if label else [])
    for value_of, value in values.items():
        family.add_metric([value_of] if label else [], value)
    return family
