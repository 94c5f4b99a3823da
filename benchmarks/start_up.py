"""The time until the command line answers, a scan has a result file, and a server is ready."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import click
from manifests import write_manifest
from rich.console import Console
from rich.table import Table

SCAN_ROWS = 100
MOST_HELP_S, MOST_FIRST_FILE_S, MOST_READY_S = 0.5, 3.0, 15.0
_POLL_S = 0.005

AIGID = [sys.executable, "-m", "aigid"]


def help_s() -> float:
    """Return the seconds of `aigid --help`, from start to exit."""
    started = time.perf_counter()
    subprocess.run([*AIGID, "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def first_file_s(manifest: Path, model: Path | None) -> float:
    """Return the seconds from the start of a scan to its first complete result file."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "out")
        command = [*AIGID, "scan", str(manifest), "--out", str(out)]
        command += ["--model", str(model)] if model else []
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while not any(out.glob("detections/*.parquet")):
                if process.poll():
                    raise click.ClickException(f"the scan ended with status {process.returncode}")
                time.sleep(_POLL_S)
            return time.perf_counter() - started


def ready_s(model: Path | None) -> float:
    """Return the seconds from the start of `aigid serve` until all models are ready.

    The server must be installed already.
    """
    command = [*AIGID, "serve", "--grpc-port=0", "--metrics-port=0"]
    command += ["--model", str(model)] if model else []
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        if not any(line.startswith("gRPC") for line in process.stdout):
            raise click.ClickException("the server does not start: run `aigid serve` to see why")
        elapsed_s = time.perf_counter() - started
        process.terminate()
        return elapsed_s


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--model",
    type=click.Path(exists=True, path_type=Path),
    help="Model repository.  [default: the demo model]",
)
def main(rounds: int, model: Path | None) -> None:
    """Time `aigid --help`, a scan of 100 pairs of 1,024-pixel JPEGs, and `aigid serve`.

    Status 1 if one of them takes too long.

    Example: python benchmarks/start_up.py
    """
    table = Table("", "median", "max", "required")
    slow = False

    def row(name: str, measure: Callable[[], float], limit: float) -> None:
        nonlocal slow
        seconds = [measure() for _ in range(rounds)]
        slow |= median(seconds) > limit
        table.add_row(name, f"{median(seconds):.2f} s", f"{max(seconds):.2f} s", f"{limit} s")

    with tempfile.TemporaryDirectory() as temporary:
        manifest = write_manifest(Path(temporary, "pairs.parquet"), SCAN_ROWS)
        row("aigid --help", help_s, MOST_HELP_S)
        ready_s(model)  # installs the server if it is not there
        row("aigid serve, all models ready", lambda: ready_s(model), MOST_READY_S)
        row(
            f"scan of {SCAN_ROWS} rows, first result file",
            lambda: first_file_s(manifest, model),
            MOST_FIRST_FILE_S,
        )
    Console(width=120).print(table)
    sys.exit(slow)


if __name__ == "__main__":
    main()
