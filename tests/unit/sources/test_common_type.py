"""The promotion of types: which one holds the values of two, and what fits no other."""

import datetime
from itertools import permutations

import pyarrow as pa
import pytest

from aigid.errors import ManifestError
from aigid.sources.common_type import common_type


def promoted(*types: pa.DataType) -> pa.DataType:
    return common_type("id", {kind: f"{place}.parquet" for place, kind in enumerate(types)})


def struct(**fields: pa.DataType) -> pa.DataType:
    return pa.struct(list(fields.items()))


DICTIONARY = pa.dictionary(pa.int8(), pa.string())


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((DICTIONARY,), DICTIONARY),
        ((pa.null(),), pa.null()),
        ((pa.null(), DICTIONARY), DICTIONARY),
        ((pa.null(), pa.struct([("a", pa.int8())])), struct(a=pa.int8())),
        ((pa.string(), pa.large_string(), DICTIONARY, pa.string_view()), pa.large_string()),
        ((DICTIONARY, pa.dictionary(pa.int32(), pa.string())), pa.string()),
        ((pa.binary(3), pa.binary(), pa.binary_view()), pa.large_binary()),
        ((pa.int32(), pa.int64()), pa.int64()),
        ((pa.int8(), pa.uint8(), pa.null()), pa.int16()),
        ((pa.int64(), pa.uint64()), pa.int64()),
        ((pa.int64(), pa.float64()), pa.float64()),
        ((pa.float32(), pa.int32(), pa.float16()), pa.float64()),
        ((pa.timestamp("ms"), pa.timestamp("ns"), pa.timestamp("us")), pa.timestamp("ns")),
        (
            (pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin")),
            pa.timestamp("us", "UTC"),
        ),
        ((pa.date32(), pa.date64()), pa.date64()),
        ((pa.decimal128(10, 2), pa.decimal128(12, 3)), pa.decimal128(12, 3)),
        ((pa.list_(pa.int32()), pa.large_list(pa.int64())), pa.large_list(pa.int64())),
        ((pa.list_(pa.null()), pa.list_(pa.string_view())), pa.list_(pa.large_string())),
        ((pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3)), pa.list_(pa.int8())),
        (
            (struct(b=pa.string(), a=pa.int8()), struct(a=pa.int64(), c=DICTIONARY)),
            struct(a=pa.int64(), b=pa.string(), c=pa.string()),
        ),
        (
            (pa.map_(pa.string(), pa.int32()), pa.map_(pa.string(), pa.int64())),
            pa.map_(pa.string(), pa.int64()),
        ),
    ],
    ids=str,
)
def test_types_are_promoted_to_one_whatever_their_order(
    types: tuple[pa.DataType, ...], expected: pa.DataType
) -> None:
    for order in permutations(types):
        assert promoted(*order) == expected


@pytest.mark.parametrize(
    "types",
    [
        (pa.string(), pa.int64()),
        (pa.bool_(), pa.int8()),
        (pa.bool_(), pa.string()),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.date32(), pa.timestamp("us")),
        (pa.decimal128(10, 2), pa.int64()),
        (pa.list_(pa.string()), pa.string()),
        (struct(a=pa.string()), struct(a=pa.int64())),
        (struct(a=pa.string()), pa.string()),
        (pa.int32(), pa.null(), pa.string(), pa.int64()),
    ],
    ids=str,
)
def test_types_that_no_type_holds_are_refused_with_two_files(
    types: tuple[pa.DataType, ...],
) -> None:
    for order in permutations(types):
        with pytest.raises(ManifestError) as caught:
            promoted(*order)
        text = str(caught.value)
        one, other = (place for place, kind in enumerate(order) if f"{place}.parquet" in text)
        assert f"is {order[one]}" in text or f"but {order[one]} in" in text
        assert f"is {order[other]}" in text or f"but {order[other]} in" in text
        assert text.endswith(
            "no type holds both: write the column in one type, or leave it out of `keep`"
        )


def test_promoted_values_are_the_same() -> None:
    noon = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    cases = [
        (pa.array(["a", None]).dictionary_encode(), pa.array(["b"], pa.string_view())),
        (pa.array([1, None], pa.int32()), pa.array([0.5])),
        (pa.array([noon], pa.timestamp("ms", "UTC")), pa.array([noon], pa.timestamp("us", "UTC"))),
        (pa.array([{"b": "x", "a": 1}]), pa.array([{"a": 2.5, "c": None}])),
        (pa.array([[1], None, []]), pa.nulls(2)),
    ]
    for arrays in cases:
        kind = promoted(*(array.type for array in arrays))
        for array in arrays:
            for before, after in zip(array.to_pylist(), array.cast(kind).to_pylist(), strict=True):
                same = before if not isinstance(before, dict) else {"b": None, "c": None} | before
                assert after == same
