"""Parquet files of a manifest, read for all that reads them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.errors import AigidError
from aigid.manifest import open_manifest, read_segment
from aigid.sources import ColumnChoice, ManifestFile, Segment, opened


@pytest.fixture
def damaged(tmp_path: Path) -> ManifestFile:
    path = tmp_path / "m.parquet"
    table = pa.table({"image": ["first.png", "second.png"], "label": pa.array([1, 0], pa.int32())})
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    # In the page: its header has the same text in statistics.
    data[data.index(b"\x0a\0\0\0second") + 4] ^= 1
    path.write_bytes(data)
    return open_manifest([str(path)]).files[0]


def test_rows_of_a_damaged_page_are_not_read(damaged: ManifestFile) -> None:
    manifest = open_manifest([damaged.path])
    with pytest.raises(
        AigidError,
        match=r"m\.parquet, rows 0 to 2: cannot be read: .*(checksum|CRC).*; repair or replace",
    ):
        list(read_segment(manifest, Segment(damaged, 0, 2)))


def test_narrow_columns_of_a_damaged_page_are_not_read(damaged: ManifestFile) -> None:
    with (
        pytest.raises(AigidError, match=r"m\.parquet: cannot be read: .*(checksum|CRC)"),
        opened(damaged) as parquet,
    ):
        parquet.read(columns=["image"])
    with opened(damaged) as parquet:
        assert parquet.read(columns=["label"]).num_rows == 2


def test_the_bytes_of_kept_columns_are_known_by_row_group(tmp_path: Path) -> None:
    notes = pa.array([{"a": "x" * 1000}] * 4, pa.struct([("a", pa.string())]))
    table = pa.table({"image": ["1.png"] * 4, "notes": notes, "notes.b": ["y"] * 4})
    path = tmp_path / "m.parquet"
    pq.write_table(table, path, row_group_size=2, use_dictionary=False)
    (file,) = open_manifest([str(path)], ColumnChoice(keep=("notes",))).files
    assert [2000 < size < 7000 for size in file.kept_bytes] == [True, True]
    assert open_manifest([str(path)]).files[0].kept_bytes == ()
