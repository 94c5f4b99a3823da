import gc
import io
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from support.manifests import HF_IMAGE, SIDE, encoded_image, manifest_table

from aigid.contract import ImageSpec, PromptSpec
from aigid.errors import ManifestError
from aigid.pixels import decode_image
from aigid.prompts import PromptEncoder, TokenBatch
from aigid.sources import READ_ROWS
from aigid.training import datasets
from aigid.training.checkpoint import CheckpointInfo
from aigid.training.datasets import LabelledManifest, ProcessRank, StreamOrder
from aigid.training.image_changes import Augmentation
from aigid.training.labels import OTHER_GENERATOR, UNKNOWN_GENERATOR, LabelChoice
from aigid.training.row_decoder import Input, LabelledRow, ReadOptions
from aigid.training.training_batch import TrainingBatch

Label = Callable[..., Path]
Open = Callable[..., LabelledManifest]
SPEC = ImageSpec(size=SIDE)


def prompt_rows(batches: list[TrainingBatch]) -> list[tuple[int, ...]]:
    """Return the token ids of each row, without padding."""
    return [
        tuple(ids[mask == 1].tolist())
        for batch in batches
        for ids, mask in zip(batch.tokens.input_ids, batch.tokens.attention_mask, strict=True)
    ]


def labels_of(batches: list[TrainingBatch]) -> list[int]:
    return [label for batch in batches for label in batch.label_b.tolist()]


def same(first: list[TrainingBatch], second: list[TrainingBatch]) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(one.images, other.images)
        and np.array_equal(one.tokens.input_ids, other.tokens.input_ids)
        and np.array_equal(one.label_b, other.label_b)
        for one, other in zip(first, second, strict=True)
    )


def test_the_data_set_s_own_schema_is_read(
    write_manifest: Label, open_labelled: Open, tokenizer_file: Path
) -> None:
    table = manifest_table(20)
    batches = list(open_labelled(write_manifest(table, row_group_size=6)).batches(8, None))
    assert [len(batch.label_a) for batch in batches] == [8, 8, 4]
    assert sum(batch.undecodable for batch in batches) == 0
    rows = table.to_pylist()
    assert labels_of(batches) == [row["Label_B"] for row in rows]
    assert [label for batch in batches for label in batch.label_a.tolist()] == [
        row["Label_A"] for row in rows
    ]
    images = np.concatenate([batch.images for batch in batches])
    np.testing.assert_array_equal(
        images, np.stack([decode_image(row["Image"]["bytes"], SPEC) for row in rows])
    )
    prompts = PromptEncoder(tokenizer_file, PromptSpec(64, (64,)))
    assert prompt_rows(batches) == [
        tuple(ids) for ids in prompts.token_ids([row["Caption"] for row in rows])
    ]


def test_a_batch_is_padded_to_the_bucket_of_its_longest_prompt(
    write_manifest: Label, open_labelled: Open
) -> None:
    image = {"bytes": encoded_image(1), "path": None}
    prompts = ["a car", "a red car", "one two three four five six seven eight nine", "x"]
    columns = {
        "image": pa.array([image] * 4, HF_IMAGE),
        "text": prompts,
        "label_a": [0] * 4,
        "label_b": [0] * 4,
    }
    batches = list(open_labelled(write_manifest(pa.table(columns))).batches(2, None))
    assert [batch.tokens.input_ids.shape for batch in batches] == [(2, 8), (2, 16)]


@pytest.mark.parametrize(
    "names", [("Label_A", "Label_B"), ("label_a", "label_b"), ("LABEL_A", "lAbEl_B")]
)
def test_label_columns_are_found_in_any_case(
    write_manifest: Label, open_labelled: Open, names: tuple[str, str]
) -> None:
    table = manifest_table(7).rename_columns(["id", "Caption", "Image", *names])
    manifest = open_labelled(write_manifest(table))
    assert manifest.class_counts() == (2, 1, 1, 1, 1, 1)
    assert labels_of(list(manifest.batches(4, None))) == [0, 1, 2, 3, 4, 5, 0]


