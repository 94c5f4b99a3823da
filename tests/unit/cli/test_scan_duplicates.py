"""`aigid scan --reuse-answers` and `--hash`: the same answers, found once, and hashes of images."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from support.manifests import HF_IMAGE, encoded_image
from support.scan_results import result_files, result_rows, summary_of

from aigid import shard_scan
from aigid.cli.main import main
from aigid.contract import load_contract
from aigid.evidence import EvidenceReader
from aigid.pixels import decode_image
from aigid.results import open_results, verify_results

Scan = Callable[..., Result]
ROWS = 60
# Every image three times, and each time with the same prompt but for the last twelve rows.
IMAGES = [encoded_image(row % 20) for row in range(ROWS)]
PROMPTS = [
    "another cat" if row >= 48 else ["a cat", None, "two dogs"][row % 20 % 3] for row in range(ROWS)
]
BAD: dict[int, Any] = {
    4: None,
    24: None,
    5: {"bytes": b"no image", "path": None},
    25: {"bytes": b"no image", "path": None},
    45: {"bytes": b"no image", "path": None},
    6: {"bytes": b"", "path": None},
    26: {"bytes": b"", "path": None},
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    images = [BAD.get(row, {"bytes": IMAGES[row], "path": None}) for row in range(ROWS)]
    table = pa.table({"image": pa.array(images, HF_IMAGE), "prompt": pa.array(PROMPTS)})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=10)
    return tmp_path / "m.parquet"


@pytest.fixture
def scan(tiny_repository: Path, manifest: Path, tmp_path: Path) -> Scan:
    def run(*options: object, out: str = "results") -> Result:
        words = ["scan", manifest, "--out", tmp_path / out, "--model", tiny_repository]
        words += ["--shard-rows", 10, "--max-error-rate", 1, *options]
        return CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)

    return run


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bytes of all images that are decoded."""
    found: list[bytes] = []

    def watched(data: bytes, *arguments: Any) -> Any:
        found.append(data)
        return decode_image(data, *arguments)

    monkeypatch.setattr(shard_scan, "decode_image", watched)
    return found


def pairs() -> list[tuple[bytes, str | None]]:
    """The pairs of an image and a prompt that could be fetched."""
    cells = [BAD.get(row, {"bytes": IMAGES[row]}) for row in range(ROWS)]
    return [
        (cell["bytes"], PROMPTS[row])
        for row, cell in enumerate(cells)
        if cell is not None and cell["bytes"] is not None
    ]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_each_pair_is_decoded_once_and_the_results_are_the_same_bytes(
    threads: int, batch_size: int, scan: Scan, decoded: list[bytes], tmp_path: Path
) -> None:
    options = ("--threads", threads, "--batch-size", batch_size)
    assert scan("--threads", 1, out="plain").exit_code == 0
    assert summary_of(tmp_path / "plain")["run"]["duplicates"] is None
    decoded.clear()
    assert scan("--reuse-answers", *options).exit_code == 0
    # An empty image is refused when it is fetched.
    fetched = [pair for pair in pairs() if pair[0]]
    assert len(decoded) == len(set(fetched))
    assert summary_of(tmp_path / "results")["run"]["duplicates"] == len(fetched) - len(set(fetched))
    for name in ("plain", "results"):
        assert not list(verify_results(open_results(str(tmp_path / name))))
    plain, found = (
        [path.read_bytes() for path in result_files(tmp_path / name)]
        for name in ("plain", "results")
    )
    assert plain == found
    summaries = [summary_of(tmp_path / name) | {"run": None} for name in ("plain", "results")]
    assert summaries[0] == summaries[1]


