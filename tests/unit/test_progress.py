"""What a scan reports, added up and taken back."""

from hypothesis import given
from hypothesis import strategies as st

from aigid.progress import RowsDone, StageFigures
from aigid.records import ErrorCode

# Whole seconds: their sums are exact.
seconds = st.integers(0, 1000).map(float)
stages = st.builds(
    StageFigures, seconds, seconds, seconds, seconds, st.none() | st.integers(0, 100)
)
errors = st.dictionaries(st.sampled_from(ErrorCode), st.integers(1, 9))
done = st.builds(RowsDone, st.integers(0, 1000), errors, st.integers(0, 10**9), stages)


@given(done, done)
def test_what_is_added_can_be_taken_back(first: RowsDone, second: RowsDone) -> None:
    both = first + second
    assert both.rows == first.rows + second.rows
    assert both.failed == first.failed + second.failed
    left = both - second
    assert (left.rows, left.image_bytes) == (first.rows, first.image_bytes)
    assert {code: count for code, count in left.errors.items() if count} == first.errors
    assert left.stages.decode_s == first.stages.decode_s
    assert (left.stages.duplicates or 0) == (first.stages.duplicates or 0)


def test_duplicates_are_not_counted_unless_answers_are_reused() -> None:
    assert (RowsDone(1) + RowsDone(2)).stages.duplicates is None
    counted = RowsDone(1, stages=StageFigures(duplicates=0))
    assert (RowsDone(1) + counted).stages.duplicates == 0
