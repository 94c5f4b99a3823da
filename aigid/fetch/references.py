"""From an image column, in any of its types, to the reference of each row."""

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aigid.fetch.inline import INLINE_STARTS, decoded_text, inline_image
from aigid.records import RowError
from aigid.sources import first_items, image_fields, is_byte_list, is_list, is_text, take, texts
from aigid.storage import Location

# Around references that come from text files: blanks, line breaks and byte order marks.
_BLANKS = f"{string.whitespace}\u00a0\u2028\u2029\u3000\ufeff"
_STARTS_IN_BYTES = frozenset(start.encode() for start in INLINE_STARTS)


@dataclass(frozen=True)
class ImageReference:
    """The image cell of a manifest row: encoded bytes, or a path or URI. A null has neither.

    Where there are both, the bytes are the image. A path is relative to `root`, by default to that
    of the policy. With `error` its row fails, whatever the image is.
    """

    data: bytes | None
    path: str | None
    root: Location | None = None
    error: RowError | None = None


_Parts = tuple[list[bytes | None], list[str | None]]
"""The bytes and the paths of rows."""


def image_references(column: pa.Array) -> list[ImageReference]:
    """Return the references in an image column, which `holds_images` found usable.

    It holds bytes, also as lists of integers, text (paths, URIs, base64, data: URIs), structs with
    an image's content and place, or lists of all these, whose first image is taken.
    """
    return list(map(ImageReference, *_parts(column)))


def _parts(column: pa.Array) -> _Parts:
    kind = column.type
    if pa.types.is_struct(kind):
        return _parts_of_structs(column)
    if is_text(kind):
        return _parts_of_texts(column)
    if pa.types.is_dictionary(kind):
        return _parts_of_dictionary(column)
    if is_byte_list(kind):
        return _bytes_of_lists(column), [None] * len(column)
    if is_list(kind):
        return _parts(first_items(column))
    return list(map(_content, column.to_pylist())), [None] * len(column)


def _parts_of_texts(column: pa.Array) -> _Parts:
    paths = [None if text is None else text.strip(_BLANKS) for text in texts(column)]
    data: list[bytes | None] = [None] * len(paths)
    for row, path in enumerate(paths):
        if path is not None and path[:3].lower() in INLINE_STARTS:
            data[row] = inline_image(path)
            if data[row] is not None:
                paths[row] = None
    return data, paths


def _parts_of_structs(column: pa.StructArray) -> _Parts:
    """Return the bytes and paths of structs: of each the first field that is not null."""
    found, fields = [], column.flatten()
    for index in image_fields(column.type):
        field = fields[index]
        if is_text(field.type) and column.type.field(index).name.lower() == "bytes":
            field = pa.array([_encoded(text) for text in texts(field)], pa.large_binary())
        found.append(_parts(field))
    data, paths = (_first_known(lists) for lists in zip(*found, strict=True))
    return data, paths


def _first_known(lists: Sequence[list[Any]]) -> list[Any]:
    """Return the first value of each row that is not None."""
    known = [values for values in lists if any(value is not None for value in values)]
    if len(known) < 2:
        return known[0] if known else lists[0]
    return [next((v for v in values if v is not None), None) for values in zip(*known, strict=True)]


def _parts_of_dictionary(column: pa.DictionaryArray) -> _Parts:
    """Return the bytes and paths of a dictionary's values; each value is looked at once."""
    used = column.indices.unique().drop_null()
    data, paths = _parts(take(column.dictionary, used))
    places = {place: number for number, place in enumerate(used.to_pylist())}
    places[None] = len(places)
    data, paths = [*data, None], [*paths, None]
    rows = [places[place] for place in column.indices.to_pylist()]
    return [data[row] for row in rows], [paths[row] for row in rows]


def _bytes_of_lists(column: pa.Array) -> list[bytes | None]:
    """Return the bytes that are stored as lists of integers, signed or not."""
    numbers = column.flatten().fill_null(0).cast(pa.uint8(), safe=False)
    data = numbers.to_numpy(zero_copy_only=False).tobytes()
    lengths = pc.list_value_length(column).to_pylist()
    ends = np.cumsum([length or 0 for length in lengths]).tolist()
    return [
        None if length is None else data[end - length : end]
        for length, end in zip(lengths, ends, strict=True)
    ]


def _content(data: bytes | None) -> bytes | None:
    """Return the bytes of a cell, decoded where they are a text in base64 or a data: URI."""
    if data is None or data[:3].lower() not in _STARTS_IN_BYTES:
        return data
    decoded = decoded_text(data.decode("latin-1"))
    return data if decoded is None else decoded


def _encoded(text: str | None) -> bytes | None:
    """Return the content that a text is, decoded where it is base64 or a data: URI."""
    if text is None:
        return None
    decoded = decoded_text(text)
    return text.encode() if decoded is None else decoded
