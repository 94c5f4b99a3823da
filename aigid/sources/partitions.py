"""The columns that are in the paths of files, as in `year=2024/photos.parquet` (Hive's layout)."""

from urllib.parse import unquote

_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str) -> dict[str, str | None]:
    """Return the columns and values that the folders of a path name; values are strings.

    Of a column that is named twice, the deepest folder has the value.
    """
    pairs = (folder.partition("=") for folder in path.split("/")[:-1])
    return {
        unquote(name): None if value == _NULL else unquote(value)
        for name, equals, value in pairs
        if name and equals
    }
