"""The labels of whole manifests: columns found, values understood, rows combined and checked."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aigid.errors import ManifestError, UsageError
from aigid.manifest import open_manifest
from aigid.records import DEFAULT_LABELS
from aigid.training.labels import (
    LEFT_OUT,
    OTHER_GENERATOR,
    UNKNOWN_GENERATOR,
    LabelChoice,
    RowLabels,
    has_label_columns,
    read_labels,
)

Read = Callable[..., RowLabels]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that writes columns as a manifest, and reads its labels."""

    def read_columns(
        columns: dict[str, Any] | pa.Table,
        choice: LabelChoice = LabelChoice(),
        labels: tuple[str, ...] | None = None,
    ) -> RowLabels:
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        table = table.append_column("image", pa.array([""] * len(table)))
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.parquet"
        pq.write_table(table, path)
        return read_labels([open_manifest([str(path)])], choice, labels)

    return read_columns


def codes_of(found: RowLabels) -> list[int]:
    return np.concatenate(list(found.codes.values())).tolist()


BINARY = [0, 1, 1, 0, None]
TRUTHS: dict[str, Any] = {
    "integers": pa.array(BINARY),
    "-1 for unknown": pa.array([0, 1, 1, 0, -1], pa.int8()),
    "unsigned": pa.array(BINARY, pa.uint8()),
    "floats": pa.array([0.0, 1.0, 1.0, 0.0, None]),
    "NaN": pa.array([0.0, 1.0, 1.0, 0.0, float("nan")], pa.float32()),
    "booleans": pa.array([False, True, True, False, None]),
    "words": pa.array(["real", "fake", "FAKE", " Real", None]),
    "other words": pa.array(["photo", "ai", "AI-generated", "NOT_AI", "unknown"]),
    "digits": pa.array(["0", "1", "1", "0", "-1"]),
    "true and false": pa.array(["false", "TRUE", "true", "False", ""]),
    "large strings": pa.array(["real", "ai", "ai", "real", None], pa.large_string()),
    "string views": pa.array(["real", "ai", "ai", "real", None], pa.string_view()),
    "dictionary": pa.array(["real", "ai", "ai", "real", None]).dictionary_encode(),
    "dictionary of integers": pa.array(BINARY).dictionary_encode(),
}


@pytest.mark.parametrize("form", TRUTHS)
def test_a_label_column_is_read_in_any_form(read: Read, form: str) -> None:
    found = read({"label": TRUTHS[form]})
    assert found.labels == ("real", "other")
    assert codes_of(found) == [0, 1, 1, 0, LEFT_OUT]
    counts = found.counts
    assert (counts.classes, counts.left_out, counts.rows) == ((2, 2), 1, 4)
    assert counts.unknown == counts.without_class == 0


@pytest.mark.parametrize(
    ("name", "meaning_of_1"),
    [
        *[
            (name, 1)
            for name in ("Label_A", "is_ai", "IS_FAKE", "Fake", "synthetic", "binary_label")
        ],
        *[(name, 1) for name in ("ai", "label", "class", "is_ai_generated", "target")],
        *[(name, 0) for name in ("real", "is_real", "Is_Real")],
    ],
)
def test_a_column_s_name_tells_what_1_means(read: Read, name: str, meaning_of_1: int) -> None:
    for column in (pa.array([0, 1, 1]), pa.array([False, True, True])):
        assert codes_of(read({name: column})) == [1 - meaning_of_1, meaning_of_1, meaning_of_1]


def test_a_chosen_column_may_have_any_name(read: Read) -> None:
    columns = {"label": ["cat", "dog"], "not_fake": [True, False]}
    assert codes_of(read(columns, LabelChoice("not_fake"))) == [0, 1]


def test_the_data_set_s_own_columns_come_first(read: Read) -> None:
    table = {"is_ai": [0] * 6, "generator": ["x"] * 6, "Label_A": [0, 1, 1, 1, 1, 1]}
    found = read({**table, "Label_B": [0, 1, 2, 3, 4, 5]})
    assert (found.labels, codes_of(found)) == (DEFAULT_LABELS, [0, 1, 2, 3, 4, 5])
    assert found.columns == ("Label_A (1 is AI-generated) and Label_B",)
    assert found.counts.classes == (1,) * 6


