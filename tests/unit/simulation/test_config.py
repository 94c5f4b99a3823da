import pytest

from aigid.errors import UsageError
from aigid.simulation import SimulationConfig, Split


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rows": 0}, "`rows` must be 1 or more: got 0"),
        ({"workers": 0}, "`workers` must be 1 or more: got 0"),
        ({"rows_per_file": 0}, "`rows_per_file` must be 1 or more: got 0"),
        ({"rows_per_group": -1}, "`rows_per_group` must be 1 or more: got -1"),
        ({"seed": -1}, "`seed` must be 0 or more: got -1"),
        ({"shorter_side": 8}, "`shorter_side` must be 32 to 4096 pixels: got 8"),
        ({"shorter_side": 100_000}, "`shorter_side` must be 32 to 4096 pixels: got 100000"),
        ({"split": "holdout"}, "`split` must be one of train, validation, test: got 'holdout'"),
    ],
)
def test_a_bad_setting_is_refused_by_name(bad: dict, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        SimulationConfig(**{"rows": 6, "split": Split.TRAIN, **bad})
    assert str(refused.value) == message


def test_a_split_may_be_given_by_its_name() -> None:
    assert SimulationConfig(rows=6, split="test").split is Split.TEST
