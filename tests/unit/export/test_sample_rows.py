from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.errors import ManifestError
from aigid.export.sample_rows import RowSource, SampleRow, rows_for, spread_segments
from aigid.manifest import open_manifest
from aigid.training.checkpoint import Checkpoint
from aigid.training.labels import LabelChoice


def take(source: Path, checkpoint: Checkpoint, rows: int) -> list[SampleRow]:
    return list(rows_for(checkpoint, str(source), rows))


@pytest.mark.parametrize("rows", [1, 7, 32, 40])
def test_rows_have_the_shapes_and_types_of_the_encoders(
    manifest: Path, checkpoint: Checkpoint, rows: int
) -> None:
    found = take(manifest, checkpoint, rows)
    assert len(found) == rows
    assert all(row.image.shape == (1, 32, 32, 3) and row.image.dtype == np.uint8 for row in found)
    assert all(
        row.input_ids.shape[0] == 1 and row.input_ids.dtype == np.int32 and row.input_ids[0, 0] == 2
        for row in found
    )


def test_rows_are_spread_over_the_manifest(manifest: Path) -> None:
    segments = list(spread_segments(open_manifest([str(manifest)]), 4))
    assert [(segment.start, segment.stop) for segment in segments[:4]] == [
        (0, 1),
        (10, 11),
        (20, 21),
        (30, 31),
    ]
    assert sorted(
        row for segment in segments for row in range(segment.start, segment.stop)
    ) == list(range(40))


def test_segments_span_several_files(tmp_path: Path) -> None:
    for name, count in (("a", 3), ("b", 1), ("c", 5)):
        pq.write_table(
            pa.table({"image": [b"x"] * count, "prompt": ["y"] * count}),
            tmp_path / f"{name}.parquet",
        )
    segments = list(spread_segments(open_manifest([str(tmp_path)]), 9))
    found = [
        (Path(segment.file.path).stem, row)
        for segment in segments
        for row in range(segment.start, segment.stop)
    ]
    assert found == [("a", 0), ("a", 1), ("a", 2), ("b", 0), *(("c", row) for row in range(5))]


def test_rows_that_cannot_be_decoded_are_skipped(
    tmp_path: Path, checkpoint: Checkpoint, manifest: Path
) -> None:
    table = pq.read_table(manifest)
    images = table["image"].to_pylist()
    images[0], images[20] = b"", b"not an image"
    broken = tmp_path / "broken.parquet"
    pq.write_table(table.set_column(0, "image", pa.array(images)), broken)
    assert len(take(broken, checkpoint, 38)) == 38
    with pytest.raises(ManifestError, match="38 of its 40 rows are usable, but 39 are needed"):
        take(broken, checkpoint, 39)


def test_without_a_minimum_there_are_as_many_rows_as_can_be_decoded(
    checkpoint: Checkpoint, manifest: Path
) -> None:
    assert len(list(RowSource(checkpoint, str(manifest)).sample(1000, fewest=1))) == 40


def test_rows_without_a_prompt_column_have_empty_prompts(
    tmp_path: Path, checkpoint: Checkpoint, manifest: Path
) -> None:
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(manifest, columns=["image"]), bare)
    assert [row.input_ids.tolist() for row in take(bare, checkpoint, 3)] == [[[2, 3]]] * 3


def test_labels_stay_with_their_rows(
    tmp_path: Path, checkpoint: Checkpoint, manifest: Path
) -> None:
    """Also where rows are skipped, runs begin anywhere, and a label is not known."""
    table = pq.read_table(manifest)
    images = [
        b"" if row % 7 == 3 else image for row, image in enumerate(table["image"].to_pylist())
    ]
    # The prompt tells the row's label, as the number of its tokens.
    prompts = ["a " * (1 + row % 6) for row in range(40)]
    label_b = [None if row % 6 == 5 else row % 6 for row in range(40)]
    label_a = [None if row % 6 == 5 else int(row % 6 > 0) for row in range(40)]
    labelled = pa.table(
        {
            "image": images,
            "prompt": prompts,
            "Label_A": pa.array(label_a, pa.int32()),
            "Label_B": pa.array(label_b, pa.int32()),
        }
    )
    path = tmp_path / "labelled.parquet"
    pq.write_table(labelled, path, row_group_size=9)
    assert not RowSource(checkpoint, str(path)).has_labels
    source = RowSource(checkpoint, str(path), LabelChoice())
    assert source.has_labels
    with pytest.raises(ManifestError, match="no column named kind"):
        RowSource(checkpoint, str(path), LabelChoice(label_column="kind"))
    rows = list(source.sample(30))
    found = {(row.input_ids.shape[1] - 3, row.label_b) for row in rows}
    assert found == {(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, None)}
