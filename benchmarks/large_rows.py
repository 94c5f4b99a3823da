"""Peak memory of scans whose rows are as large as rows may be."""

import base64
import http.server
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import click
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from memory import AIGID, run_for_peak
from PIL import Image
from rich.console import Console
from rich.table import Table

MOST_MIB = 1500 * 1000**2 / 1024**2
MB = 1_000_000


def image_of(seed: int, size: int) -> bytes:
    """Return a JPEG of noise, and what lacks to `size` bytes after its end."""
    noise = np.random.default_rng(seed)
    buffer = io.BytesIO()
    pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    data = buffer.getvalue()
    return data + noise.bytes(max(0, size - len(data)))


def demanding_images() -> list[bytes]:
    """Return JPEGs of 60 MB that need 846 and 98 MB to be decoded, one after the other."""
    found = []
    for side in (9_200, 3_500):
        buffer = io.BytesIO()
        ramp = np.broadcast_to(np.linspace(0, 255, side, dtype=np.uint8), (side, side))
        image = Image.fromarray(ramp).convert("RGB")
        image.save(buffer, "JPEG", progressive=side == 9_200, subsampling=0)
        data = buffer.getvalue()
        found.append(data + bytes(60 * MB - len(data)))
    return found


def in_base64(times: int) -> pa.Table:
    """Return `demanding_images`, so many times, as text."""
    texts = [base64.b64encode(image).decode() for image in demanding_images()]
    return pa.table({"image": pa.array(texts * times, pa.large_string())})


def write(table: pa.Table, path: Path) -> None:
    """Write a manifest of the kind that the ending says."""
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    elif path.suffix == ".jsonl":
        with path.open("w") as file:
            for batch in table.to_batches(max_chunksize=1):
                file.write(json.dumps(batch.to_pylist()[0]) + "\n")
    else:
        pq.write_table(table, path)


def images(rows: int, size: int, rows_in_page: int) -> pa.ChunkedArray:
    """Return images, so many of them in one chunk, which PyArrow writes into one page."""
    starts = range(0, rows, rows_in_page)
    return pa.chunked_array(
        [
            pa.array([image_of(row, size) for row in range(start, min(start + rows_in_page, rows))])
            for start in starts
        ]
    )


def as_struct(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the images as the Hugging Face hub has them."""
    paths = [pa.nulls(len(chunk), pa.string()) for chunk in column.chunks]
    return pa.chunked_array(
        [
            pa.StructArray.from_arrays([data, path], ["bytes", "path"])
            for data, path in zip(column.chunks, paths, strict=True)
        ]
    )


def prompts(rows: int) -> list[str]:
    """Return prompts of 5 MB."""
    return [f"word {row} " * (5 * MB // len(f"word {row} ")) for row in range(rows)]


class _Large(http.server.BaseHTTPRequestHandler):
    """Answers each request with one of a few large images."""

    protocol_version = "HTTP/1.1"
    bodies: ClassVar[list[bytes]] = []

    def do_GET(self) -> None:
        body = self.bodies[int(Path(self.path).stem) % len(self.bodies)]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            # The scan asks again when it has room for so large an image.
            self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def web_images(rows: int, bodies: list[bytes]) -> list[str]:
    """Return URLs of a server on loopback, which ends with this process."""
    _Large.bodies = bodies
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Large)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return [f"http://127.0.0.1:{server.server_address[1]}/{row}.jpg" for row in range(rows)]


CASES: dict[str, tuple[Callable[[], pa.Table], list[str]]] = {
    "150 images of 18 MB, binary": (lambda: pa.table({"image": images(150, 18 * MB, 50)}), []),
    "150 images of 18 MB, struct": (
        lambda: pa.table({"image": as_struct(images(150, 18 * MB, 50))}),
        [],
    ),
    "64 images of 60 MB": (lambda: pa.table({"image": images(64, 60 * MB, 16)}), []),
    "100 prompts of 5 MB": (
        lambda: pa.table({"image": [image_of(0, 0)] * 100, "prompt": prompts(100)}),
        [],
    ),
    "300 kept values of 10 MB": (
        lambda: pa.table({"image": [image_of(0, 0)] * 300, "kept": images(300, 10 * MB, 50)}),
        ["--keep", "kept"],
    ),
    "100 images of 50 MB from the web": (
        lambda: pa.table({"image_url": web_images(100, [image_of(0, 50 * MB)])}),
        ["--allow-private-addresses"],
    ),
    "20 images of 60 MB that need 846 MB": (
        lambda: pa.table({"image": demanding_images() * 10}),
        ["--max-error-rate", "1"],
    ),
    "20 such images from the web": (
        lambda: pa.table({"image_url": web_images(20, demanding_images())}),
        ["--allow-private-addresses", "--max-error-rate", "1"],
    ),
    "12 such images in base64, .parquet": (lambda: in_base64(6), []),
    "12 such images in base64, .jsonl": (lambda: in_base64(6), []),
    "12 such images in base64, .csv": (lambda: in_base64(6), []),
}


def peaks(folder: Path, names: Iterator[str]) -> Iterator[tuple[str, float | None]]:
    """Yield each case with the peak of its scan in MiB, None where the scan failed."""
    for name in names:
        make, options = CASES[name]
        manifest = folder / f"manifest{Path(name).suffix or '.parquet'}"
        write(make(), manifest)
        pa.default_memory_pool().release_unused()
        command = [*AIGID, "scan", str(manifest), "--out", str(folder / name), "--threads", "2"]
        status, peak = run_for_peak([*command, *options])
        yield name, None if status else peak


@click.command()
@click.option(
    "--case", "wanted", type=click.Choice(sorted(CASES)), multiple=True, help="Only these."
)
@click.option(
    "--folder",
    type=click.Path(exists=True, path_type=Path),
    help="Where to put the manifests, of up to 4 GB.  [default: a temporary folder]",
)
def main(wanted: tuple[str, ...], folder: Path | None) -> None:
    """Scan manifests of very large rows. Status 1 if a scan fails or needs more than 1.5 GB.

    Example: python benchmarks/large_rows.py
    """
    table, failed = Table("manifest", "peak"), False
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name, peak in peaks(Path(temporary), iter(wanted or CASES)):
            table.add_row(name, "the scan failed" if peak is None else f"{peak:.0f} MiB")
            failed |= peak is None or peak > MOST_MIB
    Console(width=120).print(table, f"allowed: {MOST_MIB:.0f} MiB")
    sys.exit(failed)


if __name__ == "__main__":
    main()
