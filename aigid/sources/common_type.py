"""The one type to which the types of a column are promoted, where files of a manifest differ."""

from collections.abc import Mapping

import pyarrow as pa

from aigid.errors import ManifestError
from aigid.sources.cell_types import is_list


def common_type(name: str, types: Mapping[pa.DataType, str]) -> pa.DataType:
    """Return a type that holds the values of all `types` of a column; a single one as it is.

    `types` maps each to the path of a file that has it. Nulls become any type, integers the larger
    integers or floats, times the finer unit; structs get the fields of all. The order does not
    matter. Raises ManifestError where there is no such type, with two files that contradict.
    """
    ordered = sorted((kind for kind in types if not pa.types.is_null(kind)), key=str)
    if len(ordered) < 2:
        return next(iter(ordered), pa.null())
    merged = plain_type(ordered[0])
    for kind in ordered[1:]:
        promoted = _promoted(merged, plain_type(kind))
        if promoted is None:
            raise _contradiction(name, ordered, kind, types)
        merged = plain_type(promoted)
    for kind in ordered:
        if not _fits(kind, merged):
            raise _contradiction(name, ordered, kind, types)
    return merged


def _contradiction(
    name: str, ordered: list[pa.DataType], kind: pa.DataType, types: Mapping[pa.DataType, str]
) -> ManifestError:
    others = [other for other in ordered if other != kind]
    refusing = (other for other in others if _promoted(plain_type(other), plain_type(kind)) is None)
    other = next(refusing, others[0])
    return ManifestError(
        f"{types[kind]}: column {name} is {kind}, but {other} in {types[other]}, and no type holds "
        "both: write the column in one type, or leave it out of `keep`"
    )


def _promoted(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    schemas = [pa.schema([pa.field("column", kind)]) for kind in (one, other)]
    try:
        unified = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    return unified.field(0).type


def _fits(kind: pa.DataType, merged: pa.DataType) -> bool:
    """Return whether values of a type can be written as `merged`, if none of them is too large.

    PyArrow promotes 64-bit integers to decimals with too few digits.
    """
    try:
        pa.nulls(1, kind).cast(merged)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return True


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type whose values are the same, in the encoding that all others promote to."""
    types = pa.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_timestamp(kind) and kind.tz is not None:
        return pa.timestamp(kind.unit, "UTC")
    if types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if types.is_struct(kind):
        fields = [kind.field(index) for index in range(kind.num_fields)]
        plain = [pa.field(field.name, plain_type(field.type)) for field in fields]
        # The order in which fields are written does not matter.
        return pa.struct(sorted(plain, key=lambda field: str(field.name)))
    if is_list(kind):
        make = pa.large_list if types.is_large_list(kind) else pa.list_
        return make(plain_type(kind.value_type))
    return kind
