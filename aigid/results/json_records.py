"""Dataclasses from parsed JSON: exactly their fields, each of its type."""

import dataclasses
import json
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

Record = TypeVar("Record")


def record_of(kind: type[Record], values: Any) -> Record:
    """Return the dataclass `kind` with `values`, a parsed JSON object.

    Raises ValueError for an unknown key, a missing key or a value of another type.
    """
    record: Record = _value_of(kind, values, "")
    return record


def format_record(record: Any) -> bytes:
    """Return the JSON text of a dataclass, indented for people."""
    return (json.dumps(dataclasses.asdict(record), indent=2) + "\n").encode()


def _value_of(kind: Any, value: Any, where: str) -> Any:
    origin, inside = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass_of(kind, value, where)
    if origin is UnionType:
        # The only unions in these records are `SomeType | None`.
        return None if value is None else _value_of(inside[0], value, where)
    if origin is dict and isinstance(value, dict):
        return {name: _value_of(inside[1], one, f"{where}{name}.") for name, one in value.items()}
    if origin is tuple and isinstance(value, list):
        return tuple(_value_of(inside[0], one, where) for one in value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    name = getattr(kind, "__name__", str(kind))
    raise ValueError(f"{where.rstrip('.')} must be {name}: got {json.dumps(value)[:100]}")


def _dataclass_of(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{where.rstrip('.') or 'it'} is not a JSON object")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for problem, names in (
        ("unknown", values.keys() - fields.keys()),
        ("missing", fields.keys() - values.keys()),
    ):
        if names:
            raise ValueError(f"{problem}: {', '.join(f'{where}{name}' for name in sorted(names))}")
    return kind(
        **{
            name: _value_of(field, values[name], f"{where}{name}.")
            for name, field in fields.items()
        }
    )
