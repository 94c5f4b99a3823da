"""Scans of damaged and hostile images: a row each, no crash, bounded memory, quiet stderr."""

import os
import resource
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


def scan(manifest: Path, out: Path, threads: int) -> tuple[float, float, str]:
    """Scan in a process of its own; return its peak memory in MiB, CPU seconds and stderr."""
    words = ["scan", manifest, "--out", out, "--threads", threads, "--max-error-rate", 1]
    command = [sys.executable, "-m", "aigid", *map(str, words), "--keep", "name", "--quiet"]
    with (out.parent / f"{out.name}.log").open("w+") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE)
            ),
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        lines = log.read()
    assert process.returncode == 0, lines
    return usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, lines


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
        peak_mib, _, lines = scan(manifest, out, threads)
        peaks.append(peak_mib)
        answers.append(result_rows(out))
        assert lines == ""
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
    images = list(demanding_files())
    # Each twice in a row, so that two threads meet them at once.
    manifest = write_manifest(
        tmp_path / "images.parquet", [one for one in images for _ in range(2)]
    )
    peak_mib, cpu_seconds, lines = scan(manifest, tmp_path / "results", threads=2)
    rows = result_rows(tmp_path / "results")
    assert len(rows) == 2 * len(images)
    assert {row["error"] for row in rows} <= {None, "too_large"}, rows
    assert lines == ""
    assert peak_mib < MOST_PEAK_MIB
    assert cpu_seconds < MOST_CPU_SECONDS * len(rows)