def test_a_row_of_an_unknown_generator_counts_for_a_only(read: Read) -> None:
    label_b = pa.array([0, None, -1, 3, None], pa.int32())
    found = read({"Label_A": [0, 1, 1, 1, 0], "Label_B": label_b})
    assert found.labels == DEFAULT_LABELS
    assert codes_of(found) == [0, UNKNOWN_GENERATOR, UNKNOWN_GENERATOR, 3, 0]
    counts = found.counts
    assert (counts.real, counts.generated, counts.unknown, counts.rows) == (2, 3, 2, 5)


def test_a_known_generator_tells_what_an_unknown_label_does_not(read: Read) -> None:
    label_a = pa.array([None, -1, None, 1], pa.int32())
    found = read({"Label_A": label_a, "Label_B": pa.array([2, 0, None, -1], pa.int32())})
    assert codes_of(found) == [2, 0, LEFT_OUT, UNKNOWN_GENERATOR]
    assert found.counts.left_out == 1


def test_floats_from_pandas_are_integers(tmp_path: Path) -> None:
    frame = pd.DataFrame({"image": ["", "", ""], "Label_A": [0, 1, 1], "Label_B": [0, None, 4]})
    assert frame["Label_B"].dtype == np.float64
    frame.to_parquet(tmp_path / "m.parquet")
    found = read_labels([open_manifest([str(tmp_path / "m.parquet")])])
    assert codes_of(found) == [0, UNKNOWN_GENERATOR, 4]


def test_names_of_generators_become_labels(read: Read) -> None:
    generators = ["real", "sdxl", "flux", None, "gemini 3", "unknown"]
    found = read({"label": [0, 1, 1, 1, 1, 0], "generator": generators})
    assert found.labels == ("real", "flux", "gemini 3", "sdxl")
    assert codes_of(found) == [0, 3, 1, UNKNOWN_GENERATOR, 2, 0]


@pytest.mark.parametrize("column", ["label", "generator", "class"])
def test_class_names_give_both_labels(read: Read, column: str) -> None:
    found = read({column: ["sdxl", "real", "ai", "flux"]})
    assert found.labels == ("real", "flux", "sdxl")
    assert codes_of(found) == [2, 0, UNKNOWN_GENERATOR, 1]


@pytest.mark.parametrize(
    ("generators", "labels"),
    [
        (["midjourney", "sdxl"], ("real", "sdxl", "midjourney")),
        (["SDXL", "Midjourney"], ("real", "sdxl", "midjourney")),
        (["sdxl", "zz", "AA"], ("real", "AA", "sdxl", "zz")),
        ([*reversed(DEFAULT_LABELS[1:])], DEFAULT_LABELS),
        (["other"], ("real", "other")),
        (["other", "flux"], ("real", "flux", "other")),
    ],
)
def test_found_labels_are_in_order(
    read: Read, generators: list[str], labels: tuple[str, ...]
) -> None:
    assert read({"generator": ["real", *generators]}).labels == labels


def test_names_that_differ_in_case_are_one_label(read: Read) -> None:
    for names in (["Flux", "flux", "FLUX", "real"], ["real", "FLUX", "Flux", "flux"]):
        found = read({"generator": names})
        assert found.labels == ("real", "FLUX")
        assert sorted(codes_of(found)) == [0, 1, 1, 1]


def test_a_value_that_no_row_has_is_no_label(read: Read) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1]), ["real", "flux", "gone", "a://b"])
    assert read({"generator": column}).labels == ("real", "flux")


def test_chosen_labels_name_integers_and_are_the_model_s(read: Read) -> None:
    choice = LabelChoice(labels=("real", "flux", "sdxl"))
    found = read({"Label_A": [0, 1, 1], "Label_B": [0, 2, 1]}, choice)
    assert (found.labels, codes_of(found)) == (("real", "flux", "sdxl"), [0, 2, 1])
    # Without a generator column, those of the label column are classes.
    assert codes_of(read({"label": [0, 2, 1]}, choice)) == [0, 2, 1]
    assert codes_of(read({"is_ai": [0, 1, 1], "generator": [None, 2, 1]}, choice)) == [0, 2, 1]
    # Columns whose name says that they hold two classes do so.
    for name in ("is_ai", "Label_A", "binary_label"):
        assert codes_of(read({name: [0, 1]}, choice)) == [0, UNKNOWN_GENERATOR]
    assert codes_of(read({"is_real": [0, 1]}, choice)) == [UNKNOWN_GENERATOR, 0]


