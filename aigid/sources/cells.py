"""From cells to their first items and their texts."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aigid.sources.cell_types import is_list, prompt_field
from aigid.sources.common_type import plain_type


def first_items(column: pa.Array) -> pa.Array:
    """Return the first item of each list, or the first value of each map; null for empty ones."""
    if pa.types.is_map(column.type):
        offsets = column.offsets.to_numpy()
        items, starts, lengths = column.items, offsets[:-1], np.diff(offsets)
        lengths = np.where(column.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
    else:
        items = column.flatten()
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        starts = np.cumsum(lengths) - lengths
    return take(items, pa.array(starts, pa.int64(), mask=lengths == 0))


def take(values: pa.Array, places: pa.Array) -> pa.Array:
    """Return the values at these places, also of types that PyArrow cannot take from (views)."""
    try:
        return values.take(places)
    except pa.ArrowNotImplementedError:
        return values.cast(plain_type(values.type)).take(places)


def texts(column: pa.Array) -> list[str | None]:
    """Return the prompts of a column, or its strings.

    Bytes that are not UTF-8 become replacement characters. Of lists it is the first item, of maps
    the first value, and of structs the field that `prompt_field` finds.
    """
    column = _plain_texts(column)
    if pa.types.is_null(column.type):
        return [None] * len(column)
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "replace") for value in raw]


def _plain_texts(column: pa.Array) -> pa.Array:
    while True:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = column.dictionary_decode()
        elif is_list(kind) or pa.types.is_map(kind):
            column = first_items(column)
        elif pa.types.is_struct(kind):
            column = column.flatten()[prompt_field(kind)]
        else:
            return column
