"""Lists of names that need little memory."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigid.storage import NameList, name_list

NAMES = st.lists(st.binary(min_size=1, max_size=6).map(os.fsdecode), max_size=30)


@given(NAMES, st.integers(1, 10))
def test_names_come_back_as_they_are_and_in_the_order_of_their_bytes(
    names: list[str], chunk: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_list, "_CHUNK_NAMES", chunk)
        found = NameList()
        for name in names:
            found.append(name)
        assert len(found) == len(names)
        assert list(found) == names
        assert list(found.in_order()) == sorted(names, key=os.fsencode)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5)), st.integers(1, 10))
def test_names_in_utf8_are_a_column(names: list[str], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(name_list, "_CHUNK_NAMES", chunk)
        found = NameList()
        for name in names:
            found.append(name)
        assert found.column().to_pylist() == names
