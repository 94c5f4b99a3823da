"""The columns that a scan reads, found in the schema of one file."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from aigid.errors import ManifestError
from aigid.sources.cell_types import (
    PROMPT_NAMES,
    doubt,
    extension_name,
    holds_images,
    holds_prompts,
    image_accessor,
    named,
    prompt_accessor,
)

_BY_CONTENT = (
    "image",
    "img",
    "images",
    "imgs",
    "image_bytes",
    "image_data",
    "image_base64",
    "jpg",
    "jpeg",
    "png",
    "webp",
    "avif",
    "gif",
    "bmp",
    "tif",
    "tiff",
)
_BY_NAME = (
    "image_path",
    "img_path",
    "image_file",
    "file_name",
    "filename",
    "file_path",
    "filepath",
    "path",
    "image_url",
    "img_url",
    "image_uri",
    "url",
    "uri",
)
IMAGE_NAMES = (*_BY_CONTENT, *_BY_NAME)


@dataclass(frozen=True)
class Columns:
    """The columns that a scan reads. `prompt` is None where there are no prompts.

    The columns of `keep` are copied to the results. `others` has the columns of images and prompts,
    in pairs, of those files in which they are not `image` and `prompt`.
    """

    image: str
    prompt: str | None
    keep: tuple[str, ...] = ()
    others: tuple[tuple[str | None, ...], ...] = ()

    @property
    def names(self) -> list[str]:
        """The names of all columns, each once."""
        return list(
            dict.fromkeys([self.image, *([self.prompt] if self.prompt else []), *self.keep])
        )


@dataclass(frozen=True)
class ColumnChoice:
    """The user's choice of columns. None means the first column that has a usual name.

    With `no_prompts`, no column of prompts is looked for.
    """

    image: str | None = None
    prompt: str | None = None
    keep: tuple[str, ...] = ()
    no_prompts: bool = False


def resolve_columns(schema: pa.Schema, path: str, choice: ColumnChoice) -> Columns:
    """Return the columns of the file at `path`; those of `keep` may be missing.

    Usual names are taken in their order of preference, and the first column that can hold images,
    or prompts, is the one; one of nulls, or of integers that may be bytes, where there is no other.
    `prompt` is None where the file has no such column.

    Raises ManifestError where the file has no images, where a column cannot hold what it is for,
    and where one that is used is there twice.
    """
    image = choice.image or _find_image(schema, path, choice)
    if choice.image and image not in schema.names:
        raise _missing(schema, path, image)
    if not holds_images(_field(schema, path, image)):
        raise ManifestError(
            f"{path}: {_described(schema, image)}; an image column holds encoded images (bytes, "
            "base64, data: URIs), paths or URIs, also in structs and lists, but no decoded pixels: "
            "name another with `image_column`"
        )
    prompt = _find_prompt(schema, path, image, choice)
    for name in choice.keep:
        if name in schema.names:
            _field(schema, path, name)
    return Columns(image, prompt, tuple(dict.fromkeys(choice.keep)))


def describe_columns(schema: pa.Schema, columns: Columns, choice: ColumnChoice) -> Iterator[str]:
    """Yield what a person must know of a file's columns: what in them is not scanned."""
    image = columns.image
    if choice.image is None:
        for name in _usual(schema, IMAGE_NAMES):
            if name == image:
                break
            yield f"{_described(schema, name)}: images are taken from {image}"
    accessor = image_accessor(schema.field(image).type)
    if accessor:
        yield f"{_described(schema, image)}: only {image}{accessor} is scored in each row"
    if columns.prompt is not None:
        prompt = columns.prompt
        accessor = prompt_accessor(schema.field(prompt).type)
        if accessor:
            yield f"{_described(schema, prompt)}: only {prompt}{accessor} is each row's prompt"


def _find_image(schema: pa.Schema, path: str, choice: ColumnChoice) -> str:
    """Return the column of images by its usual name, which may be unable to hold any."""
    names = [name for name in _usual(schema, IMAGE_NAMES) if name != choice.prompt]
    found = _first_usable(schema, names, holds_images)
    if found is None:
        raise ManifestError(
            f"{path}: no column has a usual name for images ({', '.join(IMAGE_NAMES)}, in any "
            f"case); name it with `image_column`; the columns are {', '.join(schema.names)}"
        )
    return found


def _find_prompt(schema: pa.Schema, path: str, image: str, choice: ColumnChoice) -> str | None:
    if choice.no_prompts:
        return None
    prompt = choice.prompt
    if prompt is None:
        names = [name for name in _usual(schema, PROMPT_NAMES) if name != image]
        prompt = _first_usable(schema, names, holds_prompts)
    if prompt is None or prompt not in schema.names:
        return None
    if not holds_prompts(_field(schema, path, prompt)):
        raise ManifestError(
            f"{path}: {_described(schema, prompt)}; a prompt column holds strings: name another "
            "with `prompt_column`, or give `no_prompts`"
        )
    return prompt


def _first_usable(
    schema: pa.Schema, names: Sequence[str], usable: Callable[[pa.Field], bool]
) -> str | None:
    """Return the first column that can be used, least doubtful; else the first, for the error."""
    fields = [schema.field(schema.get_all_field_indices(name)[0]) for name in names]
    can_hold = sorted(filter(usable, fields), key=lambda field: doubt(field.type))
    best = next(iter([*can_hold, *fields]), None)
    return None if best is None else str(best.name)


def _usual(schema: pa.Schema, usual_names: Sequence[str]) -> list[str]:
    """Return the columns with usual names, in the order of preference."""
    names = schema.names
    return list(dict.fromkeys(names[place] for place in named(usual_names, names)))


def _field(schema: pa.Schema, path: str, name: str) -> pa.Field:
    """Return a column that is there. Raises ManifestError where it is there twice."""
    if schema.names.count(name) != 1:
        raise ManifestError(
            f"{path}: more than one column named {name}; the columns are {', '.join(schema.names)}"
        )
    return schema.field(name)


def _missing(schema: pa.Schema, path: str, name: str) -> ManifestError:
    return ManifestError(
        f"{path}: no column named {name}; the columns are {', '.join(schema.names)}"
    )


def _described(schema: pa.Schema, name: str) -> str:
    """Return a column with its type, for messages."""
    field = schema.field(name)
    extension = extension_name(field)
    if extension is None:
        return f"column {name} is {field.type}"
    return f"column {name} is of the extension type {extension}"
