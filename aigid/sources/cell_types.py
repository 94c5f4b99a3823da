"""Which types of columns can hold images and prompts, and where in a cell these are."""

from collections.abc import Sequence

import pyarrow as pa

PROMPT_NAMES = ("prompt", "caption", "text", "description", "txt", "prompts", "captions")

# Fields of a struct that is an image, in the order of preference: its content, then its place.
_CONTENT_FIELDS = (
    "bytes",
    "data",
    "image_bytes",
    "image_data",
    "image",
    "content",
    "base64",
    "b64_json",
)
_PLACE_FIELDS = (
    "path",
    "image_path",
    "file_path",
    "file_name",
    "filename",
    "url",
    "image_url",
    "uri",
    "src",
)
# Fields of a struct that is a prompt: of several languages, the one that models understand best.
_PROMPT_FIELDS = (*PROMPT_NAMES, "en", "eng", "english", "raw", "value", "content")
_EXTENSION_KEY = b"ARROW:extension:name"


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds bytes, or nulls only."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_null(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds strings that are stored one by one."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds lists of any length."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def is_byte_list(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds lists of integers: bytes, one by one."""
    return is_list(kind) and bool(pa.types.is_integer(kind.value_type))


def doubt(kind: pa.DataType) -> int:
    """Return how doubtful it is that a column of this type, which can hold images, holds some.

    Nulls are the most doubtful, then integers of several bytes, which may be numbers of any kind.
    """
    while is_list(kind):
        if pa.types.is_integer(kind.value_type):
            return int(kind.value_type.bit_width > 8)
        kind = kind.value_type
    return 2 if pa.types.is_null(kind) else 0


def extension_name(column: pa.Field) -> str | None:
    """Return the name of a column's extension type, also where this process does not know it."""
    if isinstance(column.type, pa.BaseExtensionType):
        return str(column.type.extension_name)
    name = (column.metadata or {}).get(_EXTENSION_KEY)
    return None if name is None else name.decode("utf-8", "replace")


def holds_images(column: pa.Field) -> bool:
    """Return whether cells of this column can be images, encoded or by reference.

    Extension types are tensors of pixels and the like. Lists of lists of numbers are pixels, too.
    """
    kind = column.type
    if extension_name(column) is not None:
        return False
    if pa.types.is_dictionary(kind):
        return holds_images(pa.field("values", kind.value_type))
    if pa.types.is_struct(kind):
        return bool(image_fields(kind))
    if is_byte_list(kind):
        return True
    if is_list(kind):
        return not is_byte_list(kind.value_type) and holds_images(kind.value_field)
    return is_bytes(kind) or is_text(kind)


def image_fields(kind: pa.StructType) -> list[int]:
    """Return the fields of a struct that is an image: its content in any form, then its place."""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    if any(field.name == "mode" and pa.types.is_integer(field.type) for field in fields):
        return []  # The decoded images of Spark and Daft: their data is pixels.
    found = named((*_CONTENT_FIELDS, *_PLACE_FIELDS), [field.name for field in fields])
    return [index for index in found if holds_images(fields[index])]


def holds_prompts(column: pa.Field) -> bool:
    """Return whether cells of this column can be prompts."""
    kind = column.type
    if extension_name(column) is not None:
        return False
    if pa.types.is_dictionary(kind):
        return holds_prompts(pa.field("values", kind.value_type))
    if pa.types.is_map(kind):
        return holds_prompts(kind.item_field)
    if is_list(kind):
        return holds_prompts(kind.value_field)
    if pa.types.is_struct(kind):
        return prompt_field(kind) is not None
    return is_text(kind) or (is_bytes(kind) and not pa.types.is_fixed_size_binary(kind))


def prompt_field(kind: pa.StructType) -> int | None:
    """Return the field of a struct that is the prompt: by its name, or the only one with text."""
    fields = [kind.field(index) for index in range(kind.num_fields)]
    usable = [index for index, field in enumerate(fields) if holds_prompts(field)]
    names = [field.name for field in fields]
    found = [index for index in named(_PROMPT_FIELDS, names) if index in usable]
    return found[0] if found else usable[0] if len(usable) == 1 else None


def image_accessor(kind: pa.DataType) -> str:
    """Return where in a cell its image is, as in "[0]" of a list; "" where the cell is the image.

    A struct that is an image has its content and its place in several fields.
    """
    if is_list(kind) and not is_byte_list(kind):
        return f"[0]{image_accessor(kind.value_type)}"
    return ""


def prompt_accessor(kind: pa.DataType) -> str:
    """Return where in a cell its prompt is, as in "[0].en"; "" where the cell is the prompt."""
    if pa.types.is_dictionary(kind):
        return prompt_accessor(kind.value_type)
    if pa.types.is_map(kind):
        return f"[0].value{prompt_accessor(kind.item_type)}"
    if is_list(kind):
        return f"[0]{prompt_accessor(kind.value_type)}"
    if pa.types.is_struct(kind):
        field = kind.field(prompt_field(kind))
        return f".{field.name}{prompt_accessor(field.type)}"
    return ""


def named(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the places of names that are wanted, in any case, in the order of `wanted`.

    Of names that differ in case, lower case is first: the order of `names` says nothing.
    """
    by_lower: dict[str, list[int]] = {}
    for place in sorted(range(len(names)), key=lambda place: names[place], reverse=True):
        by_lower.setdefault(names[place].lower(), []).append(place)
    return [place for name in wanted for place in by_lower.get(name, ())]
