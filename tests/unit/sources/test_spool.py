"""Tables in a temporary file."""

import gc
from pathlib import Path

import pyarrow as pa
import pytest

from aigid.sources import ManifestFile, ManifestFiles
from aigid.sources.spool import spooled

SCHEMA = pa.schema([("a", pa.int64())])


def batches(count: int) -> list[pa.RecordBatch]:
    return [pa.record_batch([pa.array([number] * 5)], SCHEMA) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_spooled_table_has_all_rows_in_order(count: int) -> None:
    table = spooled(iter(batches(count)), SCHEMA)
    assert table == pa.Table.from_batches(batches(count), schema=SCHEMA)


def test_the_temporary_file_is_gone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table = spooled(iter(batches(3)), SCHEMA)
    assert not list(tmp_path.iterdir())
    gc.collect()
    assert table.num_rows == 15


def test_many_files_are_recorded_and_read_back() -> None:
    files = [
        ManifestFile(f"{number}.parquet", number, (number, 1), f"{number:064x}", number)
        for number in range(20_000)
    ]
    found = ManifestFiles(files)
    assert ManifestFiles.from_bytes(found.to_bytes()) == found
    assert list(found) == files
    assert found[12_345] == files[12_345]
