"""The scan on a Triton server of this host and the embedded scan: same cores, pairs and graphs."""

import json
import resource
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click
import psutil
from manifests import write_manifest
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aigid.serving import ServerConfig, TritonServer

LEAST = 0.85
AIGID = [sys.executable, "-m", "aigid"]


@dataclass(frozen=True)
class Round:
    """One scan after the other: their pairs a second, and the core milliseconds for a pair."""

    embedded: float
    triton: float
    embedded_ms: float
    client_ms: float
    models_ms: float
    server_ms: float


class Processes:
    """The processor time of a server and of its models' processes."""

    def __init__(self, server: TritonServer) -> None:
        """Find the processes."""
        self._server = psutil.Process(server.process_id)
        self._models = self._server.children(recursive=True)

    def seconds(self) -> tuple[float, float]:
        """Return the seconds used so far by the server itself, and by all models."""
        times = [process.cpu_times() for process in (self._server, *self._models)]
        own, *models = (time.user + time.system for time in times)
        return own, sum(models)


def scan(repository: Path, manifest: Path, *options: str) -> tuple[float, float]:
    """Return the pairs a second of `aigid scan` by its summary, and the core ms for a pair."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*AIGID, "scan", str(manifest), "--out", f"{folder}/out", "--json"]
        command += ["--model", str(repository), *options]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    after, run = resource.getrusage(resource.RUSAGE_CHILDREN), json.loads(done.stdout)["run"]
    used_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return run["rows_per_s"], 1000 * used_s / run["rows"]


def measure(server: TritonServer, repository: Path, manifest: Path, rows: int) -> Round:
    """Run both scans, one after the other."""
    embedded, embedded_ms = scan(repository, manifest)
    processes = Processes(server)
    before = processes.seconds()
    triton, client_ms = scan(repository, manifest, "--triton", server.grpc_address)
    server_ms, models_ms = (
        1000 * (after - start) / rows
        for after, start in zip(processes.seconds(), before, strict=True)
    )
    return Round(embedded, triton, embedded_ms, client_ms, models_ms, server_ms)


def merged(server: TritonServer) -> float:
    """Return the mean pairs in a batch of the image encoder."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    counts = [
        sum(
            float(line.split()[-1])
            for line in lines
            if line.startswith(f'{name}{{model="clip_vision"')
        )
        for name in ("nv_inference_count", "nv_inference_exec_count")
    ]
    return counts[0] / counts[1]


def print_rounds(rounds: list[Round], title: str) -> None:
    """Print the medians and spans of all rounds."""

    def row(name: str, figure: Callable[[Round], float], form: str, required: str = "") -> None:
        figures = [figure(one) for one in rounds]
        table.add_row(
            name,
            *(form.format(value) for value in (median(figures), min(figures), max(figures))),
            required,
        )

    table = Table("", "median", "min", "max", "required", title=title)
    row("embedded scan, pairs/s", lambda one: one.embedded, "{:.1f}")
    row("scan on the server, pairs/s", lambda one: one.triton, "{:.1f}")
    row(
        "scan on the server / embedded",
        lambda one: one.triton / one.embedded,
        "{:.1%}",
        f"{LEAST:.0%}",
    )
    row("core ms a pair: embedded scan", lambda one: one.embedded_ms, "{:.2f}")
    row("core ms a pair: client (reading, decoding, gRPC)", lambda one: one.client_ms, "{:.2f}")
    row("core ms a pair: models (the graphs)", lambda one: one.models_ms, "{:.2f}")
    row("core ms a pair: tritonserver (gRPC, copies)", lambda one: one.server_ms, "{:.2f}")
    Console(width=120).print(table)


@click.command()
@click.argument("repository", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--rows", type=click.IntRange(min=1), default=768, show_default=True, help="Pairs in a round."
)
def main(repository: Path, rounds: int, rows: int) -> None:
    """Measure with the model REPOSITORY; status 1 if the scan on the server is too slow.

    Example: python benchmarks/scan_on_triton.py runs/base/repository
    """
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder, "pairs.parquet"), rows)
        with TritonServer(
            ServerConfig(repository), lambda line: click.echo(line, err=True)
        ) as server:
            scan(repository, manifest, "--triton", server.grpc_address, "--limit", "64")
            numbers = track(range(rounds), "measuring", console=Console(stderr=True))
            measured = [measure(server, repository, manifest, rows) for _ in numbers]
            title = f"{rows} pairs a round, {rounds} rounds; "
            title += f"{merged(server):.0f} pairs in a batch of clip_vision"
            print_rounds(measured, title)
    sys.exit(median(one.triton / one.embedded for one in measured) < LEAST)


if __name__ == "__main__":
    main()
