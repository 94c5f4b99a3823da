"""Peak memory of a scan of many rows and of a tenth of them: it must not grow with the manifest."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from manifests import TINY_SIDE, write_manifest
from rich.console import Console
from rich.table import Table

MOST_GROWTH = 0.1
AIGID = [sys.executable, "-m", "aigid"]


def scan_peak_mib(manifest: Path, model: Path | None, folder: Path) -> tuple[float, float]:
    """Return the peak resident memory of a scan in MiB, by its summary and by the system."""
    command = [*AIGID, "scan", str(manifest), "--out", str(folder), "--json"]
    command += ["--model", str(model)] if model else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise click.ClickException(
            f"the scan of {manifest.name} ended with status {process.returncode}"
        )
    summary = json.loads((folder / "summary.json").read_text())
    kib = 1024 if sys.platform == "darwin" else 1
    return summary["run"]["peak_memory_mib"], usage.ru_maxrss / kib / 1024


@click.command()
@click.option(
    "--rows",
    type=click.IntRange(min=10),
    default=100_000,
    show_default=True,
    help="Rows of the larger manifest.",
)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    help="Model repository.  [default: the demo model]",
)
def main(rows: int, model: Path | None) -> None:
    """Scan tiny images: a tenth of --rows, then all. Status 1 if the peak grows by more than 10 %.

    Example: python benchmarks/memory.py
    """
    table = Table("rows", "peak by the summary", "peak by the system")
    peaks = []
    with tempfile.TemporaryDirectory() as temporary:
        for count in (rows // 10, rows):
            manifest = write_manifest(Path(temporary, f"{count}.parquet"), count, TINY_SIDE)
            own, system = scan_peak_mib(manifest, model, Path(temporary, f"out-{count}"))
            table.add_row(f"{count:,}", f"{own:.1f} MiB", f"{system:.1f} MiB")
            peaks.append(max(own, system))
    growth = peaks[1] / peaks[0] - 1
    Console(width=120).print(table, f"growth: {growth:+.1%}; allowed: {MOST_GROWTH:+.0%}")
    sys.exit(growth > MOST_GROWTH)


if __name__ == "__main__":
    main()
