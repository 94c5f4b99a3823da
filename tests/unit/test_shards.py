"""The plan of a scan: every row in exactly one shard, in order, whatever the files look like."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.shards import SHARD_KEPT_BYTES, PlanTotals, Shard, plan_shards
from aigid.sources import ManifestFile, Segment

# Sizes on both sides of every rule: empty and tiny groups, groups that just fit, and ones to cut.
ROW_GROUPS = st.lists(st.lists(st.integers(0, 60), max_size=6), max_size=8)
SHARD_ROWS = st.integers(1, 40)
LIMITS = st.none() | st.integers(1, 400)
plans = settings(max_examples=100)


def manifest_files(row_groups: Sequence[Sequence[int]]) -> list[ManifestFile]:
    return [
        ManifestFile(f"{number}.parquet", 1000, tuple(groups), "")
        for number, groups in enumerate(row_groups)
    ]


def number(file: ManifestFile) -> int:
    return int(file.path.removesuffix(".parquet"))


def plan(files: Sequence[ManifestFile], shard_rows: int, limit: int | None = None) -> list[Shard]:
    return list(plan_shards(files, shard_rows, limit))


def rows_of(shards: Sequence[Shard]) -> list[tuple[int, int]]:
    """Every row of a plan as (file, position in the file), in the plan's order."""
    return [
        (number(s.file), row)
        for shard in shards
        for s in shard.segments
        for row in range(s.start, s.stop)
    ]


def all_rows(files: Sequence[ManifestFile]) -> list[tuple[int, int]]:
    return [(number, row) for number, file in enumerate(files) for row in range(file.rows)]


def cut_points(row_groups: Sequence[int], shard_rows: int) -> set[int]:
    """Where a shard may end inside a file: at row groups, and at even pieces of large ones."""
    found, start = {0}, 0
    for rows in row_groups:
        parts = 1 if rows <= 1.5 * shard_rows else -(-rows // shard_rows)
        found |= {start + rows * part // parts for part in range(1, parts + 1)}
        start += rows
    return found


def first_piece(shard: Shard, row_groups: Sequence[Sequence[int]], shard_rows: int) -> int:
    """The first rows of a shard that belong together: a row group, or a piece of a large one."""
    start = shard.segments[0].start
    return (
        min(
            point
            for point in cut_points(row_groups[number(shard.segments[0].file)], shard_rows)
            if point > start
        )
        - start
    )


def cuts(shards: Sequence[Shard]) -> list[list[tuple[str, int, int]]]:
    return [[(s.file.path, s.start, s.stop) for s in shard.segments] for shard in shards]


@plans
@given(ROW_GROUPS, SHARD_ROWS, LIMITS)
def test_every_row_up_to_the_limit_is_in_exactly_one_shard_in_order(
    row_groups: list[list[int]], shard_rows: int, limit: int | None
) -> None:
    files = manifest_files(row_groups)
    assert rows_of(plan(files, shard_rows, limit)) == all_rows(files)[:limit]


@plans
@given(ROW_GROUPS, SHARD_ROWS, LIMITS)
def test_shards_are_numbered_from_zero_and_none_is_empty(
    row_groups: list[list[int]], shard_rows: int, limit: int | None
) -> None:
    shards = plan(manifest_files(row_groups), shard_rows, limit)
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(segment.rows > 0 for shard in shards for segment in shard.segments)
    assert all(shard.segments for shard in shards)


@plans
@given(ROW_GROUPS, SHARD_ROWS)
def test_the_plan_depends_on_the_row_groups_alone(
    row_groups: list[list[int]], shard_rows: int
) -> None:
    files = manifest_files(row_groups)
    renamed = [ManifestFile(f"moved/{file.path}", 7, file.row_groups, "another") for file in files]
    assert plan(files, shard_rows) == plan(files, shard_rows)
    assert cuts(plan(files, shard_rows)) == [
        [(path.removeprefix("moved/"), start, stop) for path, start, stop in cut]
        for cut in cuts(plan(renamed, shard_rows))
    ]


@plans
@given(ROW_GROUPS, SHARD_ROWS)
def test_a_shard_ends_at_a_row_group_or_evenly_inside_one_that_is_too_large(
    row_groups: list[list[int]], shard_rows: int
) -> None:
    for shard in plan(manifest_files(row_groups), shard_rows):
        for segment in shard.segments:
            assert {segment.start, segment.stop} <= cut_points(
                row_groups[number(segment.file)], shard_rows
            )


@plans
@given(ROW_GROUPS, SHARD_ROWS, LIMITS)
def test_no_shard_has_more_than_one_and_three_quarters_of_the_rows_asked_for(
    row_groups: list[list[int]], shard_rows: int, limit: int | None
) -> None:
    # A row group of 1.5 times `shard_rows` stays whole if at most a quarter of `shard_rows` waits.
    for shard in plan(manifest_files(row_groups), shard_rows, limit):
        assert shard.rows <= 1.75 * shard_rows


@plans
@given(ROW_GROUPS, SHARD_ROWS)
def test_a_shard_ends_only_where_the_next_row_group_would_take_it_further_from_the_rows_asked_for(
    row_groups: list[list[int]], shard_rows: int
) -> None:
    shards = plan(manifest_files(row_groups), shard_rows)
    for first, second in zip(shards, shards[1:], strict=False):
        with_next = first.rows + first_piece(second, row_groups, shard_rows)
        assert abs(with_next - shard_rows) > abs(first.rows - shard_rows)


@plans
@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), SHARD_ROWS, st.data())
def test_files_without_rows_change_nothing_but_the_numbers_of_files(
    sizes: list[int], shard_rows: int, data: st.DataObject
) -> None:
    plain = manifest_files([[rows] for rows in sizes])
    empty = data.draw(st.sampled_from([[], [0], [0, 0]]))
    between = manifest_files([groups for rows in sizes for groups in (empty, [0, rows, 0])])
    renumbered = [
        Shard(
            shard.index,
            tuple(
                Segment(between[2 * number(s.file) + 1], s.start, s.stop) for s in shard.segments
            ),
        )
        for shard in plan(plain, shard_rows)
    ]
    assert plan(between, shard_rows) == renumbered


