"""JSON that becomes dataclasses strictly: no unknown keys, no missing ones, no other types."""

import dataclasses
import json
import math
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from aigid.errors import ContractError


def from_strict_dict(cls: type[Any], values: Any, where: str) -> Any:
    """Build the dataclass `cls` from a mapping that has exactly its fields, also in nested ones.

    Raises ContractError for unknown keys, missing keys and wrong types, so that a newer or damaged
    file is never half understood. The error begins with `where`.
    """
    if not isinstance(values, dict):
        raise ContractError(f"{where}: expected an object, got {type(values).__name__}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    unknown, missing = sorted(values.keys() - fields.keys()), sorted(fields.keys() - values.keys())
    if unknown or missing:
        raise ContractError(
            f"{where}: unknown keys {unknown}, missing keys {missing}; "
            "was it written by another version?"
        )
    built = {
        name: _from_json(values[name], item.type, f"{where}.{name}")
        for name, item in fields.items()
    }
    try:
        record = cls(**built)
    except ContractError as error:
        raise ContractError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        _check_types(fields.values(), values, where)
        raise ContractError(f"{where}: a value has the wrong type: {error}") from error
    # A dataclass accepts values of any type.
    _check_types(fields.values(), values, where)
    return record


def _from_json(value: Any, kind: Any, where: str) -> Any:
    """Return a value of the type `kind`: dataclasses are built, all else stays as it is."""
    inside = get_args(kind)
    if get_origin(kind) is UnionType:
        return None if value is None else _from_json(value, inside[0], where)
    if get_origin(kind) is dict and dataclasses.is_dataclass(inside[1]) and isinstance(value, dict):
        return {
            key: from_strict_dict(inside[1], item, f"{where}.{key}")  # type: ignore[arg-type]
            for key, item in value.items()
        }
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return from_strict_dict(kind, value, where)
    return value


def _check_types(
    fields: Iterable[dataclasses.Field[Any]], values: dict[str, Any], where: str
) -> None:
    for item in fields:
        if not _fits(values[item.name], item.type):
            got = json.dumps(values[item.name])[:100]
            raise ContractError(f"{where}.{item.name}: expected {_type_name(item.type)}, got {got}")


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value from JSON has the type `kind`.

    Lists pass for tuples, and ints for floats.
    """
    inside = get_args(kind)
    if get_origin(kind) is UnionType:
        return any(_fits(value, one) for one in inside)
    if dataclasses.is_dataclass(kind):
        # `from_strict_dict` has checked what is in it.
        return isinstance(value, dict)
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_fits(item, inside[0]) for item in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(item, inside[1]) for item in value.values())
    if kind is float:
        return type(value) in (int, float) and abs(value) < math.inf
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return value in list(kind)
    if kind is type(None):
        return value is None
    return kind is Any or type(value) is kind


def _type_name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(kind)
    return kind.__name__ if isinstance(kind, type) else str(kind)


def read_json(path: Path, what: str) -> Any:
    """Parse a JSON file. Raises ContractError that names `what` the file should have been."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ContractError(f"{path}: no such file; expected {what}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ContractError(f"{path}: not readable as {what}: {error}") from error
