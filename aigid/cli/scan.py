"""`aigid scan`: scan manifests into a results folder."""

import io
import json
import logging
import sys
from contextlib import nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

import click

from aigid.cli.command import Command, options_under
from aigid.cli.errors import EXIT_TOO_MANY_ERRORS, print_message, with_flags
from aigid.cli.scan_config import scan_config
from aigid.cli.scan_options import scan_options
from aigid.cli.stdout import print_result, printing
from aigid.cli.verbosity import shown_progress

if TYPE_CHECKING:
    from aigid.config import ScanConfig
    from aigid.results import ScanSummary
    from aigid.run_scan import ScanOutcome

AFTER_INTERRUPT = "committed shards stay: run the same command again to continue"

_log = logging.getLogger(__name__)
_output = options_under("Output")

progress_json_option = _output(
    "--progress-json", is_flag=True, help="Print progress and messages as JSON lines on stderr."
)


@click.command("scan", cls=Command, after_interrupt=AFTER_INTERRUPT)
@scan_options
@_output("--json", is_flag=True, help="Print the summary as JSON.")
@progress_json_option
def command(paths: tuple[str, ...], json: bool, progress_json: bool, **options: Any) -> None:
    """Scan image-prompt pairs: folders of images, tables and tars.

    A MANIFEST is a folder of images, a Parquet, CSV, TSV or JSON lines file, a WebDataset tar, an
    image, or a folder or glob of these; on a disk, in an object store, or on the Hugging Face Hub.

    \b
    Example:
      aigid scan photos/ --out results/
      aigid scan manifest.parquet --out results/ --keep id
      aigid scan manifest.parquet --out results/ --triton gpu1:8001,gpu2:8001
      aigid scan s3://bucket/manifest/ --out s3://bucket/results/ --ray=auto

    Exit status: 0 finished; 1 could not go on, gave up shards, or could not print the summary;
    2 wrong usage; 3 finished, but more rows have an error than --max-error-rate allows;
    130 interrupted by Ctrl-C, 143 by SIGTERM. Committed shards always stay.
    """
    config = scan_config(paths, options)
    outcome = show_scan(config, progress_json)
    _print_summary(outcome.summary, config.out, as_json=json)
    if outcome.too_many_errors:
        limit = f"--max-error-rate {config.max_error_rate:g}"
        print_message(f"more rows have an error than {limit} allows")
        sys.exit(EXIT_TOO_MANY_ERRORS)


def show_scan(config: "ScanConfig", progress_json: bool) -> "ScanOutcome":
    """Run a scan with its progress and messages on stderr."""
    from aigid.run_scan import run_scan

    _log_settings(config)
    prefix = "" if progress_json else "aigid: "
    context = click.get_current_context(silent=True)
    # Ray prints messages of its nodes to stdout, which is for the summary.
    diverted = redirect_stdout(_LogWriter()) if config.ray else nullcontext()
    with shown_progress("scan", as_json=progress_json) as progress, diverted:

        def show(line: str) -> None:
            progress.message(prefix + with_flags(line, context))

        outcome = run_scan(config, progress, show)
    run = outcome.summary.run
    _log.info("%d rows in %.1f s, peak memory %.0f MiB", run.rows, run.seconds, run.peak_memory_mib)
    return outcome


def _log_settings(config: "ScanConfig") -> None:
    """Log what the scan runs with. Paths are left out: URIs may hold secrets."""
    _log.info("model: %s", config.model or "the demo model")
    where = "a Ray cluster" if config.ray else f"{config.threads} threads"
    scorer = (
        f"{len(config.triton.addresses)} Triton servers" if config.triton else "the embedded model"
    )
    _log.info("scanning on %s, scoring with %s", where, scorer)
    _log.debug("batch size %d, shards of %d rows", config.batch_rows, config.shard_rows)


def _print_summary(summary: "ScanSummary", out: str, *, as_json: bool) -> None:
    with printing("the summary", done=f"the scan is finished and its results are in {out}"):
        if as_json:
            print_result(json.dumps(summary.to_json()))
            return
        from aigid.cli.summary_table import print_summary

        print_summary(summary, out)


class _LogWriter(io.TextIOBase):
    """A stdout whose text goes to the log, at level info."""

    def write(self, text: str) -> int:
        """Log the text."""
        if text.strip():
            _log.info("%s", text.rstrip())
        return len(text)
