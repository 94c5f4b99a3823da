from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aigid.errors import UsageError
from aigid.records import DEFAULT_LABELS
from aigid.simulation import SimulationConfig, Split, make_row, simulate
from aigid.simulation.manifest_writer import SCHEMA

SMALL = SimulationConfig(
    rows=100,
    split=Split.TRAIN,
    seed=3,
    shorter_side=32,
    workers=1,
    rows_per_file=60,
    rows_per_group=25,
)


def read_rows(folder: Path) -> list[dict]:
    return [row for path in sorted(folder.iterdir()) for row in pq.read_table(path).to_pylist()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("simulated")
    simulate(SMALL, out_dir)
    return out_dir


def test_files_are_byte_identical_for_any_number_of_workers(folder: Path, tmp_path: Path) -> None:
    paths = simulate(replace(SMALL, workers=3), tmp_path)
    assert [path.name for path in paths] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    assert sorted(tmp_path.iterdir()) == paths
    for path in paths:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_files_have_the_schema_and_every_row_once(folder: Path) -> None:
    files = [pq.ParquetFile(path) for path in sorted(folder.iterdir())]
    assert all(file.schema_arrow.equals(SCHEMA) for file in files)
    assert [file.metadata.num_rows for file in files] == [60, 40]
    assert [file.metadata.num_row_groups for file in files] == [3, 2]
    made = {
        (row["Image"]["path"], row["Image"]["bytes"], row["Label_B"]) for row in read_rows(folder)
    }
    expected = [make_row(SMALL, row) for row in range(SMALL.rows)]
    assert made == {(row.path, row.image, row.label_b) for row in expected}


def test_labels_agree_and_come_in_no_fixed_order(folder: Path) -> None:
    rows = read_rows(folder)
    assert all(row["Label_A"] == int(row["Label_B"] > 0) for row in rows)
    labels = np.array([row["Label_B"] for row in rows])
    assert set(labels[:40]) == set(range(len(DEFAULT_LABELS)))
    assert np.mean(np.diff(labels) % 6 == 1) < 0.35


def test_progress_counts_the_rows_done(tmp_path: Path) -> None:
    seen: list[int] = []
    simulate(SMALL, tmp_path, progress=seen.append)
    assert seen == [25, 50, 60, 85, 100]


def test_an_interrupted_file_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done == 85:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(SMALL, tmp_path, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["train-00000-of-00002.parquet"]


def test_a_folder_with_files_of_another_simulation_is_refused(folder: Path) -> None:
    with pytest.raises(
        UsageError,
        match=f"{folder}: holds train-00000-of-00002.parquet of another simulation: remove",
    ):
        simulate(replace(SMALL, rows_per_file=50, rows=200), folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"below: the folder cannot be made: .*Not a directory"):
        simulate(SMALL, tmp_path / "file" / "below")
