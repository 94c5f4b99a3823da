"""The files that a manifest may have, of each kind: how they are found, and what they hold."""

from aigid.sources.braces import expand_braces
from aigid.sources.captions import CAPTION, caption_errors, captions_beside
from aigid.sources.cell_types import PROMPT_NAMES, image_fields, is_byte_list, is_list, is_text
from aigid.sources.cells import first_items, take, texts
from aigid.sources.columns import IMAGE_NAMES, ColumnChoice, Columns, resolve_columns
from aigid.sources.conform import conformed, conforms
from aigid.sources.file_columns import FileColumns
from aigid.sources.files import READ_ROWS, ManifestFile, ManifestFiles, Segment
from aigid.sources.finding import FoundFile, OnNote, find_sources, locations_of
from aigid.sources.kinds import Kind
from aigid.sources.parquet import opened, read_footer
from aigid.sources.reading import identify, read_rows
from aigid.sources.tars import SampleRange, count_rows, sample_ranges, tar_stream
from aigid.sources.text_tables import read_blocks, split_records

__all__ = [
    "CAPTION",
    "expand_braces",
    "IMAGE_NAMES",
    "PROMPT_NAMES",
    "READ_ROWS",
    "ColumnChoice",
    "Columns",
    "FileColumns",
    "FoundFile",
    "Kind",
    "ManifestFile",
    "ManifestFiles",
    "OnNote",
    "SampleRange",
    "Segment",
    "caption_errors",
    "captions_beside",
    "conformed",
    "conforms",
    "count_rows",
    "find_sources",
    "first_items",
    "identify",
    "image_fields",
    "is_byte_list",
    "is_list",
    "is_text",
    "locations_of",
    "opened",
    "read_blocks",
    "read_footer",
    "read_rows",
    "resolve_columns",
    "sample_ranges",
    "split_records",
    "take",
    "tar_stream",
    "texts",
]
