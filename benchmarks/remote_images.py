"""Images that a web server takes its time to deliver, beside the same images as local files, in one run.

The server is on this machine, and so takes some of its cores; every answer waits as an answer from far away does.
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

WAITS_S = (0.05, 0.2)
LEAST_OF_LOCAL = 0.8
SIDE = 512


class _Late(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wait_s = 0.0

    def do_GET(self) -> None:
        time.sleep(self.wait_s)
        super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve(folder: str, wait_s: float, told: Connection) -> None:
    """Serve a folder, each answer after a wait; tells its port."""
    handler = type("Handler", (_Late,), {"wait_s": wait_s})
    with _Server(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        told.send(server.server_address[1])
        server.serve_forever()


def write_images(folder: Path, rows: int) -> list[str]:
    """Write the images of a manifest as files; gives their names."""
    table = pq.read_table(write_manifest(folder / "inline.parquet", rows, SIDE))
    for row, image in enumerate(table.column("image").to_pylist()):
        (folder / f"{row}.jpg").write_bytes(image)
    return [f"{row}.jpg" for row in range(rows)]


def scan(folder: Path, images: list[str]) -> float:
    """Pairs a second of a scan of these images, by its own summary."""
    manifest = folder / "manifest.parquet"
    pq.write_table(
        pa.table({"image": images, "caption": ["two dogs on a beach"] * len(images)}), manifest
    )
    with tempfile.TemporaryDirectory() as out:
        command = [
            sys.executable,
            "-m",
            "aigid.cli.main",
            "scan",
            str(manifest),
            "--out",
            f"{out}/out",
            "--json",
        ]
        command += ["--image-root", str(folder), "--allow-private-addresses"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    summary = json.loads(done.stdout)
    if summary["errors"]:
        raise click.ClickException(f"errors: {summary['errors']}")
    return float(summary["run"]["rows_per_s"])


def from_web(folder: Path, names: list[str], wait_s: float) -> float:
    """Pairs a second of a scan whose images come from a server that waits."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(str(folder), wait_s, there), daemon=True)
    process.start()
    try:
        port = here.recv()
        return scan(folder, [f"http://127.0.0.1:{port}/{name}" for name in names])
    finally:
        process.terminate()
        process.join()


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--rows", type=click.IntRange(min=1), default=2000, show_default=True, help="Pairs a round."
)
def main(rounds: int, rows: int) -> None:
    """Measure with the demo model; status 1 where waiting costs more than is asked.

    Example: python benchmarks/remote_images.py
    """
    measured = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write_images(folder, rows)
        for _ in track(range(rounds), "measuring", console=Console(stderr=True)):
            measured.append(
                [scan(folder, names), *(from_web(folder, names, wait_s) for wait_s in WAITS_S)]
            )
    table = Table(
        "",
        "median",
        "least",
        "most",
        "asked for",
        title=f"{rows} JPEGs of {SIDE} pixels a round, {rounds} rounds",
    )
    ways = ["local files", *(f"answers after {1000 * wait_s:g} ms" for wait_s in WAITS_S)]
    for way, figures in zip(ways, zip(*measured, strict=True), strict=True):
        table.add_row(
            f"{way}, pairs/s",
            *(f"{value:.1f}" for value in (median(figures), min(figures), max(figures))),
            "",
        )
    missed = False
    for index, way in enumerate(ways[1:], 1):
        ratios = [one[index] / one[0] for one in measured]
        missed |= median(ratios) < LEAST_OF_LOCAL
        table.add_row(
            f"{way} / local files",
            *(
                f"{value:.1%}"
                for value in (median(ratios), min(ratios), max(ratios), LEAST_OF_LOCAL)
            ),
        )
    Console(width=120).print(table)
    sys.exit(missed)


if __name__ == "__main__":
    main()
