"""The columns in the folders' names of a file."""

import pytest

from aigid.sources.partitions import partition_values


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/data/year=2024/label=real/a.parquet", {"year": "2024", "label": "real"}),
        ("s3://bucket/set=a%2Fb/c d=x%20y/a.parquet", {"set": "a/b", "c d": "x y"}),
        ("x=1/x=2/a.parquet", {"x": "2"}),
        ("x=__HIVE_DEFAULT_PARTITION__/y=/a.parquet", {"x": None, "y": ""}),
        ("a=b=c/m.parquet", {"a": "b=c"}),
        ("=x/data/x=1.parquet", {}),
        ("m.parquet", {}),
    ],
)
def test_folders_name_columns_and_their_values(path: str, values: dict[str, str | None]) -> None:
    assert partition_values(path) == values
