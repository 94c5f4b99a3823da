"""Scan images from a slow web server, and the same images from local files, in one run.

The server runs on this host and uses some of its cores. It delays each response as a distant server
would.
"""

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import click
import pyarrow as pa
import pyarrow.parquet as pq
from manifests import write_manifest
from rich.console import Console
from rich.progress import track
from rich.table import Table

DELAYS_S = (0.05, 0.2)
MIN_SHARE_OF_LOCAL = 0.8
SIDE = 512


class _DelayedHandler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    delay_s = 0.0

    def do_GET(self) -> None:
        time.sleep(self.delay_s)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve(folder: str, delay_s: float, port: Connection) -> None:
    """Serve a folder with a delay before each response. Sends the port through `port`."""
    handler = type("Handler", (_DelayedHandler,), {"delay_s": delay_s})
    with _Server(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        port.send(server.server_address[1])
        server.serve_forever()


def write_images(folder: Path, rows: int) -> list[str]:
    """Write the images of a manifest as files, and return their names."""
    table = pq.read_table(write_manifest(folder / "inline.parquet", rows, SIDE))
    for row, image in enumerate(table.column("image").to_pylist()):
        (folder / f"{row}.jpg").write_bytes(image)
    return [f"{row}.jpg" for row in range(rows)]


def scan(folder: Path, images: list[str]) -> float:
    """Return the pairs per second of a scan of these images, from its summary."""
    manifest = folder / "manifest.parquet"
    captions = ["two dogs on a beach"] * len(images)
    pq.write_table(pa.table({"image": images, "caption": captions}), manifest)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "aigid", "scan", str(manifest), "--out", f"{out}/out"]
        command += ["--json", "--image-root", str(folder), "--allow-private-addresses"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(done.stderr)
    summary = json.loads(done.stdout)
    if summary["errors"]:
        raise click.ClickException(f"errors: {summary['errors']}")
    return float(summary["run"]["rows_per_s"])


def scan_from_web(folder: Path, names: list[str], delay_s: float) -> float:
    """Return the pairs per second of a scan of images from a server with this delay."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(str(folder), delay_s, there), daemon=True)
    process.start()
    try:
        port = here.recv()
        return scan(folder, [f"http://127.0.0.1:{port}/{name}" for name in names])
    finally:
        process.terminate()
        process.join()


def measure(rows: int, rounds: int) -> list[list[float]]:
    """Return for each round the pairs per second: of local files, then for each delay."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write_images(folder, rows)
        return [
            [scan(folder, names), *(scan_from_web(folder, names, delay) for delay in DELAYS_S)]
            for _ in track(range(rounds), "measuring", console=Console(stderr=True))
        ]


def cells(values: list[float], form: str) -> list[str]:
    """Return the median, the smallest and the largest of these values as text."""
    return [format(value, form) for value in (median(values), min(values), max(values))]


def counted(number: int, noun: str) -> str:
    """Return as in "1 round" or "2 rounds"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--rows",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Image-prompt pairs of a round.",
)
def main(rounds: int, rows: int) -> None:
    """Measure with the demo model. Exit status 1 if a delay costs more than the target allows.

    Example: python benchmarks/remote_images.py
    """
    measured = measure(rows, rounds)
    images = counted(rows, "JPEG image")
    title = f"{images} of {SIDE} x {SIDE} pixels a round, {counted(rounds, 'round')}"
    table = Table("", "median", "min", "max", "target", title=title)
    names = ["local files", *(f"responses after {1000 * delay:g} ms" for delay in DELAYS_S)]
    for name, figures in zip(names, zip(*measured, strict=True), strict=True):
        table.add_row(f"{name}, pairs/s", *cells(list(figures), ".1f"), "")
    missed = False
    for index, name in enumerate(names[1:], 1):
        ratios = [figures[index] / figures[0] for figures in measured]
        missed |= median(ratios) < MIN_SHARE_OF_LOCAL
        row = cells(ratios, ".1%")
        table.add_row(f"{name} / local files", *row, f"at least {MIN_SHARE_OF_LOCAL:.0%}")
    Console(width=120).print(table)
    sys.exit(missed)


if __name__ == "__main__":
    main()
