"""The sample's rows: spread over the manifest, never twice, always the same."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.manifests import manifest_table

from aigid.planning.sample_rows import sample_segments
from aigid.sources import Kind, ManifestFile, ManifestFiles


def files_of(*rows: int) -> ManifestFiles:
    return ManifestFiles(
        ManifestFile(f"{number}.parquet", 1, (count,), "00" * 32)
        for number, count in enumerate(rows)
    )


def rows_of(files: ManifestFiles, wanted: int, total: int) -> list[int]:
    """The sampled rows as positions in the whole manifest."""
    starts, first = {}, 0
    for file in files:
        starts[file.path], first = first, first + file.rows
    return [
        starts[segment.file.path] + row
        for segment in sample_segments(files, wanted, total)
        for row in range(segment.start, segment.stop or 0)
    ]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 90), st.data())
def test_a_sample_has_rows_from_first_to_last_and_none_twice(
    rows: list[int], wanted: int, data: st.DataObject
) -> None:
    files = files_of(*rows)
    total = data.draw(st.integers(1, sum(rows)))
    sampled = rows_of(files, wanted, total)
    assert sampled == sorted(set(sampled))
    assert sampled[-1] < total
    assert sampled[0] == 0
    if wanted >= 2:
        assert sampled[-1] == total - 1
    assert min(wanted, total) - 8 < len(sampled) <= wanted
    assert sampled == rows_of(files, wanted, total)


def test_a_sample_has_the_first_a_middle_and_the_last_file() -> None:
    files = files_of(*[100] * 51)
    found = {segment.file.path for segment in sample_segments(files, 64, files.rows)}
    assert {"0.parquet", "50.parquet"} < found
    assert len(found) >= 8


def test_files_beside_tars_that_are_not_counted_give_their_first_rows(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path in paths:
        pq.write_table(manifest_table(5), path)
    files = ManifestFiles(
        ManifestFile(str(path), path.stat().st_size, (5,), "00" * 32, kind=Kind.PARQUET)
        for path in paths
    )
    segments = sample_segments(files, 6, None)
    assert [(segment.start, segment.stop) for segment in segments] == [(0, 2)] * 3
    assert [segment.file.path for segment in segments] == list(map(str, paths))


@pytest.mark.parametrize("wanted", [1, 2, 7, 8, 9])
def test_small_samples_have_as_many_rows_as_asked_for_or_few_less(wanted: int) -> None:
    assert len(rows_of(files_of(1000), wanted, 1000)) in range(max(1, wanted - 1), wanted + 1)
