"""A hash of a table's values, whatever the file that holds them looks like."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def content_sha256(table: pa.Table) -> str:
    """Return the SHA-256 of a table's values, which any reader of a result file can compute.

    It covers the columns in their order, each as its name in UTF-8, a zero byte, and its values.
    Values are one byte for each row, 1 for a value and 0 for null, and then those that are not
    null, in the order of rows:

    - numbers, decimals, dates, times and fixed-size binaries in Arrow's bytes: little-endian, in
      their width; a boolean is a byte, 0 or 1;
    - strings (in UTF-8) and binaries: the lengths in bytes, each as an int64, then all bytes;
    - lists and maps: the numbers of elements, each as an int64, then all elements, as values; an
      element of a map is a struct of key and value;
    - structs: the values of each field in turn;
    - dictionaries: the values that the indices stand for.

    How the file is compressed, encoded and cut into pages makes no difference.
    """
    digest = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(name.encode() + b"\0")
        _hash_values(digest, column.type, column.chunks)
    return digest.hexdigest()


def _hash_values(digest: Any, kind: pa.DataType, chunks: Sequence[pa.Array]) -> None:
    """Hash the values of a column, or of a part of one.

    Chunks are not combined: together they may be larger than an array can be.
    """
    types = pa.types
    if types.is_dictionary(kind):
        _hash_values(digest, kind.value_type, [chunk.dictionary_decode() for chunk in chunks])
        return
    if isinstance(kind, pa.BaseExtensionType):
        _hash_values(digest, kind.storage_type, [chunk.storage for chunk in chunks])
        return
    if types.is_map(kind):
        entry = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        _hash_values(digest, pa.list_(entry), [chunk.cast(pa.list_(entry)) for chunk in chunks])
        return
    if types.is_string_view(kind) or types.is_binary_view(kind):
        kind = pa.large_binary()
        chunks = [chunk.cast(kind) for chunk in chunks]
    for chunk in chunks:
        digest.update(chunk.is_valid().cast(pa.uint8()).to_numpy())
    _hash_present(digest, kind, [chunk.drop_null() for chunk in chunks])


def _hash_present(digest: Any, kind: pa.DataType, chunks: Sequence[pa.Array]) -> None:
    """Hash values without nulls among them."""
    if _is_list(kind):
        for chunk in chunks:
            digest.update(pc.list_value_length(chunk).cast(pa.int64()).to_numpy())
        _hash_values(digest, kind.value_type, [chunk.flatten() for chunk in chunks])
    elif pa.types.is_struct(kind):
        columns = [chunk.flatten() for chunk in chunks]
        for index in range(kind.num_fields):
            _hash_values(digest, kind.field(index).type, [column[index] for column in columns])
    elif _is_variable_width(kind):
        _hash_texts(digest, [chunk.cast(pa.large_binary()) for chunk in chunks])
    elif not pa.types.is_null(kind):
        for chunk in chunks:
            digest.update(_fixed_width_bytes(chunk))


def _hash_texts(digest: Any, chunks: Sequence[pa.LargeBinaryArray]) -> None:
    for chunk in chunks:
        digest.update(pc.binary_length(chunk).to_numpy())
    for chunk in chunks:
        _, offsets, data = chunk.buffers()
        if len(chunk) and data is not None:
            bounds = memoryview(offsets).cast("q")
            first, last = bounds[chunk.offset], bounds[chunk.offset + len(chunk)]
            digest.update(memoryview(data)[first:last])


def _fixed_width_bytes(chunk: pa.Array) -> memoryview:
    if pa.types.is_boolean(chunk.type):
        chunk = chunk.cast(pa.uint8())
    width = chunk.type.byte_width
    _, data = chunk.buffers()
    if data is None:
        return memoryview(b"")
    return memoryview(data)[chunk.offset * width : (chunk.offset + len(chunk)) * width]


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_variable_width(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
    )
