"""Images of a folder or a glob as runs of rows, with captions that lie beside them."""

import hashlib
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from aigid.errors import AigidError, ManifestError
from aigid.sources.captions import CAPTION, location_of, with_captions
from aigid.sources.cell_types import is_text
from aigid.sources.cells import texts
from aigid.sources.columns import IMAGE_NAMES
from aigid.sources.common_type import plain_type
from aigid.sources.files import READ_ROWS, ManifestFile, Segment
from aigid.sources.kinds import Kind
from aigid.storage import Location, NameList, locate

IMAGE = "image"
"""The column of a run with the images' names below their folder."""

_RUN_ROWS = 1000
_FILE_NAMES = ("file_name", *IMAGE_NAMES)


class ImageList:
    """The images of a folder, in order, and the names of the files that may have captions."""

    def __init__(self, root: Location) -> None:
        """Begin without images; their names will be relative to `root`."""
        self._root = root
        self._images, self._captions = NameList(), NameList()
        self._are_captions_listed = True

    def __len__(self) -> int:
        return len(self._images)

    def add(self, name: str, location: Location) -> None:
        """Add the image at a location that is called `name` below the root."""
        self._images.append(_reference(name, location))

    def add_caption(self, name: str, location: Location) -> None:
        """Add a text file; it has the caption of the image that differs in the ending alone."""
        self._captions.append(_reference(name, location))

    def expect_captions(self) -> None:
        """Look for a caption beside each image when it is read: text files were not listed."""
        self._are_captions_listed = False

    def runs(self, metadata: Sequence[tuple[str, pa.Table]] = ()) -> Iterator[ManifestFile]:
        """Yield the rows of the images, as runs.

        `metadata` has tables with the names of the files that they come from. A table's rows name
        images relative to that file. There is a row for each row of a table, and for each image
        that no table names.
        """
        rows = self._rows(metadata)
        for first in range(0, len(rows), _RUN_ROWS):
            yield _run(self._root, rows.slice(first, _RUN_ROWS), first)

    def _rows(self, metadata: Sequence[tuple[str, pa.Table]]) -> pa.Table:
        rows = pa.table({IMAGE: self._images.column()})
        if metadata:
            rows = _joined(rows, metadata)
        captions = self._caption_names(rows.column(IMAGE))
        if captions.null_count < len(captions) and CAPTION not in rows.column_names:
            rows = rows.append_column(CAPTION, captions)
        return rows.combine_chunks()

    def _caption_names(self, images: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return the name of each image's caption, null where there is none."""
        if self._are_captions_listed and not self._captions:
            return pa.chunked_array([pa.nulls(len(images), pa.string())])
        stems = _stems(images)
        if not self._are_captions_listed:
            return pc.binary_join_element_wise(stems, ".txt", "")
        captions = self._captions.column()
        return captions.take(pc.index_in(stems, _stems(captions)))


def is_metadata(name: str) -> bool:
    """Return whether a table of this name describes the images beside it."""
    return posixpath.basename(name).lower() in (
        "metadata.csv",
        "metadata.jsonl",
        "metadata.parquet",
    )


def image_locations(run: ManifestFile) -> Iterator[Location]:
    """Yield where the images of a run are."""
    assert run.content is not None, "as it was found"
    root, rows = locate(run.uri), pa.ipc.open_stream(run.content).read_next_batch()
    for name in rows.column(IMAGE).to_pylist():
        if name is not None:
            yield location_of(name, root)


def read_run(segment: Segment, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a run of images in these columns, at most READ_ROWS at a time."""
    file = segment.file
    if file.content is None:
        raise AigidError(f"{file.path}: the names of its images are not known: scan it again")
    rows = pa.ipc.open_stream(file.content).read_next_batch().select(names)
    stop = len(rows) if segment.stop is None else segment.stop
    for first in range(segment.start, stop, READ_ROWS):
        batch = rows.slice(first, min(READ_ROWS, stop - first))
        yield with_captions(batch, locate(file.uri)) if CAPTION in names else batch


def _reference(name: str, location: Location) -> str:
    """Return a name as a reference that is read as it is.

    Blanks around it would be trimmed, and what is not UTF-8 cannot be recorded.
    """
    if name == name.strip() and "://" not in name and _is_utf8(name):
        return name
    if location.is_local:
        return Path(location.path).absolute().as_uri()
    bare = location.uri.rstrip()
    return bare + quote(location.uri[len(bare) :])


def _is_utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _run(root: Location, rows: pa.Table, first_row: int) -> ManifestFile:
    batch = rows.to_batches()[0]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    # Of the values, since another version of Arrow may write other bytes.
    digest = hashlib.sha256(repr(batch.to_pydict()).encode("utf-8", "replace"))
    return ManifestFile(
        root.text,
        sink.tell(),
        (len(batch),),
        digest.hexdigest(),
        None,
        root.hidden_query,
        Kind.IMAGES,
        batch.schema,
        first_row=first_row,
        content=sink.getvalue().to_pybytes(),
    )


def _stems(names: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the names without their endings."""
    return pc.replace_substring_regex(names, r"\.[^./]*$", "")


def _joined(images: pa.Table, metadata: Sequence[tuple[str, pa.Table]]) -> pa.Table:
    """Return the rows of metadata and those of images that it does not name, sorted by name."""
    described = pa.concat_tables(
        [_with_paths(name, table) for name, table in metadata], promote_options="permissive"
    )
    is_named = pc.is_in(images.column(IMAGE), described.column(IMAGE))
    others = images.filter(pc.invert(is_named))
    rows = pa.concat_tables([described, others], promote_options="permissive")
    # The sort is stable: two captions of an image stay in their order.
    return rows.take(pc.sort_indices(rows, [(IMAGE, "ascending")]))


def _with_paths(name: str, table: pa.Table) -> pa.Table:
    """Return a metadata table whose images are named from the root."""
    by_lower = {column.lower(): column for column in reversed(table.column_names)}
    key = next((by_lower[usual] for usual in _FILE_NAMES if usual in by_lower), None)
    if key is None or not is_text(plain_type(table.schema.field(key).type)):
        raise ManifestError(
            f"{name}: no column file_name that names the images beside it; the columns are "
            f"{', '.join(table.column_names)}"
        )
    folder = posixpath.dirname(name)
    paths = [
        None if path is None else posixpath.normpath(posixpath.join(folder, path.strip()))
        for chunk in table.column(key).chunks
        for path in texts(chunk)
    ]
    others = [column for column in table.column_names if column not in (key, IMAGE)]
    return table.select(others).add_column(0, IMAGE, pa.array(paths, pa.string()))
