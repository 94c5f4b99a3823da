"""However a truth is written down, it is read alike, and no row is lost."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.errors import ManifestError
from aigid.manifest import open_manifest
from aigid.training.labels import (
    LEFT_OUT,
    OTHER_GENERATOR,
    UNKNOWN_GENERATOR,
    RowLabels,
    read_labels,
)

LABELS = ("real", "flux", "sdxl")
OTHER_NAME = "kolors"
NAMES = {0: "real", 1: "flux", 2: "sdxl", UNKNOWN_GENERATOR: "ai", OTHER_GENERATOR: OTHER_NAME}
TRUTHS = st.sampled_from([*NAMES, LEFT_OUT])

Write = Callable[[list[str | None]], tuple[pa.Array, list[str] | None]]


def class_label(names: list[str]) -> Write:
    """Write integers, and the names that the file gives to them."""
    return lambda values: (
        pa.array([None if value is None else names.index(value) for value in values], pa.int64()),
        names,
    )


def values(of_value: dict[str | None, Any], kind: pa.DataType | None = None) -> Write:
    return lambda rows: (pa.array([of_value[row] for row in rows], kind), None)


# What a label column is made of: "real", "ai" and None.
LABEL_FORMS: dict[str, Write] = {
    "integers": values({"real": 0, "ai": 1, None: None}, pa.int32()),
    "minus one": values({"real": 0, "ai": 1, None: -1}, pa.int8()),
    "floats": values({"real": 0.0, "ai": 1.0, None: float("nan")}),
    "booleans": values({"real": False, "ai": True, None: None}, pa.bool_()),
    "words": values({"real": "REAL", "ai": "Fake", None: "unknown"}),
    "digits": values({"real": "0", "ai": "1", None: None}, pa.string()),
    "real last": class_label(["ai", "real"]),
    "real first": class_label(["NOT_AI", "real", "ai"]),
}
# What a generator column is made of: the NAMES and None.
GENERATOR_FORMS: dict[str, Write] = {
    "names": values({name: name for name in [*NAMES.values(), None]}, pa.string()),
    "capitals": values({name: name.upper() for name in NAMES.values()} | {None: ""}),
    "dictionary": lambda rows: (pa.array(rows, pa.string()).dictionary_encode(), None),
    "class label": class_label([OTHER_NAME, "ai", "sdxl", "unused", "real", "flux"]),
}


@st.composite
def files(draw: st.DrawFn) -> tuple[list[int], pa.Table]:
    """Draw the truths of some rows, and a table that says so in one of many ways."""
    truths = draw(st.lists(TRUTHS, min_size=1, max_size=8))
    columns: dict[str, pa.Array] = {"image": pa.array([""] * len(truths))}
    features: dict[str, Any] = {}
    label, generator = [], []
    for truth in truths:
        name = NAMES.get(truth)
        said = None if name is None else "real" if name == "real" else "ai"
        # One of both columns is enough.
        both = draw(st.sampled_from(["both", "label", "generator"]))
        label.append(None if both == "generator" else said)
        has_no_name = both == "label" and truth in (0, UNKNOWN_GENERATOR)
        generator.append(None if has_no_name else name)
    if draw(st.booleans()):
        generator = [NAMES.get(truth) for truth in truths]
    else:
        columns["is_ai"], names = LABEL_FORMS[draw(st.sampled_from([*LABEL_FORMS]))](label)
        features["is_ai"] = {"names": names}
    column = draw(st.sampled_from(["generator", "Model", "source"]))
    columns[column], names = GENERATOR_FORMS[draw(st.sampled_from([*GENERATOR_FORMS]))](generator)
    features[column] = {"names": names}
    metadata = json.dumps({"info": {"features": features}}).encode()
    return truths, pa.table(columns).replace_schema_metadata({b"huggingface": metadata})


def read(folder: Path, tables: list[pa.Table], labels: tuple[str, ...] | None) -> RowLabels:
    """Read tables as a manifest of a file each, in this order."""
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet")
    return read_labels([open_manifest([str(folder)])], labels=labels)


def of_file(found: RowLabels, number: int) -> list[int]:
    (path,) = (path for path in found.codes if path.endswith(f"{number}.parquet"))
    return found.codes[path].tolist()


@settings(max_examples=80)
@given(drawn=st.lists(files(), min_size=1, max_size=3))
def test_every_form_of_a_truth_is_read_alike_and_no_row_is_lost(
    drawn: list[tuple[list[int], pa.Table]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = read(Path(folder), [table for _, table in drawn], LABELS)
        assert [of_file(found, number) for number in range(len(drawn))] == [
            truths for truths, _ in drawn
        ]
    rows = Counter(truth for truths, _ in drawn for truth in truths)
    counts = found.counts
    assert counts.classes == (rows[0], rows[1], rows[2])
    assert (counts.unknown, counts.left_out) == (rows[UNKNOWN_GENERATOR], rows[LEFT_OUT])
    others = {name.lower(): count for name, count in counts.others.items()}
    assert others == ({OTHER_NAME: rows[OTHER_GENERATOR]} if rows[OTHER_GENERATOR] else {})
    assert counts.rows + counts.left_out == rows.total()
    assert counts.real + counts.generated == counts.rows


@settings(max_examples=40)
@given(drawn=st.lists(files(), min_size=2, max_size=3))
def test_the_order_of_files_changes_nothing(drawn: list[tuple[list[int], pa.Table]]) -> None:
    tables = [table for _, table in drawn]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        forward = read(Path(one), tables, None)
        backward = read(Path(other), tables[::-1], None)
    assert forward.labels == backward.labels
    assert forward.counts == backward.counts
    for number in range(len(tables)):
        assert of_file(forward, number) == of_file(backward, len(tables) - 1 - number)
    # The labels are those that rows have.
    names = {NAMES[truth].upper() for truths, _ in drawn for truth in truths if truth in (1, 2, -2)}
    assert {label.upper() for label in forward.labels} == {"REAL", *(names or {"OTHER"})}


@settings(max_examples=40)
@given(rows=st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 5)), min_size=1, max_size=9))
def test_the_data_set_s_own_integers_are_kept_or_refused(rows: list[tuple[int, int]]) -> None:
    label_a, label_b = (list(column) for column in zip(*rows, strict=True))
    table = pa.table({"image": [""] * len(rows), "Label_A": label_a, "Label_B": label_b})
    wrong = [row for row, (a, b) in enumerate(rows) if (a == 0) != (b == 0)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = read(Path(folder), [table], None)
        except ManifestError as error:
            assert f"row {wrong[0]}: " in str(error)
            return
    assert not wrong
    np.testing.assert_array_equal(of_file(found, 0), label_b)
