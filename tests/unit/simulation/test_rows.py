import io
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aigid.records import DEFAULT_LABELS
from aigid.simulation import SimulatedRow, SimulationConfig, Split, make_row
from aigid.simulation.rows import JPEG_QUALITIES, draw_split_scene

SMALL = SimulationConfig(rows=100, split=Split.TRAIN, seed=3, shorter_side=32, workers=1)


def luminance_table(row: SimulatedRow) -> tuple[int, ...]:
    return tuple(Image.open(io.BytesIO(row.image)).quantization[0])


@pytest.fixture(scope="module")
def many_rows() -> list[SimulatedRow]:
    config = SimulationConfig(rows=900, split=Split.TRAIN, seed=5, shorter_side=32, workers=1)
    return [make_row(config, row) for row in range(config.rows)]


def test_another_seed_gives_other_rows() -> None:
    assert make_row(SMALL, 0) != make_row(replace(SMALL, seed=4), 0)


def test_six_rows_share_a_scene_and_its_caption() -> None:
    for number in range(5):
        rows = [make_row(SMALL, 6 * number + label) for label in range(6)]
        assert len({row.caption for row in rows}) == 1
        assert len({row.path for row in rows}) == 6
        assert [row.label_b for row in rows] == list(range(6))


def test_splits_share_no_caption_whatever_their_seeds() -> None:
    captions = {
        split: {
            draw_split_scene(replace(SMALL, split=split, seed=seed), number)[0].caption
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
    counts = np.zeros((len(DEFAULT_LABELS), len(values)))
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


def test_every_image_is_a_jpeg_with_one_chroma_subsampling(many_rows: list[SimulatedRow]) -> None:
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
