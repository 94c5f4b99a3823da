"""Time, memory and size of reports: of 100,000 rows with images, and of many simulated rows.

A small real scan gives the records and the rows of a results folder; these rows are repeated, with
other scores, evidence and hashes. The images of the smaller folder are files; those of the larger
one do not exist.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from aigid_command import aigid
from memory import run_for_peak
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from aigid.manifest import open_manifest
from aigid.sources import ManifestFile, ManifestFiles

SHARD_ROWS, SCANNED, IMAGES, SIDE = 10_000, 240, 400, 768
MOST_S = {"images": 20, "simulated": 600}
MOST_MIB = {"images": 500, "simulated": 1024}
MOST_BYTES = 8_000_000
FINDING = {
    "kind": "comfyui",
    "says": "ai",
    "source": "ComfyUI",
    "strength": "metadata",
    "found_in": "PNG prompt",
    "details": {"model": "a.safetensors", "seed": "1", "steps": "20", "prompt": "a " * 60},
}
CAMERA = FINDING | {"kind": "camera", "says": "camera", "strength": "camera_exif"}
DETAILS = {
    "none": None,
    "ai": json.dumps([FINDING]),
    "camera": json.dumps([CAMERA]),
    "edited": json.dumps([CAMERA, FINDING | {"says": "edited"}]),
}


@dataclass(frozen=True)
class Figures:
    """What a report took."""

    seconds: float
    peak_mib: float
    page_bytes: int


def write_images(folder: Path) -> Path:
    """Write a manifest of image files and captions; return it."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(1)
    for number in range(IMAGES):
        small = Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8))
        path = folder / "images" / f"{number:04}.jpg"
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)
    return write_manifest(folder / "scanned.parquet", SCANNED)


def write_manifest(path: Path, rows: int) -> Path:
    """Write a manifest of so many references to the image files."""
    names = [f"images/{row % IMAGES:04}.jpg" for row in range(rows)]
    captions = [f"a coloured surface, row {row}" for row in range(rows)]
    pq.write_table(pa.table({"image": names, "caption": captions}), path)
    return path


