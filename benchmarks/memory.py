"""Peak memory of a scan of many rows and of a tenth of them: it must not grow with the manifest."""

import json
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
    status, peak = run_for_peak(command)
    if status:
        raise click.ClickException(f"the scan of {manifest.name} ended with status {status}")
    summary = json.loads((folder / "summary.json").read_text())
    return summary["run"]["peak_memory_mib"], peak


def run_for_peak(command: list[str]) -> tuple[int, float]:
    """Run a command. Return its exit status, and its peak resident memory in MiB."""
    # Not a child of this process: it would begin with this one's own peak.
    program = (
        "import os, subprocess, sys;"
        " process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL);"
        " _, status, usage = os.wait4(process.pid, 0);"
        " print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *command], stdout=subprocess.PIPE, text=True, check=True
    )
    status, peak = map(int, found.stdout.split())
    return status, peak / (1024 if sys.platform == "darwin" else 1) / 1024


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
