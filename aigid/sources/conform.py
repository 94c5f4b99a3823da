"""Rows of one file as those of all files of a manifest, by the names and types of columns."""

import pyarrow as pa

from aigid.errors import AigidError
from aigid.sources.captions import keep_caption_errors
from aigid.sources.columns import Columns
from aigid.sources.files import ManifestFile
from aigid.sources.partitions import partition_values


def conformed(
    batch: pa.RecordBatch, file: ManifestFile, own: Columns, columns: Columns, kept: pa.Schema
) -> pa.RecordBatch:
    """Return rows of a file with columns of the names and types that they have in all files.

    `own` are the file's own columns. Raises AigidError where a value does not fit the type.
    """
    arrays = {columns.image: batch.column(own.image)}
    if columns.prompt is not None and own.prompt is None:
        arrays[columns.prompt] = pa.nulls(len(batch), pa.string())
    elif columns.prompt is not None:
        arrays[columns.prompt] = batch.column(own.prompt)
    for column in kept:
        arrays[column.name] = _as_type(_kept(batch, file, column.name), column, file)
    keep_caption_errors(batch, arrays)
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def conforms(batch: pa.RecordBatch, own: Columns, columns: Columns, kept: pa.Schema) -> bool:
    """Return whether rows of a file are as those of all files, by names and types."""
    return (own.image, own.prompt) == (columns.image, columns.prompt) and all(
        column.name in batch.schema.names and batch.column(column.name).type == column.type
        for column in kept
    )


def _kept(batch: pa.RecordBatch, file: ManifestFile, name: str) -> pa.Array:
    if name in batch.schema.names:
        return batch.column(name)
    value = partition_values(file.path)[name]
    return pa.array([value] * len(batch), pa.string())


def _as_type(values: pa.Array, column: pa.Field, file: ManifestFile) -> pa.Array:
    if values.type == column.type:
        return values
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise AigidError(
            f"{file.path}: column {column.name} is {values.type}, but {column.type} in all files "
            f"together, which cannot hold its values ({' '.join(str(error).split())}): write the "
            "column in one type, or leave it out of `keep`"
        ) from error
