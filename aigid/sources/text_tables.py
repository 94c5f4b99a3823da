"""Tables of text: CSV, TSV and JSON lines, cut into blocks that can be read alone."""

import hashlib
from collections.abc import Iterator

import pyarrow as pa

from aigid.errors import AigidError
from aigid.memory_budget import LARGE_ROWS
from aigid.sources.csv_form import CsvForm
from aigid.sources.files import READ_ROWS, Block, ManifestFile, Segment
from aigid.sources.json_form import JsonForm
from aigid.sources.kinds import Kind
from aigid.sources.lines import Lines
from aigid.sources.refusals import changed, opening
from aigid.storage import ListedFile, explain_failure, locate

# A block is read whole for any of its rows: few enough to waste little, and large enough that a
# million rows have a thousand blocks.
_BLOCK_ROWS = 1000
_BLOCK_BYTES = 1 << 20
# Of a block, while it is read: the parser of CSV has 4 bytes for each character.
_COPIES = 8
_Form = CsvForm | JsonForm


def index_table(kind: Kind, listed: ListedFile) -> ManifestFile:
    """Return a table's identity, columns and blocks: it is read once from its start to its end.

    Raises ManifestError if it is missing, is not text in UTF-8, or has a malformed row, with the
    number of its line.
    """
    location = listed.location
    with (
        opening(location),
        location.filesystem.open_input_stream(location.path, compression=None) as stream,
    ):
        lines = Lines(stream, location.text)
        form: _Form = JsonForm() if kind is Kind.JSON_LINES else CsvForm.of(kind, lines)
        blocks, groups = [_block(lines)], []
        for _ in form.records(lines):
            if lines.records >= _BLOCK_ROWS or lines.block_bytes >= _BLOCK_BYTES:
                groups.append(lines.records)
                blocks.append(_block(lines))
        if lines.records:
            groups.append(lines.records)
            blocks.append(_block(lines))
    digest = hashlib.sha256(b"".join(block.digest.to_bytes(8, "big") for block in blocks))
    return ManifestFile(
        location.text,
        sum(block.bytes for block in blocks),
        tuple(groups),
        digest.hexdigest(),
        listed.modified_ns,
        location.hidden_query,
        kind,
        form.schema,
        blocks=tuple(blocks),
    )


def read_table(segment: Segment, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a segment in order, at most READ_ROWS at a time, in these columns.

    Raises AigidError if the file has changed since the manifest was opened, or cannot be read.
    """
    file, location = segment.file, locate(segment.file.uri)
    form: _Form = JsonForm(file.schema) if file.kind is Kind.JSON_LINES else CsvForm(file.schema)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            for data, start, stop in _overlapping(source, segment):
                with LARGE_ROWS.reserve(_COPIES * len(data)):
                    rows = form.batch(data, names).slice(start, stop - start)
                for first in range(0, len(rows), READ_ROWS):
                    yield rows.slice(first, READ_ROWS)
    except OSError as error:
        raise AigidError(
            f"{file.path}: cannot be read: {explain_failure(error, location)}; "
            "repair or replace the file, then run the scan again"
        ) from error


def read_blocks(file: ManifestFile) -> Iterator[bytes]:
    """Yield the bytes of a whole table: those that name its columns, if any, then each block.

    Raises AigidError if the file has changed since the manifest was opened, or cannot be read.
    """
    location = locate(file.uri)
    try:
        with location.filesystem.open_input_file(location.path) as source:
            for block in file.blocks:
                data = bytes(source.read(block.bytes))
                if _digest(data) != block.digest:
                    raise changed(file)
                yield data
    except OSError as error:
        raise AigidError(
            f"{file.path}: cannot be read: {explain_failure(error, location)}"
        ) from error


def split_records(file: ManifestFile, data: bytes) -> Iterator[bytes]:
    """Yield the bytes of each record in a block of a table."""
    form: _Form = JsonForm(file.schema) if file.kind is Kind.JSON_LINES else CsvForm(file.schema)
    return form.split(data)


def _overlapping(source: pa.NativeFile, segment: Segment) -> Iterator[tuple[bytes, int, int]]:
    """Yield the bytes of each block that has rows of the segment, and which of its rows."""
    file, row, at = segment.file, 0, segment.file.blocks[0].bytes
    stop = file.rows if segment.stop is None else segment.stop
    for rows, block in zip(file.row_groups, file.blocks[1:], strict=True):
        first, last = max(segment.start - row, 0), min(stop - row, rows)
        if first < last:
            source.seek(at)
            data = bytes(source.read(block.bytes))
            if _digest(data) != block.digest:
                raise changed(file)
            yield data, first, last
        row, at = row + rows, at + block.bytes


def _block(lines: Lines) -> Block:
    size, digest = lines.end_block()
    return Block(size, _short(digest))


def _digest(data: bytes) -> int:
    return _short(hashlib.sha256(data).digest())


def _short(digest: bytes) -> int:
    return int.from_bytes(digest[:8], "big") >> 1
