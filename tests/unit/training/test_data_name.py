"""Short names of data."""

import pytest

from aigid.training.data_name import data_name


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        (["/home/me/pairs/train.parquet"], "train.parquet"),
        (["s3://bucket/pairs/train?region=x"], "train"),
        (["hf://datasets/owner/pairs"], "owner/pairs"),
        (
            ["hf://datasets/owner/pairs@v1/data/train-?.parquet"],
            "owner/pairs@v1/data/train-?.parquet",
        ),
        (["a", "b", "c", "d", "e"], "a + b + c + 2 more"),
    ],
)
def test_the_name_of_data(paths: list[str], name: str) -> None:
    assert data_name(paths) == name
