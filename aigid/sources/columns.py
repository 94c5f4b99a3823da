"""The columns that a scan reads, found in each file of a manifest."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from aigid.errors import ManifestError

_BY_CONTENT = ("image", "img", "image_bytes", "image_data", "jpg", "png")
_BY_NAME = (
    "image_path",
    "image_file",
    "file_name",
    "filename",
    "file_path",
    "filepath",
    "path",
    "image_url",
    "url",
    "uri",
)
IMAGE_NAMES = (*_BY_CONTENT, *_BY_NAME)
PROMPT_NAMES = ("prompt", "caption", "text", "description", "txt")


@dataclass(frozen=True)
class Columns:
    """The columns that a scan reads. `prompt` is None if the manifest has no prompts.

    The columns of `keep` are copied to the results.
    """

    image: str
    prompt: str | None
    keep: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns, each once."""
        return list(
            dict.fromkeys([self.image, *([self.prompt] if self.prompt else []), *self.keep])
        )


@dataclass(frozen=True)
class ColumnChoice:
    """The user's choice of columns. None means the first column that has a usual name."""

    image: str | None = None
    prompt: str | None = None
    keep: tuple[str, ...] = ()


def resolve_columns(schema: pa.Schema, path: str, choice: ColumnChoice) -> Columns:
    """Return the columns of the file at `path`. Raises ManifestError where it has no images."""
    image = choice.image or _find_usual(schema, IMAGE_NAMES)
    if image is None:
        raise ManifestError(
            f"{path}: no column has a usual name for images ({', '.join(IMAGE_NAMES)}, in any "
            f"case); name it with `image_column`; the columns are {', '.join(schema.names)}"
        )
    prompt = choice.prompt or _find_usual(schema, PROMPT_NAMES)
    return Columns(image, prompt, tuple(dict.fromkeys(choice.keep)))


def check_columns(schema: pa.Schema, path: str, columns: Columns) -> None:
    """Raise ManifestError if a file lacks a column, or has it in a type that cannot be read."""
    for name in columns.names:
        if schema.names.count(name) != 1:
            problem = "no column" if name not in schema.names else "more than one column"
            raise ManifestError(
                f"{path}: {problem} named {name}; the columns are {', '.join(schema.names)}"
            )
    image = schema.field(columns.image).type
    if not _is_image_type(image):
        raise ManifestError(
            f"{path}: column {columns.image} is {image}; an image column holds encoded bytes, "
            "struct<bytes, path>, or a path"
        )
    if columns.prompt and not (
        is_text(schema.field(columns.prompt).type)
        or pa.types.is_null(schema.field(columns.prompt).type)
    ):
        raise ManifestError(
            f"{path}: column {columns.prompt} is {schema.field(columns.prompt).type}; "
            "a prompt column holds strings"
        )


def texts(column: pa.Array) -> list[str | None]:
    """Return a string column as Python strings, with replacement characters for invalid UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_null(column.type):
        return [None] * len(column)
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "replace") for value in raw]


def _find_usual(schema: pa.Schema, names: Sequence[str]) -> str | None:
    by_lower = {name.lower(): name for name in reversed(schema.names)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _is_image_type(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        parts = {kind.field(index).name: kind.field(index).type for index in range(kind.num_fields)}
        usable = [name for name in ("bytes", "path") if name in parts]
        return bool(usable) and all(
            _is_bytes(parts[name]) or is_text(parts[name]) for name in usable
        )
    return _is_bytes(kind) or is_text(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_null(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type holds strings."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
