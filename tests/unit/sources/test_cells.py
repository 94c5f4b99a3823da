"""Prompts: from a column of any type to one text for each row."""

import pyarrow as pa
import pytest

from aigid.sources import texts
from aigid.sources.cell_types import holds_prompts

BOTH = pa.struct([("de", pa.string()), ("en", pa.list_(pa.string())), ("id", pa.int64())])
COLUMNS: dict[str, tuple[pa.Array, list[str | None]]] = {
    "binary": (
        pa.array([b"a cat", None, b"caf\xe9"]),
        ["a cat", None, "caf\N{REPLACEMENT CHARACTER}"],
    ),
    "list<string>": (pa.array([["a", "b"], [], None, [None, "b"]]), ["a", None, None, None]),
    "list<string_view>": (pa.array([["a"], []], pa.list_(pa.string_view())), ["a", None]),
    "list<large_list<string>>": (
        pa.array([[["a", "b"], ["c"]], [[]], None], pa.list_(pa.large_list(pa.string()))),
        ["a", None, None],
    ),
    "fixed_size_list<string>": (
        pa.array([None, ["a", "b"]], pa.list_(pa.string(), 2)),
        [None, "a"],
    ),
    "map": (
        pa.array([[("en", "a"), ("de", "b")], [], None], pa.map_(pa.string(), pa.string())),
        ["a", None, None],
    ),
    "a struct with a usual field": (
        pa.array([{"de": "eine", "en": ["a", "b"], "id": 1}, {"de": "zwei"}, None], BOTH),
        ["a", None, None],
    ),
    "a struct with one text": (pa.array([{"words": "a", "id": 1}, {"id": 2}]), ["a", None]),
    "a list of structs": (pa.array([[{"caption": "a", "id": 1}], []]), ["a", None]),
    "a dictionary of large strings": (
        pa.array(["a", None, "a"], pa.large_string()).dictionary_encode(),
        ["a", None, "a"],
    ),
    "nulls": (pa.nulls(2), [None, None]),
    "lists of nulls": (pa.array([[None], []], pa.list_(pa.null())), [None, None]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_prompt_column_of_each_type_is_read(name: str) -> None:
    column, expected = COLUMNS[name]
    assert holds_prompts(pa.field("prompt", column.type))
    assert texts(column) == expected
    twice = pa.concat_arrays([column, column])
    assert texts(twice.slice(1, len(column))) == [*expected[1:], expected[0]]
