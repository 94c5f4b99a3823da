from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.errors import ManifestError
from aigid.export.sample_rows import SampleRow, sample_rows, spread_segments
from aigid.manifest import open_manifest
from aigid.prompts import PromptEncoder
from aigid.training.checkpoint import Checkpoint


def take(source: Path, checkpoint: Checkpoint, rows: int) -> list[SampleRow]:
    prompts = PromptEncoder(checkpoint.tokenizer_file, checkpoint.info.prompt)
    return list(sample_rows(str(source), checkpoint.info.image, prompts, rows))


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


def test_a_manifest_without_prompts_is_refused(
    tmp_path: Path, checkpoint: Checkpoint, manifest: Path
) -> None:
    bare = tmp_path / "bare.parquet"
    pq.write_table(pq.read_table(manifest, columns=["image"]), bare)
    with pytest.raises(ManifestError, match="no prompt column"):
        take(bare, checkpoint, 4)
