"""The files that a manifest may have, of each kind: how they are found, and what they hold."""

from aigid.sources.columns import (
    IMAGE_NAMES,
    PROMPT_NAMES,
    ColumnChoice,
    Columns,
    check_columns,
    resolve_columns,
    texts,
)
from aigid.sources.files import ManifestFile, ManifestFiles, Segment
from aigid.sources.finding import FoundFile, OnNote, find_sources
from aigid.sources.kinds import Kind
from aigid.sources.parquet import opened, read_footer
from aigid.sources.reading import identify, read_rows
from aigid.sources.row_groups import READ_ROWS
from aigid.sources.tars import count_rows

__all__ = [
    "IMAGE_NAMES",
    "PROMPT_NAMES",
    "READ_ROWS",
    "ColumnChoice",
    "Columns",
    "FoundFile",
    "Kind",
    "ManifestFile",
    "ManifestFiles",
    "OnNote",
    "Segment",
    "check_columns",
    "count_rows",
    "find_sources",
    "identify",
    "opened",
    "read_footer",
    "read_rows",
    "resolve_columns",
    "texts",
]
