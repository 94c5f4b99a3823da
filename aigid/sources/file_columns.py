"""The columns of a manifest whose files differ: one name and one type for each in all files."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import pyarrow as pa

from aigid.errors import ManifestError
from aigid.sources.columns import ColumnChoice, Columns, describe_columns, resolve_columns
from aigid.sources.common_type import common_type
from aigid.sources.files import ManifestFile
from aigid.sources.partitions import partition_values


@dataclass
class _Seen:
    """Files of the same schema: the first one, how many there are, and their columns."""

    first: ManifestFile
    columns: Columns
    files: int = 0

    @property
    def path(self) -> str:
        return self.first.path

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """The kept columns that the schema lacks; the files' paths may have them."""
        names = set(self.first.schema.names)
        return tuple(name for name in self.columns.keep if name not in names)


@dataclass
class _Lacking:
    """The files that have a kept column neither in their schema nor in their path."""

    first: ManifestFile
    files: int = 0


@dataclass
class FileColumns:
    """What is found of the columns while the files of a manifest stream by.

    Each schema is looked at once. The order of the files says nothing, except for names: columns
    have the names that they have in the first files.
    """

    choice: ColumnChoice
    _seen: dict[bytes, _Seen] = field(default_factory=dict)
    _last: _Seen | None = None
    _lacking: dict[str, _Lacking] = field(default_factory=dict)
    _files: int = 0

    def watch(self, files: Iterator[ManifestFile]) -> Iterator[ManifestFile]:
        """Yield the files. Raises ManifestError at one whose columns cannot be scanned."""
        for file in files:
            self._add(file)
            yield file

    def columns(self) -> Columns:
        """Return the columns by the names that they get in all files.

        Raises ManifestError where files lack a column, or where columns cannot be told apart.
        """
        self._check_all_there()
        keep = tuple(dict.fromkeys(self.choice.keep))
        image, prompt = self._shared_name("image", "image_column", set(keep)), None
        if any(seen.columns.prompt for seen in self._seen.values()):
            prompt = self._shared_name("prompt", "prompt_column", {*keep, image})
        pairs = {(seen.columns.image, seen.columns.prompt) for seen in self._seen.values()}
        return Columns(image, prompt, keep, tuple(sorted(pairs - {(image, prompt)}, key=str)))

    def kept_types(self) -> dict[str, pa.DataType]:
        """Return the type of each kept column in all files.

        Raises ManifestError where no type fits.
        """
        return {name: common_type(name, self._types(name)) for name in self.choice.keep}

    def notes(self) -> tuple[str, ...]:
        """Return what a person must know of the columns, with a file of each kind."""
        found: dict[str, list[_Seen]] = {}
        some_have_prompts = any(seen.columns.prompt for seen in self._seen.values())
        for seen in self._seen.values():
            for line in describe_columns(seen.first.schema, seen.columns, self.choice):
                found.setdefault(line, []).append(seen)
            if some_have_prompts and seen.columns.prompt is None:
                line = "no column of prompts: the images are scored without"
                found.setdefault(line, []).append(seen)
        return tuple(f"{_named_files(seen)}: {line}" for line, seen in found.items())

    def _add(self, file: ManifestFile) -> None:
        seen = self._last
        # Comparing schemas is a hundred times faster than hashing one.
        if seen is None or not file.schema.equals(seen.first.schema, check_metadata=True):
            key = file.schema.serialize().to_pybytes()
            if key not in self._seen:
                columns = resolve_columns(file.schema, file.path, self.choice)
                self._seen[key] = _Seen(file, columns)
            self._last = seen = self._seen[key]
        # The runs of images in one folder are one file to a person.
        one = int(file.first_row == 0)
        seen.files += one
        self._files += one
        for name in seen.missing:
            if name not in partition_values(file.path):
                self._lacking.setdefault(name, _Lacking(file)).files += one

    def _check_all_there(self) -> None:
        prompt, all_seen = self.choice.prompt, list(self._seen.values())
        if prompt and not any(seen.columns.prompt for seen in all_seen):
            first = all_seen[0].first
            raise ManifestError(f"{first.path}: no column named {prompt}; {_columns_of(first)}")
        for name, lacking in self._lacking.items():
            where = f"{lacking.first.path}: no column named {name}"
            having = next((seen for seen in all_seen if name not in seen.missing), None)
            if having is not None:
                where += (
                    f", but {having.path} has it; {lacking.files} of {self._files} files do not: "
                    "add it to them, or leave it out of `keep`"
                )
            raise ManifestError(f"{where}; {_columns_of(lacking.first)}")

    def _shared_name(self, role: str, parameter: str, taken: set[str]) -> str:
        """Return the name of the column of images or prompts, whatever it is in each file."""
        names: dict[str, str] = {}
        for seen in self._seen.values():
            name = getattr(seen.columns, role)
            if name is not None:
                names.setdefault(name, seen.path)
        if len(names) == 1:
            return next(iter(names))
        for name in names:
            if name not in taken:
                return name
        places = ", ".join(f"{name} in {path}" for name, path in names.items())
        raise ManifestError(
            f"the {role}s are in several columns ({places}), and `keep` names all of them: choose "
            f"one with `{parameter}`"
        )

    def _types(self, name: str) -> dict[pa.DataType, str]:
        types: dict[pa.DataType, str] = {}
        for seen in self._seen.values():
            kind = _type_of(seen.first.schema, name)
            # Equal types have several hashes, where the items of lists are named otherwise.
            if not any(kind == known for known in types):
                types[kind] = seen.path
        return types


def _type_of(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type if name in schema.names else pa.string()


def _columns_of(file: ManifestFile) -> str:
    return f"the columns are {', '.join(file.schema.names)}"


def _named_files(seen: list[_Seen]) -> str:
    others = max(sum(one.files for one in seen) - 1, 0)
    more = f" and {others} more file{'s' if others > 1 else ''}" if others else ""
    return f"{seen[0].path}{more}"
