"""The files that a manifest may have, of each kind: their identity, columns and rows."""

from aigid.sources.columns import (
    IMAGE_NAMES,
    PROMPT_NAMES,
    ColumnChoice,
    Columns,
    check_columns,
    resolve_columns,
    texts,
)
from aigid.sources.files import Kind, ManifestFile, ManifestFiles, Segment
from aigid.sources.parquet import READ_ROWS, opened, read_footer, read_parquet

__all__ = [
    "IMAGE_NAMES",
    "PROMPT_NAMES",
    "READ_ROWS",
    "ColumnChoice",
    "Columns",
    "Kind",
    "ManifestFile",
    "ManifestFiles",
    "Segment",
    "check_columns",
    "opened",
    "read_footer",
    "read_parquet",
    "resolve_columns",
    "texts",
]