@pytest.mark.parametrize("row_groups", [[], [[]], [[0]], [[0, 0], [], [0]]])
def test_a_manifest_without_rows_has_no_shards(row_groups: list[list[int]]) -> None:
    assert plan(manifest_files(row_groups), 10) == []


def test_row_groups_of_the_size_asked_for_are_a_shard_each() -> None:
    files = manifest_files([[100, 100], [100]])
    assert plan(files, 100) == [
        Shard(0, (Segment(files[0], 0, 100),)),
        Shard(1, (Segment(files[0], 100, 200),)),
        Shard(2, (Segment(files[1], 0, 100),)),
    ]


def test_a_limit_inside_a_row_group_ends_the_last_shard_there() -> None:
    files = manifest_files([[10, 10], [10, 10]])
    assert [shard.segments for shard in plan(files, 20, limit=25)] == [
        (Segment(files[0], 0, 20),),
        (Segment(files[1], 0, 5),),
    ]


def test_a_limit_beyond_the_end_is_the_whole_manifest() -> None:
    files = manifest_files([[10, 10]])
    assert plan(files, 10, limit=10**12) == plan(files, 10)


def test_one_huge_row_group_is_cut_evenly() -> None:
    shards = plan(manifest_files([[1_000_050]]), 10_000)
    assert len(shards) == 101
    assert {shard.rows for shard in shards} == {9_901, 9_902}
    assert shards[0].segments[0].start == 0
    assert shards[-1].segments[0].stop == 1_000_050


def test_a_row_group_of_one_and_a_half_times_the_size_is_left_whole_and_a_larger_one_is_cut() -> (
    None
):
    assert [shard.rows for shard in plan(manifest_files([[150]]), 100)] == [150]
    assert [shard.rows for shard in plan(manifest_files([[151]]), 100)] == [75, 76]


def test_thousands_of_tiny_files_are_packed_into_few_shards() -> None:
    files = manifest_files([[3]] * 5_000)
    shards = plan(files, 1_000)
    assert len(shards) == 16
    assert {len(shard.segments) for shard in shards[:-1]} == {333}
    assert rows_of(shards) == all_rows(files)


def test_row_groups_of_one_file_that_are_packed_together_are_one_segment() -> None:
    files = manifest_files([[4, 0, 5], [2]])
    (shard,) = plan(files, 100)
    assert shard == Shard(0, (Segment(files[0], 0, 9), Segment(files[1], 0, 2)))
    assert shard.rows == 11


@plans
@given(ROW_GROUPS, SHARD_ROWS, LIMITS, st.sets(st.integers(0, 20)))
def test_the_totals_add_up_a_plan_and_what_is_done_of_it(
    row_groups: list[list[int]], shard_rows: int, limit: int | None, done: set[int]
) -> None:
    shards = plan(manifest_files(row_groups), shard_rows, limit)
    ready = [shard for shard in shards if shard.index in done]
    rows = len(rows_of(shards))
    expected = PlanTotals(len(shards), rows, len(ready), len(rows_of(ready)), rows)
    assert PlanTotals.of(iter(shards), done) == expected
    again = [shard.index for shard in ready[::2]]
    less = expected.without(again, len(again))
    assert (less.done_shards, less.done_rows) == (
        len(ready) - len(again),
        len(rows_of(ready)) - len(again),
    )
    assert (less.shards, less.rows) == (expected.shards, expected.rows)


def kept_files(row_groups: Sequence[int], kept_bytes: Sequence[int]) -> list[ManifestFile]:
    return [
        ManifestFile("0.parquet", 1000, tuple(row_groups), "", kept_bytes=tuple(kept_bytes)),
    ]


def test_a_row_group_with_large_kept_columns_is_cut_into_even_pieces() -> None:
    files = kept_files([100, 10], [5 * SHARD_KEPT_BYTES, 10])
    shards = plan(files, 10_000)
    assert [shard.rows for shard in shards] == [20, 20, 20, 20, 20, 10]
    assert rows_of(shards) == all_rows(files)


def test_row_groups_share_a_shard_up_to_the_bytes_of_their_kept_columns() -> None:
    files = kept_files([10] * 8, [SHARD_KEPT_BYTES // 2] * 8)
    assert [shard.rows for shard in plan(files, 10_000)] == [20] * 4


@plans
@given(st.lists(st.integers(1, 60), max_size=6), SHARD_ROWS, LIMITS)
def test_small_kept_columns_do_not_change_a_plan(
    row_groups: list[int], shard_rows: int, limit: int | None
) -> None:
    without = manifest_files([row_groups])
    sizes = [rows * 1000 for rows in row_groups]
    assert plan(kept_files(row_groups, sizes), shard_rows, limit) == plan(
        without, shard_rows, limit
    )


def test_a_row_with_more_than_a_shard_s_bytes_is_a_shard() -> None:
    files = kept_files([3], [30 * SHARD_KEPT_BYTES])
    assert [shard.rows for shard in plan(files, 10_000)] == [1, 1, 1]


def test_a_plan_is_made_while_its_files_are_still_being_found() -> None:
    def files() -> Iterator[ManifestFile]:
        yield from manifest_files([[10]] * 3)
        raise AssertionError("one file too many was asked for")

    shards = plan_shards(files(), 10)
    assert [next(shards).index for _ in range(2)] == [0, 1]
