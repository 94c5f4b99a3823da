"""CSV and TSV: records, which may span lines, and columns of strings."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Self

import pyarrow as pa

from aigid.sources.columns import IMAGE_NAMES
from aigid.sources.kinds import Kind
from aigid.sources.lines import MAX_LINE_BYTES, Lines

_SEPARATORS = (",", ";", "\t", "|")
_SEPARATOR_KEY = b"separator"


class CsvForm:
    """How the rows of a CSV or TSV file are read. Its columns are strings."""

    def __init__(self, schema: pa.Schema) -> None:
        """Take the columns of the file, with its separator in their metadata."""
        self.schema = schema
        self._separator = schema.metadata[_SEPARATOR_KEY].decode()

    @classmethod
    def of(cls, kind: Kind, lines: Lines) -> Self:
        """Read the first record, which names the columns. Raises ManifestError without one."""
        first = next(lines, b"")
        if b"\0" in first:
            raise lines.refuse("it has zero bytes, so it is not text in UTF-8: save it as UTF-8")
        header = first.decode("utf-8", "replace").removeprefix("\ufeff")
        separator = "\t" if kind is Kind.TSV else _likely_separator(header)
        names = next(_records([header], separator, lines), [])
        if not any(names):
            raise lines.refuse("the first line must name the columns, and it is empty")
        fields = [pa.field(name.strip(), pa.string()) for name in names]
        return cls(pa.schema(fields, {_SEPARATOR_KEY: separator.encode()}))

    def records(self, lines: Lines) -> Iterator[list[str]]:
        """Yield the records; raises ManifestError for one that is malformed."""
        width = len(self.schema)
        text = (line.decode("utf-8", "replace") for line in lines)
        for record in _records(text, self._separator, lines):
            if len(record) > width:
                raise lines.refuse(
                    f"it has {len(record)} cells, but there are {width} columns: put a cell with "
                    f"the separator {self._separator!r} in it between double quotes"
                )
            lines.records += 1
            yield record

    def batch(self, data: bytes, names: list[str]) -> pa.RecordBatch:
        """Return some columns of the rows in a block. A cell that a row lacks is null."""
        text = (line.decode("utf-8", "replace") for line in io.BytesIO(data))
        rows = list(_records(text, self._separator))
        columns = []
        for name in names:
            at = self.schema.get_field_index(name)
            cells = [row[at] if at < len(row) else None for row in rows]
            columns.append(pa.array(cells, pa.string()))
        return pa.RecordBatch.from_arrays(columns, names)

    def split(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes of each record in a block. Empty lines belong to none."""
        taken: list[bytes] = []

        def lines() -> Iterator[str]:
            for line in io.BytesIO(data):
                taken.append(line)
                yield line.decode("utf-8", "replace")

        csv.field_size_limit(MAX_LINE_BYTES)
        reader = csv.reader(lines(), delimiter=self._separator, strict=True)
        for record in reader:
            if record:
                yield b"".join(taken)
            taken.clear()


def _records(
    text: Iterable[str], separator: str, lines: Lines | None = None
) -> Iterator[list[str]]:
    """Yield the records of lines of text, without empty lines."""
    # The limit is the process's. The usual one is less than an image in base64.
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(text, delimiter=separator, strict=True)
    try:
        yield from filter(None, reader)
    except csv.Error as error:
        if lines is None:
            raise
        usual = "a double quote that is not closed, or not doubled"
        cause = "a carriage return in a cell without quotes" if "new-line" in str(error) else usual
        raise lines.refuse(f"not a record of a CSV file: perhaps {cause} ({error})") from error


def _likely_separator(header: str) -> str:
    """Return the separator with which the header has a usual name for images, else a comma."""
    for separator in _SEPARATORS:
        names = {name.strip(' "\r\n').lower() for name in header.split(separator)}
        if names.intersection(IMAGE_NAMES):
            return separator
    return ","