def test_rows_of_an_unknown_generator_are_in_batches_and_rows_without_a_label_are_not(
    write_manifest: Label, open_labelled: Open
) -> None:
    table = manifest_table(3 * READ_ROWS)
    label_a = [None if row % 7 == 3 else int(row % 3 > 0) for row in range(len(table))]
    label_b = [
        0 if a == 0 else None if a is None or row % 2 else 2 for row, a in enumerate(label_a)
    ]
    for name, column in {"Label_A": label_a, "Label_B": label_b}.items():
        column = pa.array(column, pa.int32())
        table = table.set_column(table.schema.get_field_index(name), name, column)
    expected = [
        (a, 0 if a == 0 else UNKNOWN_GENERATOR if b is None else b)
        for a, b in zip(label_a, label_b, strict=True)
        if a is not None
    ]
    manifest = open_labelled(write_manifest(table, row_group_size=200))
    assert manifest.rows == len(expected) < len(table)
    for order in (None, StreamOrder(0, 0)):
        batches = list(manifest.batches(64, order))
        rows = [
            row
            for batch in batches
            for row in zip(batch.label_a.tolist(), batch.label_b.tolist(), strict=True)
        ]
        numbers = [number for batch in batches for number in batch.numbers.tolist()]
        assert Counter(rows) == Counter(expected)
        assert [label_a[number] for number in numbers] == [a for a, _ in rows]
        if order is None:
            assert rows == expected
        else:
            assert numbers == list(manifest.row_numbers(order))
    assert manifest.epoch_counts(3).rows == len(expected) + 2 * manifest.row_labels.counts.real


