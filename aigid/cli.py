"""The command line: options become one frozen config, one call, one exit status."""

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from aigid import __version__
from aigid.errors import AigidError

EXIT_TOO_MANY_ERRORS = 3
EXIT_INTERRUPTED = 130

_FOLDER = click.Path(path_type=Path, file_okay=False)
_MANY = click.IntRange(min=1)
_SHARE = click.FloatRange(0, 1)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn what aigid raises on purpose into one line on stderr and its exit status."""
    try:
        yield
    except AigidError as error:
        click.echo(f"aigid: {error}", err=True)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        click.echo("aigid: interrupted; what was committed stays: run the same command again to go on", err=True)
        sys.exit(EXIT_INTERRUPTED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="aigid")
def main() -> None:
    """Tell which images are AI-generated, and by which model, at scale.

    \b
    Example:
      aigid scan manifest.parquet --out results/
    """
    logging.basicConfig(level=logging.WARNING, format="aigid: %(message)s")


@main.command()
@click.argument("manifests", nargs=-1, required=True, metavar="MANIFEST...")
@click.option("--out", required=True, help="Folder or URI for the results; the same command goes on where it stopped.")
@click.option("--model", type=_FOLDER, help="Model repository.  [default: the demo model, not for real decisions]")
@click.option("--image-column", help="Column of images.  [default: found by its usual names]")
@click.option("--prompt-column", help="Column of prompts.  [default: found by its usual names; may be absent]")
@click.option("--image-root", type=_FOLDER, help="Folder that image paths are relative to.  [default: the manifest's]")
@click.option("--allow-outside-root", is_flag=True, help="Read image paths outside the image root too.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Column that rides along to the results; repeatable.")
@click.option("--threshold", type=_SHARE, help="Call an image AI-generated from this p_ai on.  [default: 0.5]")
@click.option("--max-fpr", type=_SHARE, help="Use the model's stored threshold for this false-positive rate instead.")
@click.option("--limit", type=_MANY, help="Scan the first rows only.")
@click.option("--workers", type=_MANY, help="Threads that decode and score.  [default: one for each core]")
@click.option("--batch-size", type=_MANY, default=32, show_default=True, help="Pairs scored at a time by a thread.")
@click.option("--shard-rows", type=_MANY, default=10_000, show_default=True, help="About how many rows to commit at a time.")
@click.option("--max-error-rate", type=_SHARE, default=0.05, show_default=True, help="End with status 3 above this share.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def scan(manifests: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Scan the image-prompt pairs of Parquet manifests: files, folders, globs or URIs.

    \b
    Example:
      aigid scan manifest.parquet --out results/ --keep id

    Exit status: 0 finished; 1 could not go on; 2 usage; 3 finished, but more rows failed than --max-error-rate; 130
    interrupted. Committed shards always stay.
    """
    with _clear_errors():
        from aigid.progress import show_progress
        from aigid.scan import scan as run_scan

        config = _scan_config(manifests, options)
        with show_progress("scan") as progress:
            outcome = run_scan(config, progress, lambda line: click.echo(f"aigid: {line}", err=True))
        _print_summary(outcome.summary, config.out, as_json)
        if outcome.too_many_errors:
            click.echo(f"aigid: more rows failed than --max-error-rate {config.max_error_rate:g} allows", err=True)
            sys.exit(EXIT_TOO_MANY_ERRORS)


def _scan_config(manifests: tuple[str, ...], options: dict[str, Any]) -> Any:
    from aigid.config import ScanConfig, available_cores
    from aigid.manifest import ColumnChoice

    columns = ColumnChoice(options.pop("image_column"), options.pop("prompt_column"), options.pop("keep"))
    workers = options.pop("workers") or available_cores()
    return ScanConfig(manifests, columns=columns, workers=workers, batch_rows=options.pop("batch_size"), **options)


def _print_summary(summary: dict[str, Any], out: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(summary))
        return
    from aigid.summary_table import print_summary

    print_summary(summary, out)


if __name__ == "__main__":
    main()
