"""What a scan has written, read back."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def result_files(out: Path) -> list[Path]:
    """The result files of a results folder, in the order of shards."""
    return sorted((out / "detections").glob("*.parquet"))


def result_rows(out: Path) -> list[dict[str, object]]:
    """All result rows of a results folder, in the manifest's order."""
    return [row for path in result_files(out) for row in pq.read_table(path).to_pylist()]


def parquet_rows(folder: Path) -> list[dict[str, object]]:
    """The rows of all Parquet files in a folder, by the files' names."""
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def summary_of(out: Path) -> dict[str, object]:
    """The summary of a scan."""
    return dict(json.loads((out / "summary.json").read_text()))
