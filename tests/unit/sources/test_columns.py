"""The columns of one file: which are found, which are passed over, and what is said of them."""

import pyarrow as pa
import pytest
from support.manifests import HF_IMAGE

from aigid.errors import ManifestError
from aigid.sources import ColumnChoice, Columns, resolve_columns
from aigid.sources.columns import describe_columns

STRINGS = pa.list_(pa.string())


def schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


def resolved(found: pa.Schema, **choice: object) -> Columns:
    return resolve_columns(found, "m.parquet", ColumnChoice(**choice))


def said(found: pa.Schema, **choice: object) -> list[str]:
    chosen = ColumnChoice(**choice)
    return list(describe_columns(found, resolved(found, **choice), chosen))


@pytest.mark.parametrize(
    ("columns", "image"),
    [
        ({"image": pa.int64(), "image_url": pa.string()}, "image_url"),
        ({"image": pa.null(), "url": pa.string()}, "url"),
        ({"Image": pa.bool_(), "image": pa.float32(), "jpg": pa.binary()}, "jpg"),
        ({"images": pa.list_(pa.null()), "path": pa.string()}, "path"),
        ({"images": pa.list_(pa.int64()), "webp": pa.int32()}, "images"),
        ({"image": pa.list_(pa.list_(pa.uint8())), "file_name": pa.string()}, "file_name"),
        ({"images": pa.list_(pa.int64()), "url": pa.string()}, "url"),
        ({"image": pa.null(), "images": pa.list_(pa.int64())}, "images"),
        ({"images": pa.list_(pa.uint8()), "url": pa.string()}, "images"),
        ({"image": pa.null(), "png": pa.int8()}, "image"),
        ({"img": pa.struct([("height", pa.int32())]), "jpeg": HF_IMAGE}, "jpeg"),
    ],
)
def test_a_column_that_cannot_hold_images_is_passed_over(
    columns: dict[str, pa.DataType], image: str
) -> None:
    assert resolved(schema(**columns)).image == image


@pytest.mark.parametrize(
    ("columns", "prompt"),
    [
        ({"prompt": pa.int64(), "caption": pa.string()}, "caption"),
        ({"prompt": pa.null(), "Text": pa.string()}, "Text"),
        ({"caption": pa.null(), "txt": pa.float32()}, "caption"),
        ({"captions": STRINGS}, "captions"),
        ({}, None),
    ],
)
def test_a_column_that_cannot_hold_prompts_is_passed_over(
    columns: dict[str, pa.DataType], prompt: str | None
) -> None:
    assert resolved(schema(image=pa.string(), **columns)).prompt == prompt


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.float64()), pa.struct([])], ids=str)
def test_a_chosen_column_that_cannot_hold_images_is_an_error(kind: pa.DataType) -> None:
    found = schema(image=kind, image_url=pa.string())
    with pytest.raises(ManifestError, match=r"m\.parquet: column image is .*; an image column"):
        resolved(found, image="image")


class Tensor(pa.ExtensionType):
    """An extension type, as `datasets` and Ray have for tensors."""

    def __init__(self) -> None:
        super().__init__(pa.list_(pa.uint8()), "some.tensor")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (pa.field("image", Tensor()), "some.tensor"),
        (
            pa.field("image", pa.list_(pa.uint8()), metadata={"ARROW:extension:name": "ray.x"}),
            "ray.x",
        ),
        (
            pa.field("image", pa.fixed_shape_tensor(pa.uint8(), (2, 2, 3))),
            "arrow.fixed_shape_tensor",
        ),
    ],
    ids=["known here", "unknown here", "PyArrow's own"],
)
def test_an_extension_type_is_refused_by_its_name(column: pa.Field, name: str) -> None:
    with pytest.raises(
        ManifestError, match=f"column image is of the extension type {name}; an image column holds"
    ):
        resolved(pa.schema([column]))
    other = pa.schema([column, pa.field("url", pa.string())])
    assert resolved(other).image == "url"


def test_a_list_of_extension_values_is_refused() -> None:
    item = pa.field("element", pa.list_(pa.uint8()), metadata={"ARROW:extension:name": "ray.x"})
    with pytest.raises(ManifestError, match="column images is .*; an image column holds"):
        resolved(schema(images=pa.list_(item)))


def test_no_prompts_are_looked_for_if_none_are_wanted() -> None:
    found = schema(image=pa.string(), prompt=pa.string(), caption=pa.int64())
    assert resolved(found, no_prompts=True) == Columns("image", None)
    unusable = schema(image=pa.string(), caption=pa.int64())
    assert resolved(unusable, no_prompts=True) == Columns("image", None)
    with pytest.raises(ManifestError, match="or give `no_prompts`"):
        resolved(unusable)


def test_a_chosen_column_is_not_taken_for_the_other_one() -> None:
    found = schema(text=pa.string(), image=pa.string(), url=pa.string())
    assert resolved(found, image="text") == Columns("text", None)
    assert resolved(found, prompt="image") == Columns("url", "image")


def test_the_order_of_columns_that_differ_in_case_does_not_matter() -> None:
    names = ("IMAGE", "Image", "image", "CAPTION", "Caption")
    for order in (names, names[::-1]):
        assert resolved(pa.schema([(name, pa.string()) for name in order])) == Columns(
            "image", "Caption"
        )
    unusable = schema(image=pa.int64(), Image=pa.string())
    assert resolved(unusable) == Columns("Image", None)


def test_a_repeated_column_is_refused_only_if_it_is_used() -> None:
    twice = pa.schema([(name, pa.string()) for name in ("image", "url", "url", "text", "text")])
    with pytest.raises(ManifestError, match="more than one column named text"):
        resolved(twice)
    assert resolved(twice, no_prompts=True) == Columns("image", None)
    with pytest.raises(ManifestError, match="more than one column named url"):
        resolved(twice, no_prompts=True, keep=("url",))


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ({"image": HF_IMAGE, "prompt": pa.string()}, []),
        ({"image": pa.list_(pa.uint8()), "prompt": pa.binary()}, []),
        (
            {"images": pa.list_(HF_IMAGE)},
            [
                "column images is list<item: struct<bytes: binary, path: string>>: only images[0] "
                "is scored in each row"
            ],
        ),
        (
            {"url": STRINGS, "caption": pa.list_(pa.struct([("en", pa.string())]))},
            [
                "column url is list<item: string>: only url[0] is scored in each row",
                "column caption is list<item: struct<en: string>>: only caption[0].en is each "
                "row's prompt",
            ],
        ),
        (
            {"url": pa.string(), "caption": pa.map_(pa.string(), STRINGS)},
            [
                "column caption is map<string, list<item: string>>: only caption[0].value[0] is "
                "each row's prompt"
            ],
        ),
        (
            {"image": pa.int64(), "IMG": pa.null(), "image_url": pa.string()},
            [
                "column image is int64: images are taken from image_url",
                "column IMG is null: images are taken from image_url",
            ],
        ),
    ],
)
def test_what_is_not_scanned_of_a_file_is_said(
    columns: dict[str, pa.DataType], lines: list[str]
) -> None:
    assert said(schema(**columns)) == lines