def simulate(scan: Path, out: Path, files: ManifestFiles, manifests: list[str]) -> int:
    """Write a results folder for these files, like that of a scan; return its rows."""
    (out / "detections").mkdir(parents=True)
    table = pq.read_table(scan / "detections" / "part-000000.parquet")
    rows = files.rows
    shards = -(-rows // SHARD_ROWS)
    start = 0
    names = [file.path for file in files]
    for index in track(range(shards), "writing", console=Console(stderr=True)):
        count = min(SHARD_ROWS, rows - start)
        name = names[start // SHARD_ROWS] if len(names) > 1 else names[0]
        first = 0 if len(names) > 1 else start
        part = out / "detections" / f"part-{index:06}.parquet"
        pq.write_table(shard_table(table, index, count, name, first), part, compression="zstd")
        start += count
    (out / "files.arrow").write_bytes(files.to_bytes())
    record = json.loads((scan / "scan.json").read_text())
    record |= {"manifests": manifests, "shards": shards}
    record["input"] = {"files": len(files), "rows": rows}
    record["settings"]["shard_rows"] = SHARD_ROWS
    (out / "scan.json").write_text(json.dumps(record))
    summary = json.loads((scan / "summary.json").read_text())
    summary |= {"shards": shards, "rows": rows, "scored": rows, "errors": {}, "error_examples": {}}
    (out / "summary.json").write_text(json.dumps(summary))
    return rows


def shard_table(table: pa.Table, index: int, count: int, name: str, first: int) -> pa.Table:
    """Return the rows of a shard: those of `table` again and again, with values of their own."""
    random = np.random.default_rng(index)
    shard = table.take(pa.array(np.arange(count) % len(table)))
    p_ai = random.beta(0.3, 0.5, count).astype(np.float32)
    verdict = np.where(p_ai >= 0.5, "ai", "real")
    evidence = random.choice(list(DETAILS), count, p=[0.7, 0.12, 0.15, 0.03])
    images = [f"images/{(first + row) % IMAGES:04}.jpg" for row in range(count)]
    # A tenth of the images are there twice.
    numbers = np.where(random.random(count) < 0.1, random.integers(0, 1000, count), 0)
    own = random.integers(0, 1 << 63, count)
    values = np.where(numbers > 0, numbers, own).astype(np.uint64)
    hashes = [f"{value:016x}" * 4 for value in (values * np.uint64(0x9E3779B97F4A7C15)).tolist()]
    metadata = table.schema.metadata | {b"aigid.shard": str(index).encode()}
    return with_columns(
        shard.replace_schema_metadata(metadata),
        manifest=pa.array([name] * count).dictionary_encode(),
        row=pa.array(np.arange(first, first + count)),
        image=pa.array(images),
        p_ai=pa.array(p_ai),
        is_ai=pa.array(p_ai >= 0.5),
        verdict=pa.array(verdict).dictionary_encode(),
        evidence=pa.array(evidence).dictionary_encode(),
        evidence_detail=pa.array([DETAILS[says] for says in evidence.tolist()]),
        hash=pa.array(hashes),
        perceptual_hash=pa.array(values),
    )


def with_columns(table: pa.Table, **columns: pa.Array) -> pa.Table:
    """Return the table with these columns in place of its own, or added to it."""
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        if place < 0:
            table = table.append_column(name, values)
        else:
            table = table.set_column(place, name, values)
    return table


def measure(out: Path) -> Figures:
    """Return what the report of a results folder takes."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "aigid", "-q", "report", str(out)]
    status, peak_mib = run_for_peak(command)
    if status:
        raise click.ClickException(f"the report ended with status {status}")
    seconds = time.perf_counter() - start
    return Figures(seconds, peak_mib, (out / "report.html").stat().st_size)


@click.command()
@click.option("--rows", type=click.IntRange(min=SHARD_ROWS), default=10_000_000, show_default=True)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Make the results here, or use those of an earlier run.  [default: a temporary folder]",
)
def main(rows: int, folder: Path | None) -> None:
    """Report on 100,000 rows with images, then on --rows simulated ones. Status 1 over a limit.

    Example: python benchmarks/report.py
    """
    table = Table("", "rows", "time", "limit", "peak memory", "limit", "page")
    missed = False
    with tempfile.TemporaryDirectory() as temporary:
        for name, count in (("images", 100_000), ("simulated", rows)):
            out = results_of(name, count, folder or Path(temporary))
            found = measure(out)
            limits = (f"{MOST_S[name]} s", f"{MOST_MIB[name]} MiB")
            figures = (f"{found.seconds:.1f} s", f"{found.peak_mib:.0f} MiB")
            size = f"{found.page_bytes / 1e6:.2f} MB"
            table.add_row(name, f"{count:,}", figures[0], limits[0], figures[1], limits[1], size)
            missed |= found.seconds > MOST_S[name] or found.peak_mib > MOST_MIB[name]
            missed |= found.page_bytes > MOST_BYTES
    Console(width=100).print(table)
    sys.exit(missed)


def results_of(name: str, rows: int, folder: Path) -> Path:
    """Return a results folder of so many rows, made if it is not there."""
    scan, out = folder / "scan", folder / f"results-{name}-{rows}"
    if not scan.exists():
        manifest = write_images(folder)
        aigid("-q", "scan", manifest, "--out", scan, "--evidence", "--hash")
    if out.exists():
        return out
    if name == "images":
        manifest = write_manifest(folder / f"manifest-{rows}.parquet", rows)
        simulate(scan, out, open_manifest([str(manifest)]).files, [str(manifest)])
        return out
    (file,) = open_manifest([str(folder / "scanned.parquet")]).files
    files = ManifestFiles(
        ManifestFile(
            f"gone/{number:06}.parquet", 1000, (SHARD_ROWS,), file.digest, schema=file.schema
        )
        for number in range(rows // SHARD_ROWS)
    )
    simulate(scan, out, files, ["gone/"])
    return out


if __name__ == "__main__":
    main()
