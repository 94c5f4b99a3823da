"""`aigid.scan`: the scan of manifests as one call."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

from aigid.config import RayConfig, ScanConfig
from aigid.contract import find_model, load_contract
from aigid.detector import warn_of_notice
from aigid.errors import UsageError
from aigid.progress_bar import show_progress
from aigid.records import Mode
from aigid.results import ScanSummary
from aigid.run_scan import run_scan
from aigid.scorers import TritonConfig
from aigid.storage import URI_SCHEMES

_log = logging.getLogger(__name__)


class ScanOptions(TypedDict, total=False):
    """The keyword arguments of `aigid.scan`: fields of ScanConfig, with its defaults."""

    model: Path | str | None
    triton: TritonConfig | None
    ray: RayConfig | None
    image_column: str | None
    prompt_column: str | None
    no_prompts: bool
    keep: Sequence[str]
    image_root: Path | str | None
    allow_outside_root: bool
    allow_private_addresses: bool
    user_agent: str
    headers: Sequence[tuple[str, str, str]]
    respect_opt_out: bool
    evidence: bool
    trust_anchors: str
    readers: Sequence[str]
    requests_per_host: int
    threshold: float | None
    max_fpr: float | None
    mode: Mode | str
    limit: int | None
    threads: int
    batch_rows: int
    shard_rows: int
    retry_errors: bool | str | Sequence[str]
    hash: bool
    reuse_answers: bool
    metrics_port: int | None
    metrics_host: str


@overload
def scan(config: ScanConfig, /, *, progress: bool = True) -> ScanSummary: ...


@overload
def scan(
    source: Path | str | Iterable[Path | str],
    *,
    out: Path | str,
    progress: bool = True,
    **options: Unpack[ScanOptions],
) -> ScanSummary: ...


def scan(
    source: ScanConfig | Path | str | Iterable[Path | str],
    *,
    out: Path | str | None = None,
    progress: bool = True,
    **options: Any,
) -> ScanSummary:
    """Scan the image-prompt pairs of manifests, and write the answers into a folder.

    The same call again scans only what is missing: after a crash, a kill or Ctrl-C, or when a
    server was down. A row that cannot be scored gets an error code in the results and does not
    raise, so look at `error_rate` of the summary. Warns once per process with the model's notice,
    if it has one (ModelNoticeWarning).

    Args:
        source: A folder of images, a table, a tar, a glob or a URI, as `aigid scan` takes them, or
            a list of them; or a ScanConfig, which has all settings.
        out: The folder for the results, or its URI.
        progress: Show a progress bar on stderr, or lines if stderr is not a terminal. Without it,
            messages about servers and workers go to the log.
        **options: Other fields of ScanConfig, as in `threshold=0.9`; not `max_error_rate`.

    Returns:
        The totals of the scan, which are also in `summary.json`.

    Raises:
        UsageError: An argument is wrong. Its subclasses tell more: ManifestError, ContractError
            (the model), ResumeMismatchError (the folder holds another scan), MissingExtraError.
        StorageError: A store cannot be reached. Call again to go on.
        ServerError: No Triton server answers any more. Call again to go on.
        ClusterError: The Ray cluster cannot be reached, or cannot do the work.
        IncompleteScanError: Shards failed for good on a cluster. All others are in the results.
        ResultsError: The results cannot be written or are damaged.

    Example:
        >>> import aigid
        >>> summary = aigid.scan("manifest.parquet", out="results/", keep=["id"])
        >>> print(f"{summary.ai} of {summary.scored} images are AI-generated")
    """
    return _scan_with_progress(_config_of(source, out, options), progress)


def _scan_with_progress(config: ScanConfig, progress: bool) -> ScanSummary:
    notice = load_contract(find_model(config.model)).notice
    # At the line that called `scan`.
    warn_of_notice(notice, stacklevel=4)
    with show_progress("scan", quiet=not progress) as shown:
        show = shown.message if progress else partial(_log.warning, "%s")

        def on_message(line: str) -> None:
            if line != notice:
                show(line)

        return run_scan(config, shown, on_message).summary


def _config_of(source: object, out: object, options: dict[str, Any]) -> ScanConfig:
    if isinstance(source, ScanConfig):
        if out is not None or options:
            raise UsageError("a ScanConfig has all settings: give it without `out` and others")
        return source
    if options.get("image_root") is not None:
        options["image_root"] = _text("image_root", options["image_root"])
    return ScanConfig(_paths(source), _text("out", out), **options)


def _paths(source: object) -> tuple[str, ...]:
    if isinstance(source, str | Path):
        return (_text("source", source),)
    if isinstance(source, bytes | set | frozenset | Mapping) or not isinstance(source, Iterable):
        raise UsageError(f"`source` must be a path, a URI or a list of them: got {source!r}")
    paths = tuple(_text("source", path) for path in source)
    if not paths:
        raise UsageError("`source` is empty: give a manifest")
    return paths


def _text(parameter: str, path: object) -> str:
    if not isinstance(path, str | Path):
        raise UsageError(f"`{parameter}` must be a path or URI: got {path!r}")
    text = str(path)
    if isinstance(path, Path) and text.partition(":/")[0] in URI_SCHEMES:
        raise UsageError(f"`{parameter}` {text}: a Path cannot hold a URI: give it as text")
    return text
