"""JSON lines: an object on each line, and the types of its values."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from aigid.sources.lines import Lines

_MIXED = pa.string()
# Rows whose types are found at a time.
_TYPED_ROWS, _TYPED_BYTES = 1000, 1 << 20


class JsonForm:
    """How the rows of a file of JSON lines are read.

    A column has the type of its values. Where they have no common type they become JSON text.
    """

    def __init__(self, schema: pa.Schema | None = None) -> None:
        """Take the columns of the file, or find them while its records are read."""
        self._types: dict[str, pa.DataType] = (
            {} if schema is None else {field.name: field.type for field in schema}
        )

    @property
    def schema(self) -> pa.Schema:
        """The columns that were found so far."""
        return pa.schema(list(self._types.items()))

    def records(self, lines: Lines) -> Iterator[dict[str, Any]]:
        """Yield the objects; raises ManifestError for a line that is none."""
        waiting, size = list[dict[str, Any]](), 0
        for line in lines:
            if not (content := _content(line)):
                continue
            record = _object(content)
            if isinstance(record, str):
                raise lines.refuse(f"not a JSON object: {record}; one object stands on each line")
            waiting.append(record)
            size += len(line)
            lines.records += 1
            if len(waiting) == _TYPED_ROWS or size >= _TYPED_BYTES:
                self._widen(waiting)
                waiting, size = [], 0
            yield record
        self._widen(waiting)

    def batch(self, data: bytes, names: list[str]) -> pa.RecordBatch:
        """Return some columns of the rows in a block. A value that a row lacks is null."""
        rows = [json.loads(line) for line in map(_content, data.split(b"\n")) if line]
        columns = [_column([row.get(name) for row in rows], self._types[name]) for name in names]
        return pa.RecordBatch.from_arrays(columns, names)

    def split(self, data: bytes) -> Iterator[bytes]:
        """Yield the bytes of each line in a block that has an object."""
        return (line for line in io.BytesIO(data) if _content(line))

    def _widen(self, records: list[dict[str, Any]]) -> None:
        """Make the types fit these records as well."""
        names = dict.fromkeys(name for record in records for name in record)
        for name in names:
            found = _type_of([record.get(name) for record in records])
            self._types[name] = _common(self._types.get(name, found), found)


def _content(line: bytes) -> str:
    """Return the text of a line, without a byte order mark and blanks around it."""
    return line.decode("utf-8", "replace").removeprefix("\ufeff").strip(" \t\r\n")


def _object(line: str) -> dict[str, Any] | str:
    """Return the object on a line, or what is wrong with it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return str(error)
    return value if isinstance(value, dict) else f"it is a {type(value).__name__}"


def _type_of(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return _MIXED


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    if one == other:
        return one
    try:
        schemas = [pa.schema([("", one)]), pa.schema([("", other)])]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return _MIXED


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == _MIXED:
        return pa.array(map(_text, values), _MIXED)
    return pa.array(values, kind)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