def test_generators_that_are_not_among_the_labels_are_other(read: Read) -> None:
    table = {"generator": ["real", "sdxl", "kolors", "kolors", "Flux", "imagen"]}
    found = read(table, LabelChoice(labels=("real", "flux", "sdxl")))
    assert codes_of(found) == [0, 2, OTHER_GENERATOR, OTHER_GENERATOR, 1, OTHER_GENERATOR]
    assert found.counts.others == {"imagen": 1, "kolors": 2}
    assert (found.counts.without_class, found.counts.generated) == (3, 5)
    # A model with the label "other" has a class for them.
    found = read(table, labels=("real", "other", "sdxl"))
    assert codes_of(found) == [0, 2, 1, 1, 1, 1]
    assert not found.counts.others


def test_rows_are_read_with_a_model_s_labels(read: Read) -> None:
    table = {"Label_A": [0, 1, 1], "Label_B": pa.array([0, 2, None], pa.int32())}
    assert codes_of(read(table, labels=DEFAULT_LABELS)) == [0, 2, UNKNOWN_GENERATOR]
    more = ("real", "flux", *DEFAULT_LABELS[1:])
    assert codes_of(read(table, labels=more)) == [0, 3, UNKNOWN_GENERATOR]
    assert codes_of(read(table, labels=("real", "other"))) == [0, 1, 1]
    named = {"generator": ["real", "Flux", "sdxl"]}
    assert codes_of(read(named, labels=("real", "FLUX"))) == [0, 1, OTHER_GENERATOR]


def test_integers_are_not_guessed_for_a_model_with_other_labels(read: Read) -> None:
    table, labels = {"Label_A": [0, 1], "Label_B": [0, 2]}, ("real", "flux", "sdxl")
    with pytest.raises(
        ManifestError, match=r"column Label_B: no rule fits the value 2: .*`labels`"
    ):
        read(table, labels=labels)
    assert codes_of(read(table, LabelChoice(labels=DEFAULT_LABELS), labels)) == [0, 2]
    assert codes_of(read(table, LabelChoice(labels=labels), labels)) == [0, 2]


def test_some_of_the_paper_s_labels_leave_its_integers_what_they_are(read: Read) -> None:
    table, some = {"Label_A": [0, 1, 1, 1], "Label_B": [0, 2, 5, 1]}, ("real", "sdxl", "midjourney")
    for found in (read(table, LabelChoice(labels=some)), read(table, labels=some)):
        assert (found.labels, codes_of(found)) == (some, [0, 1, 2, OTHER_GENERATOR])
        assert found.counts.others == {"sd21": 1}
    turned = ("real", *reversed(DEFAULT_LABELS[1:]))
    assert codes_of(read(table, LabelChoice(labels=turned))) == [0, 4, 1, 5]
    assert codes_of(read(table, labels=turned)) == [0, 4, 1, 5]
    assert codes_of(read(table, LabelChoice(labels=("real", "other")))) == [0, 1, 1, 1]


def hub_file(path: Path, columns: dict[str, Any], names: dict[str, list[str]]) -> RowLabels:
    """Write columns as Hugging Face `datasets` does, with names for integers; read the labels."""
    features = datasets.Features({"image": datasets.Value("string")})
    for column in columns:
        features[column] = (
            datasets.ClassLabel(names=names[column])
            if column in names
            else datasets.Value("string")
        )
    rows = len(next(iter(columns.values())))
    table = {"image": [""] * rows, **columns}
    datasets.Dataset.from_dict(table, features=features).to_parquet(path)
    return read_labels([open_manifest([str(path)])])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["fake", "real"], [1, 0, LEFT_OUT]),
        (["real", "fake"], [0, 1, LEFT_OUT]),
        (["NOT_AI", "AI"], [0, 1, LEFT_OUT]),
        (["AiArtData", "RealArt"], [1, 0, LEFT_OUT]),
        (["0", "1"], [0, 1, LEFT_OUT]),
    ],
)
def test_names_that_the_file_gives_to_integers_count(
    tmp_path: Path, names: list[str], expected: list[int]
) -> None:
    found = hub_file(tmp_path / "m.parquet", {"label": [0, 1, None]}, {"label": names})
    assert codes_of(found) == expected
    assert found.columns == ("label",)