def test_evidence_is_read_once_as_well_and_is_the_same(
    scan: Scan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan("--evidence", out="plain")
    read: list[bytes] = []
    whole = EvidenceReader.read

    def watched(reader: EvidenceReader, data: bytes) -> Any:
        read.append(data)
        return whole(reader, data)

    monkeypatch.setattr(EvidenceReader, "read", watched)
    scan("--evidence", "--reuse-answers", "--threads", 3, "--batch-size", 4)
    assert len(read) == len({pair for pair in pairs() if pair[0]})
    assert [path.read_bytes() for path in result_files(tmp_path / "results")] == [
        path.read_bytes() for path in result_files(tmp_path / "plain")
    ]


def test_without_the_option_every_image_is_decoded(scan: Scan, decoded: list[bytes]) -> None:
    scan()
    assert len(decoded) == len([pair for pair in pairs() if pair[0]])


def test_a_scan_may_go_on_with_the_option_or_without_it(scan: Scan, tmp_path: Path) -> None:
    scan(out="plain")
    scan("--reuse-answers")
    for path in result_files(tmp_path / "results")[1::2]:
        path.unlink()
    assert scan("--threads", 2).exit_code == 0
    assert [path.read_bytes() for path in result_files(tmp_path / "results")] == [
        path.read_bytes() for path in result_files(tmp_path / "plain")
    ]


def test_hashes_are_columns_and_part_of_the_settings(
    scan: Scan, tiny_repository: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    assert scan("--hash").exit_code == 0
    assert not list(verify_results(open_results(str(out))))
    assert json.loads((out / "scan.json").read_text())["settings"]["hash"] is True
    schema = pq.read_schema(result_files(out)[0])
    assert schema.names[-4:] == ["hash", "perceptual_hash", "error", "error_detail"]
    assert schema.field("perceptual_hash").type == pa.uint64()
    spec = load_contract(tiny_repository).image
    for row, found in enumerate(result_rows(out)):
        data = BAD.get(row, {"bytes": IMAGES[row]})
        if not (data and data["bytes"]):
            assert (found["hash"], found["perceptual_hash"]) == (None, None)
            continue
        assert found["hash"] == hashlib.sha256(data["bytes"]).hexdigest()
        if found["error"]:
            assert found["perceptual_hash"] is None
        else:
            image = Image.fromarray(decode_image(data["bytes"], spec))
            assert f"{found['perceptual_hash']:016x}" == str(imagehash.phash(image))
    refused = scan()
    assert refused.exit_code == 2
    assert "settings.hash: true -> false" in refused.stderr


@pytest.mark.parametrize("columns", [["--hash"], ["--hash", "--evidence"]])
def test_hashes_are_the_same_whatever_the_threads_and_after_a_retry(
    columns: list[str], scan: Scan, tmp_path: Path
) -> None:
    scan(*columns, "--threads", 1, out="one")
    scan(*columns, "--threads", 3, "--batch-size", 5)
    assert [path.read_bytes() for path in result_files(tmp_path / "results")] == [
        path.read_bytes() for path in result_files(tmp_path / "one")
    ]
    retried = scan(*columns, "--retry-errors")
    assert "scored now: 0; failed again: 7" in retried.stderr
    assert [path.read_bytes() for path in result_files(tmp_path / "results")] == [
        path.read_bytes() for path in result_files(tmp_path / "one")
    ]


@pytest.mark.parametrize("column", ["hash", "perceptual_hash"])
def test_a_kept_column_of_the_same_name_is_refused(
    column: str, scan: Scan, manifest: Path, tmp_path: Path
) -> None:
    table = pq.read_table(manifest).append_column(column, pa.array(range(ROWS)))
    pq.write_table(table, manifest)
    refused = scan("--hash", "--keep", column)
    assert refused.exit_code == 2
    assert f"--keep {column}: every result file has a column of that name" in refused.stderr
    assert scan("--keep", column).exit_code == 0


def test_the_run_s_figures_tell_where_its_time_went(scan: Scan, tmp_path: Path) -> None:
    scan("--threads", 1)
    run: Any = summary_of(tmp_path / "results")["run"]
    assert run["evidence_s"] == 0
    assert 0 < run["decode_s"] + run["fetch_s"] + run["score_s"] <= run["seconds"]
    scan("--threads", 1)
    assert summary_of(tmp_path / "results")["run"] == run
    scan("--evidence", out="with")
    assert summary_of(tmp_path / "with")["run"]["evidence_s"] > 0
