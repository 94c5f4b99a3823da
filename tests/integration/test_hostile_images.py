"""Scans of damaged and hostile images: a row each, no crash, bounded memory, quiet stderr."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.image_files import damaged_files, demanding_files, valid_files
from support.scan_results import result_rows

pytestmark = pytest.mark.integration

MIB = 1024 * 1024
# What stops a scan that forgets its limits before it takes the host with it.
MOST_ADDRESS_SPACE = 8_000 * MIB
SOME, ALL = 250, 3000
MOST_PEAK_MIB, MOST_CPU_SECONDS = 1500, 60
# A folder of more images, such as decoders' own test suites, for the long form.
MORE_IMAGES = "AIGID_SOAK_IMAGES"


def write_manifest(path: Path, images: Iterable[tuple[str, bytes]]) -> Path:
    names, contents = zip(*images, strict=True)
    table = pa.table({"name": names, "image": pa.array(contents, pa.binary())})
    pq.write_table(table, path, row_group_size=50)
    return path


# A process of its own, for the peak of a child begins with the memory of what started it.
MEASURE = """
import json, resource, subprocess, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
done = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = usage.ru_utime + usage.ru_stime
print(json.dumps([done.returncode, usage.ru_maxrss / 1024, seconds, done.stderr]))
"""


def scan(manifest: Path, out: Path, threads: int) -> tuple[float, float]:
    """Scan in a process of its own; return its peak memory in MiB and its CPU seconds."""
    words = ["scan", manifest, "--out", out, "--threads", threads, "--batch-size", 2]
    words += ["--keep", "name", "--max-error-rate", 1, "--quiet"]
    command = [sys.executable, "-c", MEASURE, MOST_ADDRESS_SPACE, sys.executable, "-m", "aigid"]
    done = subprocess.run(map(str, command + words), capture_output=True, text=True, check=True)
    status, peak_mib, cpu_seconds, lines = json.loads(done.stdout)
    assert (status, lines) == (0, "")
    return peak_mib, cpu_seconds


@pytest.mark.parametrize("count", [SOME, pytest.param(ALL, marks=pytest.mark.soak)])
def test_each_damaged_image_has_a_row_and_the_same_answer_with_any_threads(
    count: int, tmp_path: Path
) -> None:
    images = [*valid_files().items(), *damaged_files(count, seed=15)]
    if count == ALL and MORE_IMAGES in os.environ:
        files = (path for path in Path(os.environ[MORE_IMAGES]).rglob("*") if path.is_file())
        images += [(str(path), path.read_bytes()) for path in sorted(files)]
    manifest = write_manifest(tmp_path / "images.parquet", images)
    peaks, answers = [], []
    for threads in (1, 2):
        out = tmp_path / f"results-{threads}"
        peaks.append(scan(manifest, out, threads)[0])
        answers.append(result_rows(out))
    assert [row["name"] for row in answers[0]] == [name for name, _ in images]
    assert answers[0] == answers[1]
    codes = Counter(row["error"] for row in answers[0])
    assert set(codes) <= {None, "undecodable", "too_large", "empty"}
    assert min(codes[None], codes["undecodable"]) > count // 20, codes
    assert max(peaks) < MOST_PEAK_MIB


@pytest.mark.soak
def test_images_that_ask_for_the_most_memory_and_work_stay_within_the_bounds(
    tmp_path: Path,
) -> None:
    found = {}
    for index, (name, data) in enumerate(demanding_files()):
        # Many of each, so that two threads meet them at once.
        manifest = write_manifest(tmp_path / f"{index}.parquet", [(name, data)] * 4)
        out = tmp_path / f"results-{index}"
        peak_mib, cpu_seconds = scan(manifest, out, threads=2)
        rows = result_rows(out)
        found[name] = peak_mib, cpu_seconds / len(rows), {row["error"] for row in rows}
        assert len(rows) == 4
    assert max(peak_mib for peak_mib, _, _ in found.values()) < MOST_PEAK_MIB, found
    assert max(seconds for _, seconds, _ in found.values()) < MOST_CPU_SECONDS, found
    assert all(errors <= {None, "too_large"} for _, _, errors in found.values()), found