def test_a_hub_file_s_classes_give_both_labels(tmp_path: Path) -> None:
    names = {"label": ["flux", "real", "sdxl", "dalle"]}
    found = hub_file(tmp_path / "m.parquet", {"label": [0, 1, 2, 0]}, names)
    # "dalle" has no row.
    assert (found.labels, codes_of(found)) == (("real", "flux", "sdxl"), [1, 0, 2, 1])
    # A file without a real row has the class "real" all the same.
    only = hub_file(tmp_path / "n.parquet", {"label": [0, 2]}, names)
    assert (only.labels, codes_of(only)) == (("real", "flux", "sdxl"), [1, 2])


@pytest.mark.parametrize("metadata", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": null}}'])
def test_damaged_metadata_name_nothing(read: Read, metadata: bytes) -> None:
    table = pa.table({"label": [0, 1]}).replace_schema_metadata({b"huggingface": metadata})
    assert codes_of(read(table)) == [0, 1]


CONTRADICTIONS = [
    ({"label": [0, 0], "generator": ["real", "flux"]}, "row 1: label is 0 and generator is flux: "),
    ({"label": [1, 1], "generator": ["real", "flux"]}, "row 0: label is 1 and generator is real: "),
    ({"Label_A": [0, 0], "Label_B": [0, 3]}, "row 1: Label_A is 0 and Label_B is 3: "),
    ({"is_real": [True], "model": ["ai"]}, "row 0: is_real is True and model is ai: "),
]


def test_a_contradiction_shows_names_of_integers_and_damaged_text(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"row 1: label is 1 \(real\) and generator is flux: "):
        hub_file(
            tmp_path / "m.parquet",
            {"label": [0, 1], "generator": ["flux", "flux"]},
            {"label": ["fake", "real"]},
        )
    damaged = pa.array([b"\xff", b"x"]).view(pa.string())
    table = pa.table({"image": ["", ""], "is_ai": [0, 0], "generator": damaged})
    pq.write_table(table, tmp_path / "n.parquet")
    with pytest.raises(ManifestError, match="row 0: is_ai is 0 and generator is \ufffd: "):
        read_labels([open_manifest([str(tmp_path / "n.parquet")])])


@pytest.mark.parametrize(("columns", "message"), CONTRADICTIONS)
def test_a_row_that_contradicts_itself_is_named_with_both_values(
    read: Read, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        read(columns)
    assert f".parquet, {message}one says real, the other AI-generated: " in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_row_of_a_contradiction_is_right_far_into_a_file(read: Read) -> None:
    label_a, label_b = [1] * 150_000, [2] * 150_000
    label_b[140_001] = 0
    with pytest.raises(ManifestError, match="row 140001: Label_A is 1 and Label_B is 0"):
        read({"Label_A": label_a, "Label_B": label_b})


URLS = [f"https://example.org/{number}.jpg" for number in range(30)]
UNFIT = [
    ({"label": ["cat", "dog", "cat"]}, "column label: no rule fits the 2 values 'cat', 'dog': "),
    ({"label": list("abcdefg")}, "7 different values, as 'a', 'b', 'c', 'd', 'e': "),
    ({"label": [0, 1, 2]}, "column label: no rule fits the value 2: "),
    ({"label": [0.0, 0.5]}, "column label: no rule fits the value 0.5: "),
    ({"label": [0.0, float("inf")]}, "column label: no rule fits the value inf: "),
    ({"Label_A": [1], "Label_B": [6]}, "column Label_B: no rule fits the value 6: "),
    ({"label": [1], "generator": [3]}, "column generator: no rule fits the value 3: "),
    ({"label": [1] * 30, "source": URLS}, "column source: no rule fits 30 different values, as 'h"),
    ({"generator": ["real", "a\nb"]}, r"column generator: no rule fits the value 'a\nb': "),
    ({"label": [0], "model": [[1]]}, "column model is list<element: int64>, which holds no labels"),
    ({"label": [0], "generator": [True]}, "column generator is bool, which holds no labels: "),
    ({"generator": ["real", "x" * 101]}, "column generator: no rule fits the value 'xxx"),
]


@pytest.mark.parametrize(("columns", "message"), UNFIT)
def test_values_that_no_rule_fits_are_named_with_what_to_do(
    read: Read, columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        read(columns)
    said = str(refused.value)
    assert message in said
    assert ".parquet: column " in said
    assert "`label_column`" in said or "`generator_column`" in said
    assert "\n" not in said


def test_a_column_of_too_many_values_is_not_read_to_its_end(read: Read) -> None:
    names = [f"name {number}" for number in range(200_000)]
    with pytest.raises(ManifestError, match="more than 10,000 different values, as 'name 0', "):
        read({"label": [1] * 200_000, "source": names})
    with pytest.raises(ManifestError, match="column label: no rule fits more than 10,000 diff"):
        read({"label": ["real", *names]})


def test_a_found_column_of_many_names_with_few_rows_is_refused_unless_chosen(read: Read) -> None:
    columns = {"label": [1] * 300, "source": [f"name {number % 101}" for number in range(300)]}
    with pytest.raises(ManifestError, match="column source: no rule fits 101 different values"):
        read(columns)
    assert len(read(columns, LabelChoice(generator_column="source")).labels) == 102
    assert len(read({name: column * 2 for name, column in columns.items()}).labels) == 102


def test_an_empty_name_stands_for_no_column(read: Read) -> None:
    columns = {"label": ["cat", "dog"], "generator": ["real", "flux"]}
    assert codes_of(read(columns, LabelChoice(label_column=""))) == [0, 1]
    columns = {"label": ["fake", "real"], "source": URLS[:2]}
    assert codes_of(read(columns, LabelChoice(generator_column=""))) == [1, 0]


def test_names_in_the_label_column_are_generated_where_another_column_names_generators(
    read: Read,
) -> None:
    columns = {"label": ["gan", "diffusion", "real"], "generator": ["biggan", None, None]}
    found = read(columns)
    assert (found.labels, codes_of(found)) == (("real", "biggan"), [1, UNKNOWN_GENERATOR, 0])


def test_a_manifest_without_label_columns_is_refused(read: Read) -> None:
    with pytest.raises(ManifestError) as refused:
        read({"id": [1], "caption": ["a"]})
    said = str(refused.value)
    assert "no column has a usual name for labels (label_a, is_ai_generated, " in said
    assert "`label_column` or `generator_column`; the columns are id, caption, image" in said


@pytest.mark.parametrize(
    ("choice", "said", "unsaid"),
    [
        (LabelChoice(label_column=""), ["label_b, generator, ", "`generator_column`"], "is_ai"),
        (LabelChoice(generator_column=""), ["label_a, is_ai", "`label_column`"], "label_b"),
    ],
)
def test_names_that_were_not_looked_for_are_not_said_to_be_missing(
    read: Read, choice: LabelChoice, said: list[str], unsaid: str
) -> None:
    with pytest.raises(ManifestError) as refused:
        read({"label_b" if choice.label_column is None else "is_ai": [0, 1]}, choice)
    asked, columns = str(refused.value).split("; the columns are ")
    assert all(part in asked for part in said)
    assert unsaid not in asked
    assert unsaid in columns


def test_a_chosen_column_counts_as_there_so_that_its_lack_is_an_error() -> None:
    unlabelled = pa.schema({"image": pa.string()})
    assert not has_label_columns(unlabelled)
    assert not has_label_columns(unlabelled, LabelChoice(label_column=""))
    assert has_label_columns(unlabelled, LabelChoice(label_column="kind"))
    assert has_label_columns(unlabelled, LabelChoice(generator_column="kind"))


def test_rows_without_any_label_are_one_clear_error(read: Read) -> None:
    read({"label": pa.array([None, 1])}).check_any()
    for nothing in (pa.nulls(2), pa.nulls(2, pa.int8()), pa.array(["", "unknown"])):
        with pytest.raises(ManifestError) as refused:
            read({"label": nothing}).check_any()
        assert ".parquet: no row of 2 has a label in label" in str(refused.value)
        assert "`label_column` or `generator_column`" in str(refused.value)


def test_a_name_that_two_columns_have_is_refused(read: Read) -> None:
    table = pa.Table.from_arrays([pa.array([0]), pa.array([1])], names=["label", "label"])
    with pytest.raises(ManifestError, match="more than one column named label"):
        read(table)


def test_a_chosen_column_must_be_in_every_file(tmp_path: Path) -> None:
    for name, columns in {"a": ["kind"], "b": ["kind", "label"]}.items():
        table = pa.table({"image": [""], **{column: ["real"] for column in columns}})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    manifest = open_manifest([str(tmp_path)])
    assert read_labels([manifest], LabelChoice("kind")).counts.classes == (2, 0)
    with pytest.raises(ManifestError, match=r"a.parquet: no column named label; the columns are"):
        read_labels([manifest], LabelChoice("label"))


BAD_LABELS = ["flux,real", "real", "real,flux,flux", "real,,flux", "real,a\x00b", ""]


@pytest.mark.parametrize("labels", BAD_LABELS)
def test_labels_that_a_model_cannot_have_are_refused(labels: str) -> None:
    with pytest.raises(UsageError, match="`labels`: labels must be at least two different names"):
        LabelChoice.parse(labels=labels)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("real,Flux,flux", "Flux and flux differ in case only"),
        ("real,flux,REAL", "real and REAL differ in case only"),
        ("real,photo", "photo is no name of a generator: rows with this value are real"),
        ("real,flux,unknown", "unknown is no name of a generator: .* of an unknown one"),
    ],
)
def test_labels_that_rows_would_not_be_read_as_are_refused(labels: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"`labels`: {said}"):
        LabelChoice.parse(labels=labels)
    assert LabelChoice.parse(labels="real,fake").labels == ("real", "fake")


def test_a_choice_is_parsed() -> None:
    choice = LabelChoice.parse("a", "b", "real, flux,sd xl")
    assert choice == LabelChoice("a", "b", ("real", "flux", "sd xl"))
    with pytest.raises(UsageError, match="both empty"):
        LabelChoice("", "")


def test_descriptions_say_what_is_left_out(read: Read) -> None:
    generators = ["real", "flux", "kolors", None, None, "unknown"]
    columns = {"label": pa.array([0, 1, 1, 1, 1, None]), "generator": generators}
    found = read(columns, labels=("real", "flux", "sdxl"))
    assert list(found.describe()) == [
        "labels from label (1 is AI-generated) and generator: real 1, flux 1, sdxl 0",
        "2 rows are AI-generated by an unknown generator: counted for A (real or AI-generated), "
        "left out of B (which generator)",
        "1 row is of generators that are not among the labels: kolors 1",
        "1 row is left out: neither label is known",
    ]
    assert found.counts.to_json() == {
        "unknown_generator": 2,
        "other_generators": {"kolors": 1},
        "left_out": 1,
    }
    many = read({"generator": ["real", *(f"g{number:02d}" for number in range(40))]})
    (line,) = many.describe()
    assert line.endswith("g07 1, g08 1, and 31 more")


def test_a_file_that_is_given_twice_counts_twice(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": ["", ""], "label": [0, 1]}), tmp_path / "m.parquet")
    manifests = [open_manifest([str(tmp_path / "m.parquet")]) for _ in range(2)]
    assert read_labels(manifests).counts.classes == (2, 2)


def test_oversampled_counts_repeat_real_rows(read: Read) -> None:
    counts = read({"generator": ["real", "flux", "ai"]}).counts.oversampled(3)
    assert (counts.classes, counts.rows, counts.real, counts.generated) == ((3, 1), 5, 3, 2)


def own_metadata(names: Sequence[str]) -> bytes:
    features = {"Label_B": {"names": list(names), "_type": "ClassLabel"}}
    return json.dumps({"info": {"features": features}}).encode()


def test_files_with_other_names_for_the_same_integers_are_read_as_one(tmp_path: Path) -> None:
    for file, names in {"a": ("real", "flux", "sdxl"), "b": ("real", "sdxl", "flux")}.items():
        table = pa.table({"image": ["", ""], "Label_B": [1, 2]})
        table = table.replace_schema_metadata({b"huggingface": own_metadata(names)})
        pq.write_table(table, tmp_path / f"{file}.parquet")
    found = read_labels([open_manifest([str(tmp_path)])])
    assert found.labels == ("real", "flux", "sdxl")
    assert codes_of(found) == [1, 2, 2, 1]