def test_a_manifest_is_read_with_the_labels_of_a_model(
    write_manifest: Label, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    table = manifest_table(3).drop_columns(["Label_A", "Label_B"])
    path = str(write_manifest(table.append_column("made_by", pa.array(["flux", "real", "sdxl"]))))
    manifest = LabelledManifest(
        [path],
        PromptEncoder(tokenizer_file, tiny_info.prompt),
        tiny_info.image,
        choice=LabelChoice(generator_column="made_by"),
        labels=("real", "sdxl"),
    )
    assert (manifest.labels, manifest.class_counts()) == (("real", "sdxl"), (1, 1))
    [batch] = manifest.batches(8, None)
    assert batch.label_a.tolist() == [1, 0, 1]
    assert batch.label_b.tolist() == [OTHER_GENERATOR, 0, 1]
    assert batch.label_b.dtype == batch.label_a.dtype == np.int64


def test_invalid_labels_are_refused_before_an_image_is_read(
    write_labelled: Label, open_labelled: Open
) -> None:
    path = write_labelled([1] * (3 * READ_ROWS))
    table = pq.read_table(path)
    bad = pa.array([0 if row == 2 * READ_ROWS + 5 else 1 for row in range(len(table))], pa.int32())
    pq.write_table(table.set_column(3, "Label_B", bad), path)
    with pytest.raises(ManifestError, match=f"{path}, row {2 * READ_ROWS + 5}: "):
        open_labelled(path)


def test_a_manifest_without_labels_is_refused(write_manifest: Label, open_labelled: Open) -> None:
    table = manifest_table(3).drop_columns(["Label_A", "Label_B"])
    with pytest.raises(ManifestError, match="no column has a usual name for labels"):
        open_labelled(write_manifest(table))


def test_files_whose_labels_differ_in_form_are_read_as_one(
    write_labelled: Label, open_labelled: Open
) -> None:
    first, second = (
        write_labelled([0, 1], "both/a.parquet"),
        write_labelled([2, 3], "both/b.parquet"),
    )
    table = pq.read_table(second)
    table = table.set_column(2, "Label_A", pa.array(["ai", "fake"]))
    pq.write_table(table.set_column(3, "Label_B", pa.array(["sdxl", "sd3"])), second)
    assert labels_of(list(open_labelled(first.parent).batches(8, None))) == [0, 1, 2, 3]
    assert labels_of(list(open_labelled(second, first).batches(8, None))) == [2, 3, 0, 1]


def test_a_file_without_labels_among_others_is_refused_before_training(
    write_labelled: Label, open_labelled: Open
) -> None:
    first, second = (
        write_labelled([0, 1], "both/a.parquet"),
        write_labelled([2, 3], "both/b.parquet"),
    )
    pq.write_table(pq.read_table(second).drop_columns(["Label_A", "Label_B"]), second)
    for paths in ([first.parent], [first, second]):
        with pytest.raises(ManifestError, match=r"b.parquet: no column has a usual name"):
            open_labelled(*paths)


def test_a_manifest_without_prompts_has_empty_prompts(
    write_labelled: Label, open_labelled: Open
) -> None:
    path = write_labelled([0, 1, 2])
    pq.write_table(pq.read_table(path).drop_columns("Caption"), path)
    # [CLS] and [SEP].
    assert prompt_rows(list(open_labelled(path).batches(4, None))) == [(101, 102)] * 3


def write_paths(folder: Path, image: bytes, name: str = "rows.parquet") -> Path:
    """Write a manifest of an existing and a missing path, relative to `folder`; return its path."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "one.png").write_bytes(image)
    columns = {
        "image_path": ["one.png", "gone.png"],
        "prompt": ["a", "b"],
        "Label_A": [0, 1],
        "Label_B": [0, 1],
    }
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["rows.parquet", "below/rows.parquet"])
def test_image_paths_are_relative_to_the_manifest_s_folder(
    tmp_path: Path, open_labelled: Open, name: str
) -> None:
    file = write_paths(tmp_path / "data", encoded_image(5), name)
    manifests = {
        "rows.parquet": [file, tmp_path / "data"],
        "below/rows.parquet": [tmp_path / "data", tmp_path / "data" / "*" / "*.parquet"],
    }
    for path in manifests[name]:
        [batch] = open_labelled(path).batches(4, None)
        assert (batch.label_b.tolist(), batch.undecodable) == ([0], 1)
        np.testing.assert_array_equal(batch.images[0], decode_image(encoded_image(5), SPEC))


def test_a_path_is_never_looked_up_in_another_manifest_s_folder(
    tmp_path: Path, open_labelled: Open
) -> None:
    files = [
        write_paths(tmp_path / name, encoded_image(seed))
        for seed, name in enumerate(("train", "more"))
    ]
    # Both folders have a one.png, with different images.
    [batch] = open_labelled(*files).batches(4, None)
    assert (batch.label_b.tolist(), batch.undecodable) == ([0, 0], 2)
    for seed, pixels in enumerate(batch.images):
        np.testing.assert_array_equal(pixels, decode_image(encoded_image(seed), SPEC))


def test_rows_that_cannot_be_decoded_are_skipped_and_counted(
    write_labelled: Label, open_labelled: Open
) -> None:
    manifest = open_labelled(write_labelled([0, None, 2, None, 4, 5]))
    batches = list(manifest.batches(3, None))
    assert labels_of(batches) == [0, 2, 4, 5]
    assert [batch.undecodable for batch in batches] == [1, 1]
    shuffled = list(manifest.batches(6, StreamOrder(0, 0)))
    assert sorted(labels_of(shuffled)) == [0, 2, 4, 5]


def test_a_batch_without_readable_images_is_empty(
    write_labelled: Label, open_labelled: Open
) -> None:
    batches = list(open_labelled(write_labelled([1, 2, None, None, 5])).batches(2, None))
    assert [batch.label_b.tolist() for batch in batches] == [[1, 2], [], [5]]


def test_the_same_order_gives_the_same_batches(
    write_labelled: Label, open_labelled: Open, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    path = write_labelled([0, 1, 2, 3, 4, 5] * 8, row_group_size=5)
    first = list(open_labelled(path).batches(7, StreamOrder(3, 1, 2)))
    assert same(first, list(open_labelled(path).batches(7, StreamOrder(3, 1, 2))))
    busy = LabelledManifest(
        [str(path)],
        PromptEncoder(tokenizer_file, tiny_info.prompt),
        tiny_info.image,
        ReadOptions(threads=5),
    )
    assert same(first, list(busy.batches(7, StreamOrder(3, 1, 2))))
    for other in (StreamOrder(3, 2, 2), StreamOrder(4, 1, 2)):
        assert prompt_rows(first) != prompt_rows(list(open_labelled(path).batches(7, other)))


def test_an_epoch_is_mixed_across_files_and_row_groups(
    write_labelled: Label, open_labelled: Open
) -> None:
    # The files are sorted by class, one each; the batches are mixed nevertheless.
    paths = [
        write_labelled([label] * 30, f"{label}.parquet", row_group_size=10) for label in range(6)
    ]
    batches = list(open_labelled(*paths).batches(30, StreamOrder(0, 0)))
    assert min(len(set(batch.label_b.tolist())) for batch in batches) >= 4


@settings(max_examples=25)
@given(
    files=st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=25), min_size=1, max_size=3),
    group_rows=st.integers(1, 30),
    buffer_rows=st.integers(2, 40),
    oversample_real=st.integers(1, 4),
    batch_rows=st.integers(1, 9),
    seed=st.integers(0, 9),
)
def test_an_epoch_has_every_row_once_and_oversamples_real_rows(
    tokenizer_file: Path,
    files: list[list[int]],
    group_rows: int,
    buffer_rows: int,
    oversample_real: int,
    batch_rows: int,
    seed: int,
) -> None:
    prompts = PromptEncoder(tokenizer_file, PromptSpec(32, (32,)))
    image = encoded_image(1, 8)
    expected: Counter[tuple[tuple[int, ...], int]] = Counter()
    in_order: list[tuple[int, ...]] = []
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "SHUFFLE_BUFFER_ROWS", buffer_rows)
        for number, labels in enumerate(files):
            words = [f"file {number} row {row}" for row in range(len(labels))]
            columns = {"image": [image] * len(labels), "prompt": words, "Label_B": labels}
            table = pa.table({**columns, "Label_A": [int(label > 0) for label in labels]})
            pq.write_table(table, Path(name) / f"{number}.parquet", row_group_size=group_rows)
            for ids, label in zip(prompts.token_ids(words), labels, strict=True):
                expected[tuple(ids), label] = 1 if label else oversample_real
                in_order.append(tuple(ids))
        manifest, order = (
            LabelledManifest([name], prompts, SPEC),
            StreamOrder(seed, 0, oversample_real),
        )
        batches = list(manifest.batches(batch_rows, order))
        numbers = [number for batch in batches for number in batch.numbers.tolist()]
        assert [in_order[number] for number in numbers] == prompt_rows(batches)
        assert numbers == list(manifest.row_numbers(order))
        assert Counter(zip(prompt_rows(batches), labels_of(batches), strict=True)) == expected
        assert manifest.epoch_counts(oversample_real).rows == expected.total()
    assert all(len(batch.label_a) == batch_rows for batch in batches[:-1])


def rows_in_memory() -> int:
    return sum(type(item) is LabelledRow for item in gc.get_objects())


@pytest.mark.parametrize("group_rows", [50, 5000])
@pytest.mark.parametrize("order", [None, StreamOrder(0, 0), StreamOrder(0, 0, 4)])
def test_memory_is_bounded_for_any_row_groups(
    write_labelled: Label,
    open_labelled: Open,
    monkeypatch: pytest.MonkeyPatch,
    order: StreamOrder | None,
    group_rows: int,
) -> None:
    monkeypatch.setattr(datasets, "SHUFFLE_BUFFER_ROWS", 64)
    path = write_labelled([0, 1, 2, 3, 4, 5] * 250, row_group_size=group_rows)
    held = [rows_in_memory() for _ in islice(open_labelled(path).batches(8, order), 0, None, 40)]
    assert len(held) >= 5
    # The shuffle buffer, the chunk that was read last, and the batches that are being decoded.
    assert 0 < max(held) < 64 + READ_ROWS + 8 * 8


def test_training_flips_half_of_the_images_and_evaluation_none(
    write_manifest: Label, open_labelled: Open
) -> None:
    # Dark on the left, bright on the right.
    buffer = io.BytesIO()
    Image.fromarray(np.tile(np.linspace(0, 255, SIDE, dtype=np.uint8), (SIDE, 1))).save(
        buffer, "PNG"
    )
    rows = 200
    images = pa.array([{"bytes": buffer.getvalue(), "path": None}] * rows, HF_IMAGE)
    columns = {
        "image": images,
        "text": [str(row) for row in range(rows)],
        "Label_A": [0] * rows,
        "Label_B": [0] * rows,
    }
    manifest = open_labelled(write_manifest(pa.table(columns)))

    def mirrored(order: StreamOrder | None) -> list[bool]:
        images = np.concatenate([batch.images for batch in manifest.batches(32, order)])
        left, right = (images[:, :, side].mean(axis=(1, 2)) for side in (0, -1))
        assert (abs(left - right) > 200).all()
        return (left > right).tolist()

    assert not any(mirrored(None))
    half = Augmentation(flip=0.5)
    found = mirrored(StreamOrder(0, 0, augmentation=half))
    # 200 coin tosses fall outside this range in less than 1 of 10,000 cases.
    assert 70 < sum(found) < 130
    assert mirrored(StreamOrder(0, 0, augmentation=half)) == found
    assert mirrored(StreamOrder(0, 1, augmentation=half)) != found
    assert not any(mirrored(StreamOrder(0, 0, augmentation=Augmentation(flip=0))))
    assert all(mirrored(StreamOrder(0, 0, augmentation=Augmentation(flip=1))))


def test_augmentation_follows_the_order_and_is_repeatable(
    write_labelled: Label, open_labelled: Open
) -> None:
    opened = open_labelled(write_labelled([0, 1, 2, 3, 4, 5] * 6))
    changing = StreamOrder(seed=4, epoch=1, augmentation=Augmentation(crop=0.5, jpeg=0.5))
    plain, changed, again, later = (
        list(opened.batches(8, order))
        for order in (StreamOrder(4, 1), changing, changing, replace(changing, epoch=2))
    )
    assert same(changed, again)
    assert labels_of(changed) == labels_of(plain)
    differing = sum(
        not np.array_equal(*pair)
        for one, other in zip(plain, changed, strict=True)
        for pair in zip(one.images, other.images, strict=True)
    )
    # A quarter of the 36 images has neither change.
    assert 18 <= differing <= 34
    assert not same(changed, later)


def test_a_change_of_the_manifest_is_applied_to_every_image(
    write_labelled: Label, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    path = str(write_labelled([0, 1, 2]))
    prompts = PromptEncoder(tokenizer_file, tiny_info.prompt)
    negative = LabelledManifest([path], prompts, SPEC, ReadOptions(ImageOps.invert))
    (plain,), (turned,) = (
        list(one.batches(8, None)) for one in (LabelledManifest([path], prompts, SPEC), negative)
    )
    assert np.abs(255 - turned.images.astype(int) - plain.images).max() <= 1
    # The order's augmentation is applied after it.
    (both,) = negative.batches(8, StreamOrder(0, 0, augmentation=Augmentation(blur=1)))
    assert both.images.shape == plain.images.shape


def test_the_processes_divide_every_row_of_a_batch_among_them(
    write_labelled: Label, open_labelled: Open
) -> None:
    path = write_labelled([0, 1, 2, None, 4, 5] * 4, row_group_size=5)
    order = StreamOrder(3, 1)
    whole = list(open_labelled(path).batches(7, order))
    parts = [list(open_labelled(path).batches(7, order, ProcessRank(rank, 3))) for rank in range(3)]
    assert [len(part) for part in parts] == [len(whole)] * 3
    for number, batch in enumerate(whole):
        rows = [row for part in parts for row in prompt_rows([part[number]])]
        assert sorted(rows) == sorted(prompt_rows([batch]))
        assert sum(part[number].undecodable for part in parts) == batch.undecodable


def test_paired_images_come_with_and_without_the_change(
    write_labelled: Label, open_labelled: Open
) -> None:
    opened = open_labelled(write_labelled([0, 1, None, 3, 4, 5] * 3))
    order = StreamOrder(4, 1, augmentation=Augmentation(blur=1))
    paired, plain, blurred = (
        list(opened.batches(8, one))
        for one in (replace(order, paired=True), StreamOrder(4, 1), order)
    )
    for both, first, second in zip(paired, plain, blurred, strict=True):
        assert both.changed is not None
        assert np.abs(both.images.astype(int) - first.images).max() <= 1
        assert np.array_equal(both.changed, second.images)
        assert np.array_equal(both.all_images(), np.concatenate([both.images, both.changed]))
        assert first.changed is None


@settings(max_examples=30)
@given(rows=st.integers(1, 9), count=st.integers(1, 12), paired=st.booleans())
def test_micro_batches_divide_a_batch_in_order(rows: int, count: int, paired: bool) -> None:
    images, ids = (
        np.arange(rows * 12, dtype=np.uint8).reshape(rows, 2, 2, 3),
        np.arange(rows * 3, dtype=np.int32).reshape(rows, 3),
    )
    labels = np.arange(rows)
    batch = TrainingBatch(
        images,
        TokenBatch(ids, ids + 1),
        labels,
        labels + 1,
        labels + 2,
        5,
        images + 1 if paired else None,
    )
    parts = batch.micro_batches(count)
    sizes = [len(part.label_a) for part in parts]
    assert len(parts) == min(rows, count)
    assert max(sizes) - min(sizes) <= 1
    assert np.array_equal(np.concatenate([part.images for part in parts]), images)
    assert np.array_equal(np.concatenate([part.tokens.attention_mask for part in parts]), ids + 1)
    assert np.array_equal(np.concatenate([part.label_b for part in parts]), labels + 1)
    assert np.array_equal(np.concatenate([part.numbers for part in parts]), labels + 2)
    assert all((part.changed is not None) == paired for part in parts)


def test_an_input_can_be_left_out(
    write_labelled: Label, tokenizer_file: Path, tiny_info: CheckpointInfo
) -> None:
    path, prompts = (
        str(write_labelled([0, 1, None])),
        PromptEncoder(tokenizer_file, tiny_info.prompt),
    )
    blind, deaf = (
        list(
            LabelledManifest(
                [path], prompts, tiny_info.image, ReadOptions(without=without)
            ).batches(8, None)
        )[0]
        for without in Input
    )
    assert (blind.images == 128).all()
    assert (deaf.images != 128).any()
    assert len({tuple(ids) for ids in blind.tokens.input_ids}) == 3
    assert len({tuple(ids) for ids in deaf.tokens.input_ids}) == 1


def test_manifests_with_other_columns_and_folders_are_read_as_one(
    write_labelled: Label, tmp_path: Path, open_labelled: Open
) -> None:
    first = write_labelled([0, 1, 2], "one/rows.parquet")
    folder = tmp_path / "other"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(encoded_image(9))
    columns = {
        "prompt": ["a photograph"],
        "image_path": ["images/a.png"],
        "label_b": [4],
        "label_a": [1],
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    both = open_labelled(first, folder / "rows.parquet")
    assert (both.rows, both.class_counts()) == (4, (1, 1, 1, 0, 1, 0))
    [batch] = both.batches(8, None)
    assert (batch.label_b.tolist(), batch.undecodable) == ([0, 1, 2, 4], 0)
    assert len(list(both.batches(1, StreamOrder(0, 0)))) == 4
