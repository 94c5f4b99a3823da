"""What a scan has written, read back."""

import json
from pathlib import Path

import pyarrow.parquet as pq


def result_rows(folder: Path) -> list[dict[str, object]]:
    """All result rows of a folder, in the manifest's order."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def summary_of(folder: Path) -> dict[str, object]:
    """The summary of a scan."""
    return dict(json.loads((folder / "summary.json").read_text()))
