"""Image references: from a column of any type to the bytes or the path of each row."""

import base64

import pyarrow as pa
import pytest
from support.manifests import HF_IMAGE, encoded_image

from aigid.fetch import ImageReference, image_references

IMAGE = encoded_image(0)
TEXT = base64.b64encode(IMAGE).decode()
URI = f"data:image/png;base64,{TEXT}"
BYTES = ImageReference(IMAGE, None)
PATH = ImageReference(None, "a.png")
NONE = ImageReference(None, None)


def struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


SIGNED = [byte - 256 if byte > 127 else byte for byte in IMAGE]
COLUMNS: dict[str, tuple[pa.Array, list[ImageReference]]] = {
    "fixed-size binary": (
        pa.array([IMAGE, None], pa.binary(len(IMAGE))),
        [BYTES, NONE],
    ),
    "list<uint8>": (pa.array([list(IMAGE), None], pa.list_(pa.uint8())), [BYTES, NONE]),
    "large_list<uint8>": (pa.array([list(IMAGE), None], pa.large_list(pa.uint8())), [BYTES, NONE]),
    "list_view<uint8>": (pa.array([list(IMAGE), None], pa.list_view(pa.uint8())), [BYTES, NONE]),
    "fixed_size_list<uint8>": (
        pa.array([None, list(IMAGE)], pa.list_(pa.uint8(), len(IMAGE))),
        [NONE, BYTES],
    ),
    "list<int8>": (pa.array([SIGNED, []], pa.list_(pa.int8())), [BYTES, ImageReference(b"", None)]),
    "list<int64>": (pa.array([None, list(IMAGE)], pa.list_(pa.int64())), [NONE, BYTES]),
    "list<int64>, signed": (pa.array([SIGNED], pa.list_(pa.int64())), [BYTES]),
    "list<int32> with a null and a number that is no byte": (
        pa.array([[1, None, 257]], pa.list_(pa.int32())),
        [ImageReference(b"\1\0\1", None)],
    ),
    "a dictionary of binaries": (
        pa.array([IMAGE, None, b"x", IMAGE]).dictionary_encode(),
        [BYTES, NONE, ImageReference(b"x", None), BYTES],
    ),
    "a dictionary of strings": (
        pa.array(["a.png", None, URI]).dictionary_encode(),
        [PATH, NONE, BYTES],
    ),
    "a dictionary of structs": (
        pa.DictionaryArray.from_arrays(
            pa.array([0, None, 0]), pa.array([{"bytes": IMAGE, "path": None}], HF_IMAGE)
        ),
        [BYTES, NONE, BYTES],
    ),
    "list<struct>": (
        pa.array(
            [
                [{"bytes": IMAGE, "path": None}, {"bytes": b"second", "path": None}],
                [],
                None,
                [None, {"bytes": b"second", "path": None}],
                [{"bytes": None, "path": "a.png"}],
            ],
            pa.list_(HF_IMAGE),
        ),
        [BYTES, NONE, NONE, NONE, PATH],
    ),
    "list<string>": (pa.array([["a.png", "b.png"], [URI], []]), [PATH, BYTES, NONE]),
    "list<binary_view>": (
        pa.array([[IMAGE, b"second"], None], pa.list_(pa.binary_view())),
        [BYTES, NONE],
    ),
    "list<struct<binary_view>>": (
        pa.array(
            [[{"bytes": IMAGE, "path": "b.png"}], [], [{"path": "a.png"}]],
            pa.list_(struct(bytes=pa.binary_view(), path=pa.string_view())),
        ),
        [ImageReference(IMAGE, "b.png"), NONE, PATH],
    ),
    "fixed_size_list<binary>": (
        pa.array([None, [IMAGE, b"second"]], pa.list_(pa.binary(), 2)),
        [NONE, BYTES],
    ),
    "large_list<large_list<string>>": (
        pa.array([[["a.png"], ["b.png"]], [[]], []], pa.large_list(pa.large_list(pa.string()))),
        [PATH, NONE, NONE],
    ),
    "a list of nulls": (pa.array([[None], [], None], pa.list_(pa.null())), [NONE] * 3),
    "base64": (pa.array([TEXT, "a.png", None]), [BYTES, PATH, NONE]),
    "base64 with blanks around": (pa.array([f" {TEXT}\n"], pa.large_string()), [BYTES]),
    "data: URIs": (pa.array([URI, "a.png"], pa.string_view()), [BYTES, PATH]),
    "base64 and data: URIs as bytes": (
        pa.array([TEXT.encode(), URI.encode(), IMAGE]),
        [BYTES, BYTES, BYTES],
    ),
    "a struct with other fields": (
        pa.array(
            [{"id": 1, "bytes": IMAGE, "path": "b.png", "size": [1, 2]}],
            struct(id=pa.int64(), bytes=pa.binary(), path=pa.string(), size=pa.list_(pa.int8())),
        ),
        [ImageReference(IMAGE, "b.png")],
    ),
    "a struct whose path holds the image": (
        pa.array([{"bytes": None, "path": URI}, {"bytes": None, "path": "a.png"}], HF_IMAGE),
        [BYTES, PATH],
    ),
    "struct<data>": (pa.array([{"data": IMAGE}, None]), [BYTES, NONE]),
    "struct<url>": (pa.array([{"url": "a.png"}, {"url": URI}]), [PATH, BYTES]),
    "struct<src>": (pa.array([{"src": "a.png", "alt": "a cat"}]), [PATH]),
    "struct<URI>": (pa.array([{"URI": "a.png"}]), [PATH]),
    "struct<bytes: string>": (
        pa.array([{"bytes": TEXT}, {"bytes": "no base64!"}, {"bytes": None}]),
        [BYTES, ImageReference(b"no base64!", None), NONE],
    ),
    "struct<bytes: list<uint8>>": (
        pa.array(
            [{"bytes": list(IMAGE), "path": "b.png"}],
            struct(bytes=pa.list_(pa.uint8()), path=pa.string()),
        ),
        [ImageReference(IMAGE, "b.png")],
    ),
    "a struct whose fields differ in case": (
        pa.array([{"PATH": "b.png", "Path": "c.png", "path": "a.png"}, {"Path": "c.png"}]),
        [PATH, ImageReference(None, "c.png")],
    ),
    "struct<path, url>": (
        pa.array([{"path": None, "url": "a.png"}, {"path": "a.png", "url": "b.png"}]),
        [PATH, PATH],
    ),
    "a nested record": (
        pa.array(
            [{"image": {"bytes": IMAGE, "path": None}}, {"image": None}], struct(image=HF_IMAGE)
        ),
        [BYTES, NONE],
    ),
    "list<struct<url>>": (pa.array([[{"url": "a.png"}, {"url": "b.png"}]]), [PATH]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_of_each_type_is_read(name: str) -> None:
    column, expected = COLUMNS[name]
    assert image_references(column) == expected


@pytest.mark.parametrize("name", COLUMNS)
def test_a_slice_of_a_column_is_read_as_its_rows(name: str) -> None:
    column, expected = COLUMNS[name]
    twice = pa.concat_arrays([column, column])
    assert image_references(twice.slice(1, len(column))) == [*expected[1:], expected[0]]


def test_a_null_struct_is_null_even_with_bytes_stored_in_its_field() -> None:
    parts = [pa.array([b"a", b"hidden"]), pa.array(["a.png", "hidden.png"])]
    column = pa.StructArray.from_arrays(
        parts, names=["bytes", "path"], mask=pa.array([False, True])
    )
    assert image_references(column) == [ImageReference(b"a", "a.png"), NONE]
