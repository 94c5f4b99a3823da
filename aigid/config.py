"""The settings of a scan, as one frozen value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from aigid.cores import available_cores
from aigid.decisions import mode_of
from aigid.errors import UsageError
from aigid.records import ErrorCode, Mode
from aigid.scorers import TritonConfig
from aigid.sources import ColumnChoice
from aigid.storage import DEFAULT_REQUESTS_PER_HOST, HostHeader, WebSettings

_RAY_ADDRESS = re.compile(r"auto|local|(\[[0-9a-fA-F:.]+\]|[^\s:/\[\],]+):\d{1,5}")


@dataclass(frozen=True)
class RayConfig:
    """A scan on a Ray cluster. Raises UsageError for values of a wrong type or out of range.

    `address` is HOST:PORT of the cluster's head node, "auto" for the cluster that this host belongs
    to, or "local" for a cluster that the scan starts for itself. Each worker process gets
    `worker_cpus` cores, as many threads, and the GPUs, memory and custom resources that are
    reserved for it. The scan begins with `min_workers` workers, or fails if they have not started
    after `start_within_s` seconds. It grows to `max_workers`, by default to as many as the cluster
    has room for. A shard is tried `shard_attempts` times.
    """

    address: str = "auto"
    min_workers: int = 1
    max_workers: int | None = None
    worker_cpus: int = 1
    worker_gpus: float = 0
    worker_memory_gib: float | None = None
    worker_resources: tuple[tuple[str, float], ...] = ()
    shard_attempts: int = 3
    start_within_s: float = 600.0

    def __post_init__(self) -> None:
        if self.address.startswith("ray://"):
            raise UsageError(
                f"`address` {self.address}: a scan runs on a node of its cluster: submit it with "
                "`ray job submit -- python jobs/scan.py ...`, or give HOST:PORT there"
            )
        if not _RAY_ADDRESS.fullmatch(self.address):
            raise UsageError(
                f"`address` {self.address!r}: not the address of a Ray cluster: give HOST:PORT, "
                "auto or local"
            )
        _check_counts(self, "min_workers", "max_workers", "worker_cpus", "shard_attempts")
        if not (_is_real(self.worker_gpus) and self.worker_gpus >= 0):
            raise UsageError(f"`worker_gpus` must be 0 or more: got {self.worker_gpus!r}")
        for name in ("worker_memory_gib", "start_within_s"):
            value = getattr(self, name)
            if value is not None and not (_is_real(value) and value > 0):
                raise UsageError(f"`{name}` must be more than 0: got {value!r}")
        for name, amount in self.worker_resources:
            if not (name and _is_real(amount) and amount > 0):
                raise UsageError(
                    f"`worker_resources` {name}={amount}: a resource needs a name, and an amount "
                    "of more than 0"
                )
        if self.max_workers is not None and self.max_workers < self.min_workers:
            raise UsageError(
                f"`max_workers` {self.max_workers} is less than `min_workers` {self.min_workers}"
            )


@dataclass(frozen=True)
class ScanConfig:
    """What to scan, and how. Raises UsageError for values of a wrong type or out of range.

    `paths` are the manifests' paths and URIs; results go to the folder or URI `out`. `model` is a
    model repository, by default the demo model. Columns that are None are found by their usual
    names; with `no_prompts`, images are scored without prompts. `threshold` None means 0.5, or the
    threshold that the model's contract has for the false-positive rate `max_fpr`. `mode` says how
    certain verdicts are; in another one than best-guess, the threshold decides `is_ai` and `source`
    alone. Web servers are asked as `user_agent`, with at most `requests_per_host` requests at a
    time to one host from each process. `headers` has a host (with or without a port), the name and
    the value of each further header, which only that host gets. With `respect_opt_out`, an image
    whose X-Robots-Tag says noai or noimageai is not scored. With `evidence`, results also have what
    the image files say of their origin; C2PA signatures of issuers in `trust_anchors`, PEM
    certificates, are trusted; `readers` names further readers. Each of `threads` threads decodes
    and scores one batch of `batch_rows` pairs at a time. With `reuse_answers`, images with
    identical bytes are decoded and scored once for each prompt; with `hash`, that holds as well,
    and results have hashes of the images. With `triton`, servers score; with `ray`, workers of a
    cluster scan the shards with threads of their own. With `retry_errors`, rows of committed shards
    that failed are scanned again: all of them (True), or those with these error codes. The command
    line ends with status 3 if more rows have an error than `max_error_rate` allows. With
    `metrics_port`, 0 for any free one, the scan serves metrics for Prometheus on `metrics_host`
    while it runs.
    """

    paths: tuple[str, ...]
    out: str
    model: Path | str | None = None
    triton: TritonConfig | None = None
    ray: RayConfig | None = None
    image_column: str | None = None
    prompt_column: str | None = None
    no_prompts: bool = False
    keep: tuple[str, ...] = ()
    image_root: str | None = None
    allow_outside_root: bool = False
    allow_private_addresses: bool = False
    user_agent: str = field(default="aigid", repr=False)
    headers: tuple[tuple[str, str, str], ...] = field(default=(), repr=False)
    respect_opt_out: bool = False
    evidence: bool = False
    trust_anchors: str = field(default="", repr=False)
    readers: tuple[str, ...] = ()
    requests_per_host: int = DEFAULT_REQUESTS_PER_HOST
    threshold: float | None = None
    max_fpr: float | None = None
    mode: Mode | str = Mode.BEST_GUESS
    limit: int | None = None
    threads: int = field(default_factory=available_cores)
    batch_rows: int = 32
    shard_rows: int = 10_000
    max_error_rate: float = 0.05
    retry_errors: bool | str | tuple[str, ...] = False
    hash: bool = False
    reuse_answers: bool = False
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        for name in ("paths", "keep", "readers"):
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if not self.paths:
            raise UsageError("`paths` is empty: give a manifest")
        for name in ("out", "image_column", "prompt_column", "image_root"):
            value = getattr(self, name)
            if not (isinstance(value, str) or (value is None and name != "out")):
                raise UsageError(f"`{name}` must be a str: got {value!r}")
        if not isinstance(self.model, Path | str | None):
            raise UsageError(f"`model` must be a path: got {self.model!r}")
        _check_types(self)
        _check_combinations(self)
        _check_fractions(self, "threshold", "max_fpr", "max_error_rate")
        object.__setattr__(self, "mode", mode_of(self.mode))
        _check_counts(self, "limit", "threads", "batch_rows", "shard_rows")
        _check_counts(self, "requests_per_host")
        _check_port(self)
        object.__setattr__(self, "headers", _headers(self.headers))
        for name in ("user_agent", "trust_anchors"):
            value = getattr(self, name)
            if not isinstance(value, str):
                raise UsageError(f"`{name}` must be a str: got {type(value).__name__}")
        # These check the headers and the codes.
        _ = self.web, self.codes_to_retry

    @property
    def web(self) -> WebSettings:
        """How web servers are asked for images."""
        return WebSettings(
            user_agent=self.user_agent,
            headers=tuple(HostHeader(*header) for header in self.headers),
            respect_opt_out=self.respect_opt_out,
            requests_per_host=self.requests_per_host,
        )

    @property
    def codes_to_retry(self) -> tuple[ErrorCode, ...]:
        """The error codes whose rows are scanned again; none without `retry_errors`."""
        value = self.retry_errors
        if isinstance(value, bool):
            return tuple(ErrorCode) if value else ()
        names = (value,) if isinstance(value, str) else _texts("retry_errors", value)
        if not names or not set(names) <= set(ErrorCode):
            raise UsageError(
                f"`retry_errors` {', '.join(names)}: give error codes: {', '.join(ErrorCode)}"
            )
        return tuple(code for code in ErrorCode if code in names)

    @property
    def columns(self) -> ColumnChoice:
        """The choice of columns, for the manifest."""
        return ColumnChoice(self.image_column, self.prompt_column, self.keep, self.no_prompts)


def _texts(name: str, values: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(values, tuple | list) or not all(isinstance(text, str) for text in values):
        raise UsageError(f"`{name}` must be a tuple of str: got {values!r}")
    return tuple(values)


def _headers(headers: Any) -> tuple[tuple[str, str, str], ...]:
    """Return the headers as tuples. An error does not show them: they may be secret."""
    lists = isinstance(headers, tuple | list) and all(
        isinstance(header, tuple | list)
        and len(header) == 3
        and all(isinstance(text, str) for text in header)
        for header in headers
    )
    if not lists:
        raise UsageError("`headers` must be a tuple of (host, name, value), all of them str")
    return tuple((host, name, value) for host, name, value in headers)


def _check_types(config: ScanConfig) -> None:
    """Check the fields whose values are configs or flags."""
    for name, kind in (("triton", TritonConfig), ("ray", RayConfig)):
        value = getattr(config, name)
        if not isinstance(value, kind | None):
            raise UsageError(f"`{name}` must be a {kind.__name__}: got {value!r}")
    for name in (
        "no_prompts",
        "allow_outside_root",
        "allow_private_addresses",
        "respect_opt_out",
        "evidence",
        "hash",
        "reuse_answers",
    ):
        value = getattr(config, name)
        if not isinstance(value, bool):
            raise UsageError(f"`{name}` must be True or False: got {value!r}")


def _check_combinations(config: ScanConfig) -> None:
    """Check the fields that exclude or need others."""
    if config.no_prompts and config.prompt_column is not None:
        raise UsageError("give one of `prompt_column` and `no_prompts`, not both")
    if config.threshold is not None and config.max_fpr is not None:
        raise UsageError("give one of `threshold` and `max_fpr`, not both")
    for name in ("trust_anchors", "readers"):
        if getattr(config, name) and not config.evidence:
            raise UsageError(f"`{name}` is for scans with `evidence`: give `evidence` too")


def _check_fractions(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is None and _may_be_none(config, name):
            continue
        if not (_is_real(value) and 0 <= value <= 1):
            raise UsageError(f"`{name}` must be from 0 to 1: got {value!r}")
        # NumPy's numbers cannot be written as JSON.
        object.__setattr__(config, name, float(value))


def _check_port(config: ScanConfig) -> None:
    """Check where metrics are served."""
    port, host = config.metrics_port, config.metrics_host
    is_whole = isinstance(port, Integral) and not isinstance(port, bool)
    if port is not None and not (is_whole and 0 <= port <= 65_535):
        raise UsageError(f"`metrics_port` must be a whole number from 0 to 65535: got {port!r}")
    if not isinstance(host, str) or not host:
        raise UsageError(f"`metrics_host` must be an address or a host's name: got {host!r}")


def _check_counts(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is None and _may_be_none(config, name):
            continue
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise UsageError(f"`{name}` must be a whole number: got {value!r}")
        if value < 1:
            raise UsageError(f"`{name}` must be 1 or more: got {value}")
        object.__setattr__(config, name, int(value))


def _may_be_none(config: Any, name: str) -> bool:
    return next(field.default is None for field in fields(config) if field.name == name)


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
