"""Scans of very large rows: each is answered, and the process needs little memory."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import HF_IMAGE, encoded_image
from support.scan_process import start_scan
from support.scan_results import result_files, result_rows
from support.web_server import Answer, web_server

MB = 1_000_000
ROWS = 24
# Read as a whole, the page of each manifest alone needs several times its 430 MB.
MOST_MIB = 900


def scan(manifest: Path, out: Path, model: Path, *options: object) -> dict[str, Any]:
    process = start_scan(
        manifest, out, "--model", model, "--threads", 2, "--json", "--max-error-rate", 1, *options
    )
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    summary: dict[str, Any] = json.loads(output)
    return summary


def padded(row: int, size: int, noise: bytes) -> bytes:
    """An image with so many bytes: what follows its end is no part of it."""
    image = encoded_image(row, kind="JPEG")
    return image + noise[: size - len(image)]


@pytest.fixture(scope="module")
def noise() -> bytes:
    return random.Random(1).randbytes(18 * MB)


@pytest.mark.parametrize("kind", [pa.binary(), HF_IMAGE], ids=["flat", "struct"])
def test_large_images_in_one_page_are_all_scored(
    tmp_path: Path, tiny_repository: Path, noise: bytes, kind: pa.DataType
) -> None:
    images: list[Any] = [padded(row, 18 * MB, noise) for row in range(ROWS)]
    if kind == HF_IMAGE:
        images = [{"bytes": data, "path": None} for data in images]
    pq.write_table(pa.table({"image": pa.array(images, kind)}), tmp_path / "m.parquet")
    del images
    summary = scan(tmp_path / "m.parquet", tmp_path / "out", tiny_repository)
    assert (summary["rows"], summary["scored"]) == (ROWS, ROWS)
    assert summary["run"]["peak_memory_mib"] < MOST_MIB


def test_large_kept_columns_are_cut_into_small_result_files(
    tmp_path: Path, tiny_repository: Path, noise: bytes
) -> None:
    contents = [b"%d" % row + noise for row in range(ROWS)]
    table = pa.table({"image": [encoded_image(1)] * ROWS, "blob": contents})
    pq.write_table(table, tmp_path / "m.parquet")
    out = tmp_path / "out"
    summary = scan(tmp_path / "m.parquet", out, tiny_repository, "--keep", "blob")
    assert (summary["rows"], summary["scored"]) == (ROWS, ROWS)
    assert summary["run"]["peak_memory_mib"] < MOST_MIB
    assert max(path.stat().st_size for path in result_files(out)) < 120 * MB
    assert [row["blob"] for row in result_rows(out)] == contents


def test_large_images_from_the_web_are_all_scored(
    tmp_path: Path, tiny_repository: Path, noise: bytes
) -> None:
    with web_server() as server:
        url = server.serve("/image.jpg", Answer(padded(1, 18 * MB, noise)))
        # Sixty-four at a time would be 1.2 GB.
        pq.write_table(pa.table({"image_url": [url] * 80}), tmp_path / "m.parquet")
        summary = scan(
            tmp_path / "m.parquet", tmp_path / "out", tiny_repository, "--allow-private-addresses"
        )
    assert (summary["rows"], summary["scored"]) == (80, 80)
    assert summary["run"]["peak_memory_mib"] < MOST_MIB


def test_images_above_the_limit_are_too_large_whatever_holds_them(
    tmp_path: Path, tiny_repository: Path, noise: bytes
) -> None:
    good = encoded_image(1)
    table = pa.table({"image": [good, noise * 16, good], "prompt": ["x " * 20 * MB, None, ""]})
    pq.write_table(table, tmp_path / "m.parquet")
    summary = scan(tmp_path / "m.parquet", tmp_path / "out", tiny_repository)
    assert summary["errors"] == {"too_large": 1}
    assert [row["error"] for row in result_rows(tmp_path / "out")] == [None, "too_large", None]
    assert summary["run"]["peak_memory_mib"] < MOST_MIB


def test_a_damaged_page_of_a_manifest_ends_the_scan_and_says_where(
    tmp_path: Path, tiny_repository: Path
) -> None:
    path = tmp_path / "m.parquet"
    images = [encoded_image(row) for row in range(20)]
    options: dict[str, Any] = {"write_page_checksum": True, "compression": "none"}
    pq.write_table(pa.table({"image": images}), path, row_group_size=10, **options)
    data = bytearray(path.read_bytes())
    data[data.index(images[13]) + 500] ^= 1
    path.write_bytes(data)
    process = start_scan(path, tmp_path / "out", "--model", tiny_repository, "--shard-rows", 10)
    _, errors = process.communicate()
    assert process.returncode == 1
    for part in (str(path), "rows 10 to 20", "checksum", "repair or replace the file"):
        assert part in errors
    # The shard before it is committed.
    assert len(result_rows(tmp_path / "out")) == 10
