import io
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from aigid.errors import UsageError
from aigid.records import SOURCES
from aigid.simulation.simulate import (
    JPEG_QUALITIES,
    SCHEMA,
    SimulatedRow,
    SimulationConfig,
    Split,
    make_row,
    simulate,
    split_scene,
)

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


def luminance_table(row: SimulatedRow) -> tuple[int, ...]:
    return tuple(Image.open(io.BytesIO(row.image)).quantization[0])


@pytest.fixture(scope="module")
def many_rows() -> list[SimulatedRow]:
    config = SimulationConfig(rows=900, split=Split.TRAIN, seed=5, shorter_side=32, workers=1)
    return [make_row(config, row) for row in range(config.rows)]


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


def test_another_seed_gives_other_rows() -> None:
    assert make_row(SMALL, 0) != make_row(replace(SMALL, seed=4), 0)


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
    assert set(labels[:40]) == set(range(len(SOURCES)))
    assert np.mean(np.diff(labels) % 6 == 1) < 0.35


def test_six_rows_share_a_scene_and_its_caption() -> None:
    for number in range(5):
        rows = [make_row(SMALL, 6 * number + label) for label in range(6)]
        assert len({row.caption for row in rows}) == 1
        assert len({row.path for row in rows}) == 6
        assert [row.label_b for row in rows] == list(range(6))


def test_splits_share_no_caption_whatever_their_seeds() -> None:
    captions = {
        split: {
            split_scene(replace(SMALL, split=split, seed=seed), number)[0].caption
            for seed in (0, 1)
            for number in range(300)
        }
        for split in Split
    }
    train, validation, test = captions.values()
    assert not (train & validation or train & test or validation & test)


def test_paths_carry_no_label(many_rows: list[SimulatedRow]) -> None:
    labels_of_suffix = defaultdict(list)
    for row in many_rows:
        name, scene, suffix = Path(row.path).stem.split("_")
        assert (name, len(scene)) == ("train", 7)
        labels_of_suffix[suffix].append(row.label_b)
    assert len(labels_of_suffix) == 6
    counts = np.array([np.bincount(labels, minlength=6) for labels in labels_of_suffix.values()])
    # Chi-squared with 25 degrees of freedom is above 52.6 in one of a thousand cases.
    assert ((counts - 25) ** 2 / 25).sum() < 52.6


def chi_squared(labels: list[int], keys: list[tuple[int, ...]]) -> float:
    """How far the classes' counts of each key are from equal."""
    values = sorted(set(keys))
    counts = np.zeros((len(SOURCES), len(values)))
    for label, key in zip(labels, keys, strict=True):
        counts[label, values.index(key)] += 1
    expected = counts.mean(axis=0, keepdims=True)
    return float(((counts - expected) ** 2 / expected).sum())


def test_jpeg_qualities_are_alike_for_all_classes(many_rows: list[SimulatedRow]) -> None:
    tables = [luminance_table(row) for row in many_rows]
    assert len(set(tables)) == JPEG_QUALITIES[1] - JPEG_QUALITIES[0] + 1
    # 115 degrees of freedom: above 166 in one of a thousand cases.
    assert chi_squared([row.label_b for row in many_rows], tables) < 166


def test_sizes_are_alike_for_all_classes(many_rows: list[SimulatedRow]) -> None:
    sizes = [Image.open(io.BytesIO(row.image)).size for row in many_rows]
    assert set(sizes) == {(32, 32), (40, 32), (32, 40)}
    # 10 degrees of freedom: above 29.6 in one of a thousand cases.
    assert chi_squared([row.label_b for row in many_rows], sizes) < 29.6


def test_every_picture_is_a_jpeg_with_one_chroma_subsampling(many_rows: list[SimulatedRow]) -> None:
    for row in many_rows[:30]:
        image = Image.open(io.BytesIO(row.image))
        assert (image.format, image.mode) == ("JPEG", "RGB")
        assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("shorter_side", [32, 37, 224])
def test_the_shorter_side_is_as_asked(shorter_side: int) -> None:
    for row in range(6):
        image = Image.open(
            io.BytesIO(make_row(replace(SMALL, shorter_side=shorter_side), row).image)
        )
        assert min(image.size) == shorter_side
        assert max(image.size) <= shorter_side * 4 / 3 + 4


def test_varied_sizes_vary() -> None:
    config = replace(SMALL, varied_sizes=True)
    shorter = [min(Image.open(io.BytesIO(make_row(config, row).image)).size) for row in range(6)]
    assert len(set(shorter)) > 3
    assert 224 <= min(shorter) <= max(shorter) <= 1024


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
    with pytest.raises(UsageError, match="another simulation"):
        simulate(replace(SMALL, rows_per_file=50, rows=200), folder)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot make the folder"):
        simulate(SMALL, tmp_path / "file" / "below")


@pytest.mark.parametrize(
    "bad",
    [
        {"rows": 0},
        {"workers": 0},
        {"rows_per_file": 0},
        {"rows_per_group": -1},
        {"seed": -1},
        {"shorter_side": 8},
        {"shorter_side": 100_000},
        {"split": "holdout"},
    ],
)
def test_a_bad_setting_is_refused_by_name(bad: dict) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        replace(SMALL, **bad)
