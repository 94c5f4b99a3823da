"""What observes a scan: as its settings and the environment ask for, from before its start on."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from aigid.batching import BatchQueue
from aigid.config import ScanConfig
from aigid.extras import missing_extra
from aigid.observe.environment import TracesAsked, traces_asked
from aigid.observe.watch import OnCommit, ScanWatch
from aigid.progress import OnMessage, ScanProgress


@contextmanager
def observing(
    config: ScanConfig, progress: ScanProgress, on_message: OnMessage
) -> Iterator[ScanWatch]:
    """Yield the watch of a scan, with metrics and traces until the context ends.

    Raises UsageError where the port cannot be used or the environment's settings cannot be met,
    and MissingExtraError.
    """
    asked = traces_asked(os.environ)
    with ExitStack() as stack:
        on_commit = stack.enter_context(_traces(asked, on_message)) if asked else None
        queue = BatchQueue() if config.ray is None else None
        watch = ScanWatch(progress, on_commit, queue)
        if config.metrics_port is not None:
            url = stack.enter_context(_metrics(watch, config.metrics_host, config.metrics_port))
            on_message(f"metrics for Prometheus: {url}")
        yield watch


@contextmanager
def _metrics(watch: ScanWatch, host: str, port: int) -> Iterator[str]:
    try:
        from aigid.observe.metrics import serve_metrics
    except ModuleNotFoundError as error:
        raise missing_extra("`metrics_port`", error, "observe") from error
    with serve_metrics(watch, host, port) as url:
        yield url


@contextmanager
def _traces(asked: TracesAsked, on_message: OnMessage) -> Iterator[OnCommit]:
    try:
        from aigid.observe.traces import exported_traces
    except ModuleNotFoundError as error:
        raise missing_extra(
            f"exporting traces, which {asked.variable} asks for (OTEL_SDK_DISABLED=true switches "
            "them off),",
            error,
            "observe",
        ) from error
    with exported_traces(on_message) as on_commit:
        yield on_commit
