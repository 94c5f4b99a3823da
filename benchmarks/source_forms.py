"""CPU seconds of scans of the same images as a folder, as Parquet and as tars, side by side.

    python benchmarks/source_forms.py [--images 2000] [--rounds 5]

Prints for each form the CPU seconds (the median over rounds that alternate), their ratio to
Parquet, the seconds until the first batch is answered, and whether the answers are equal.
"""

import argparse
import io
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FORMS = ("parquet", "folder", "tars")
_ROWS_PER_FILE = 500
# Prints the seconds until the first rows were answered, from the start of the process on.
_SCAN = """
import sys, time
from aigid.config import ScanConfig
from aigid.run_scan import run_scan

class Progress:
    first_s = None
    def start(self, total_rows, done_rows, *, at_least=False): pass
    def cluster(self, state): pass
    def advance(self, rows, errors):
        self.first_s = self.first_s or time.monotonic() - float(sys.argv[3])

progress = Progress()
run_scan(ScanConfig((sys.argv[1],), sys.argv[2]), progress)
print(progress.first_s)
"""


def main() -> None:
    """Write the forms, scan each in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_forms(folder, arguments.images)
        cpu: dict[str, list[float]] = {form: [] for form in FORMS}
        first: dict[str, list[float]] = {form: [] for form in FORMS}
        for number in range(arguments.rounds):
            for form in FORMS:
                cpu_s, first_s = scan(folder / form, folder / f"out-{form}-{number}")
                cpu[form].append(cpu_s)
                first[form].append(first_s)
        expected = answers(folder / "out-parquet-0")
        for form in FORMS:
            ratios = [ours / theirs for ours, theirs in zip(cpu[form], cpu["parquet"], strict=True)]
            print(
                f"{form:8} {statistics.median(cpu[form]):6.2f} CPU s, "
                f"{statistics.median(ratios):.3f} of Parquet's, first batch after "
                f"{statistics.median(first[form]):.1f} s, "
                f"answers equal: {answers(folder / f'out-{form}-0') == expected}"
            )


def write_forms(folder: Path, count: int) -> None:
    """Write JPEGs of 512 x 512 pixels with captions in all forms."""
    for form in FORMS:
        (folder / form).mkdir()
    images = [_jpeg(number) for number in range(count)]
    captions = [f"a photograph of a dog on a beach, number {number}" for number in range(count)]
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        (folder / "folder" / f"{number:06}.jpg").write_bytes(image)
        (folder / "folder" / f"{number:06}.txt").write_text(caption)
    for start in range(0, count, _ROWS_PER_FILE):
        part = slice(start, start + _ROWS_PER_FILE)
        table = pa.table({"image": images[part], "caption": captions[part]})
        pq.write_table(table, folder / "parquet" / f"{start:06}.parquet")
        with tarfile.open(folder / "tars" / f"{start:06}.tar", "w") as tar:
            for number in range(start, min(start + _ROWS_PER_FILE, count)):
                _add(tar, f"{number:06}.jpg", images[number])
                _add(tar, f"{number:06}.txt", captions[number].encode())


def scan(source: Path, out: Path) -> tuple[float, float]:
    """Return the CPU seconds of a scan, and the seconds until its first rows were answered."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [sys.executable, "-c", _SCAN, source, out, time.monotonic()]
    process = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"the scan of {source} failed: {process.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu_s, float(process.stdout)


def answers(out: Path) -> list[float]:
    """Return the probabilities of all rows."""
    probabilities: list[float] = pq.read_table(out / "detections").column("p_ai").to_pylist()
    return probabilities


def _jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


if __name__ == "__main__":
    main()
