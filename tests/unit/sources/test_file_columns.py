"""Files of one manifest that differ: in what their columns are called, hold, and lack."""

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.manifests import HF_IMAGE

from aigid.errors import AigidError, ManifestError
from aigid.fetch import ImageReference, image_references
from aigid.manifest import Manifest, open_manifest, read_segment
from aigid.sources import ColumnChoice, Columns, FileColumns, ManifestFile, Segment, texts

Write = Callable[..., Path]
Rows = list[tuple[str | None, str | None, dict[str, Any]]]


def opened(paths: list[Path], **choice: object) -> Manifest:
    return open_manifest([str(path) for path in paths], ColumnChoice(**choice))


def rows_of(manifest: Manifest) -> Rows:
    """Return the image's path, the prompt and the kept values of each row, in order."""
    columns, rows = manifest.columns, []
    for file in manifest.files:
        for batch in read_segment(manifest, Segment(file, 0, file.rows)):
            images = image_references(batch.column(columns.image))
            prompts: list[str | None] = [None] * len(batch)
            if columns.prompt is not None:
                prompts = texts(batch.column(columns.prompt))
            kept = manifest.kept(batch).to_pylist() or [{}] * len(batch)
            paths = [image.path for image in images]
            rows += zip(paths, prompts, kept, strict=True)
    return rows


def test_prompts_are_scanned_though_the_first_file_lacks_them(write_manifest: Write) -> None:
    files = [
        write_manifest(pa.table({"image": ["a"], "id": [1]}), "a.parquet"),
        write_manifest(pa.table({"image": ["b"], "caption": ["words"], "id": [2]}), "b.parquet"),
        write_manifest(pa.table({"image": ["c"], "id": [3]}), "c.parquet"),
    ]
    expected = {"a": None, "b": "words", "c": None}
    for order in permutations(files):
        manifest = opened(list(order))
        assert manifest.columns == Columns("image", "caption", others=(("image", None),))
        assert {image: prompt for image, prompt, _ in rows_of(manifest)} == expected
        lacking = [path for path in order if path != files[1]]
        assert manifest.notes == (
            f"{lacking[0]} and 1 more file: no column of prompts: the images are scored without",
        )
    assert opened([files[0], files[2]]).notes == ()
    without = opened(files, no_prompts=True)
    assert (without.columns.prompt, without.notes) == (None, ())


def test_a_chosen_prompt_column_may_be_missing_in_some_files_but_not_in_all(
    write_manifest: Write,
) -> None:
    first = write_manifest(pa.table({"image": ["a"], "prompt": ["no"]}), "a.parquet")
    second = write_manifest(pa.table({"image": ["b"], "alt": ["words"]}), "b.parquet")
    manifest = opened([first, second], prompt="alt")
    assert [row[:2] for row in rows_of(manifest)] == [("a", None), ("b", "words")]
    assert manifest.notes == (f"{first}: no column of prompts: the images are scored without",)
    with pytest.raises(
        ManifestError, match=r"a\.parquet: no column named alt; the columns are image, prompt"
    ):
        opened([first], prompt="alt")


def test_columns_may_have_another_name_in_each_file(write_manifest: Write) -> None:
    images = pa.array([{"bytes": None, "path": "b"}], HF_IMAGE)
    files = [
        write_manifest(pa.table({"image": ["a"], "prompt": ["one"]}), "a.parquet"),
        write_manifest(pa.table({"Caption": ["two"], "Image": images}), "b.parquet"),
        write_manifest(pa.table({"TEXT": ["three"], "URL": ["c"], "image": [7]}), "c.parquet"),
    ]
    expected = [("a", "one", {}), ("b", "two", {}), ("c", "three", {})]
    for order in permutations(zip(files, expected, strict=True)):
        manifest = opened([file for file, _ in order])
        assert rows_of(manifest) == [row for _, row in order]
        assert manifest.notes == (f"{files[2]}: column image is int64: images are taken from URL",)


def test_a_kept_column_may_be_the_prompt_in_some_files_only(write_manifest: Write) -> None:
    both = pa.table({"image": ["b"], "prompt": ["two"], "caption": ["kept"]})
    files = [
        write_manifest(pa.table({"image": ["a"], "caption": ["one"]}), "a.parquet"),
        write_manifest(both, "b.parquet"),
    ]
    for order in permutations(files):
        manifest = opened(list(order), keep=("caption",))
        assert sorted(rows_of(manifest), key=str) == [
            ("a", "one", {"caption": "one"}),
            ("b", "two", {"caption": "kept"}),
        ]


def test_other_columns_in_one_file_are_another_setting(write_manifest: Write) -> None:
    first = write_manifest(pa.table({"image": ["a"]}), "a.parquet")
    second = write_manifest(pa.table({"image": pa.nulls(1), "url": ["b"]}), "b.parquet")
    found, chosen = opened([first, second]), opened([first, second], image="image")
    assert (found.columns.image, chosen.columns.image) == ("image", "image")
    assert found.columns != chosen.columns
    assert [row[0] for row in rows_of(found)] == ["a", "b"]
    assert [row[0] for row in rows_of(chosen)] == ["a", None]


def test_files_of_other_kinds_have_columns_of_their_own(
    write_manifest: Write, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("id,URL,text\n1,a,one\n")
    (tmp_path / "b.jsonl").write_text('{"image": {"bytes": null, "path": "b"}, "id": "2"}\n')
    table = pa.table(
        {"image": ["c"], "caption": [["three"]], "id": pa.array(["3"], "large_string")}
    )
    paths = [tmp_path / "a.csv", tmp_path / "b.jsonl", write_manifest(table, "c.parquet")]
    expected = [("a", "one", {"id": "1"}), ("b", None, {"id": "2"}), ("c", "three", {"id": "3"})]
    for order in permutations(zip(paths, expected, strict=True)):
        manifest = opened([path for path, _ in order], keep=("id",))
        assert rows_of(manifest) == [row for _, row in order]
        assert len(manifest.notes) == 2


def test_columns_that_cannot_be_told_apart_are_refused(write_manifest: Write) -> None:
    nulls = pa.nulls(1)
    first = write_manifest(pa.table({"image": ["a"], "url": ["b"]}), "a.parquet")
    second = write_manifest(pa.table({"image": nulls, "url": ["b"]}), "b.parquet")
    for order in permutations([first, second]):
        assert rows_of(opened(list(order)))
        with pytest.raises(
            ManifestError, match="the images are in several columns .*: choose one with `image_col"
        ):
            opened(list(order), keep=("image", "url"))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ([pa.array([1], pa.int32()), pa.array([2**40])], [1, 2**40]),
        ([pa.array([1]), pa.array([0.5]), pa.array([None], pa.float64())], [1.0, 0.5, None]),
        ([pa.nulls(1), pa.array(["x"]).dictionary_encode()], [None, "x"]),
        ([pa.array(["x"]).dictionary_encode(), pa.array(["y"], pa.large_string())], ["x", "y"]),
        ([pa.array([[1]]), pa.array([[0.5, None]])], [[1.0], [0.5, None]]),
        (
            [pa.array([{"a": 1}]), pa.array([{"b": "x", "a": 2.5}])],
            [{"a": 1.0, "b": None}, {"a": 2.5, "b": "x"}],
        ),
    ],
    ids=["integers", "floats", "nulls", "strings", "lists", "structs"],
)
def test_kept_columns_of_other_types_get_one_type(
    write_manifest: Write, arrays: list[pa.Array], expected: list[object]
) -> None:
    files = [
        write_manifest(pa.table({"image": ["a"], "id": array}), f"{number}.parquet")
        for number, array in enumerate(arrays)
    ]
    kinds = set()
    for order in permutations(zip(files, expected, strict=True)):
        manifest = opened([file for file, _ in order], keep=("id",))
        found = [row[2]["id"] for row in rows_of(manifest)]
        assert found == [value for _, value in order]
        assert [type(value) for value in found] == [type(value) for _, value in order]
        kinds.add(str(manifest.keep_schema.field("id").type))
    assert len(kinds) == 1


def test_kept_columns_without_a_common_type_are_refused_with_two_files(
    write_manifest: Write,
) -> None:
    first = write_manifest(pa.table({"image": ["a"], "id": [1]}), "a.parquet")
    second = write_manifest(pa.table({"image": ["a"], "id": ["one"]}), "b.parquet")
    for order in permutations([first, second]):
        assert opened(list(order)).rows == 2
        with pytest.raises(ManifestError) as caught:
            opened(list(order), keep=("id",))
        assert str(caught.value) == (
            f"{second}: column id is string, but int64 in {first}, and no type holds both: write "
            "the column in one type, or leave it out of `keep`"
        )


@pytest.mark.parametrize(
    ("large", "other"),
    [
        (pa.array([2**53 + 1]), pa.array([0.5])),
        (pa.array([2**63], pa.uint64()), pa.array([-1])),
        (pa.array([10**14], pa.timestamp("ms")), pa.array([1], pa.timestamp("ns"))),
    ],
    ids=["float", "unsigned", "time"],
)
def test_a_value_that_would_change_ends_the_scan(
    write_manifest: Write, large: pa.Array, other: pa.Array
) -> None:
    first = write_manifest(pa.table({"image": ["a"], "id": other}), "a.parquet")
    second = write_manifest(pa.table({"image": ["b"], "id": large}), "b.parquet")
    manifest = opened([first, second], keep=("id",))
    kind = manifest.keep_schema.field("id").type
    with pytest.raises(AigidError) as caught:
        rows_of(manifest)
    assert str(caught.value).startswith(
        f"{second}: column id is {large.type}, but {kind} in all files together, which cannot hold "
        "its values ("
    )
    assert str(caught.value).endswith(": write the column in one type, or leave it out of `keep`")


def test_a_kept_column_that_some_files_lack_is_an_error_that_says_in_which_it_is(
    write_manifest: Write,
) -> None:
    has = write_manifest(pa.table({"image": ["a"], "id": [1]}), "a.parquet")
    lacks = [write_manifest(pa.table({"image": ["b"]}), f"{name}.parquet") for name in "bc"]
    for order in permutations([has, *lacks]):
        with pytest.raises(ManifestError) as caught:
            opened(list(order), keep=("id",))
        first = next(path for path in order if path != has)
        assert str(caught.value) == (
            f"{first}: no column named id, but {has} has it; 2 of 3 files do not: add it to them, "
            "or leave it out of `keep`; the columns are image"
        )
    with pytest.raises(ManifestError, match=r"b\.parquet: no column named id; the columns are"):
        opened(lacks, keep=("id",))


def test_a_file_without_images_is_named_wherever_it_stands(write_manifest: Write) -> None:
    good = write_manifest(pa.table({"image": ["a"]}), "a.parquet")
    bad = write_manifest(pa.table({"photo": ["a"]}), "b.parquet")
    for order in permutations([good, bad]):
        with pytest.raises(ManifestError, match=r"b\.parquet: no column has a usual name"):
            opened(list(order))
        with pytest.raises(
            ManifestError, match=r"b\.parquet: no column named image; the columns are photo"
        ):
            opened(list(order), image="image")


def test_a_column_in_the_names_of_folders_is_kept(write_manifest: Write, tmp_path: Path) -> None:
    for year, part in (("2023", "a"), ("2024", "b"), ("__HIVE_DEFAULT_PARTITION__", "c")):
        table = pa.table({"image": [part], "id": [1]})
        write_manifest(table, f"set/year={year}/label=a%20b/{part}.parquet")
    manifest = opened([tmp_path / "set"], keep=("year", "id", "label"))
    assert manifest.keep_schema == pa.schema(
        [("year", pa.string()), ("id", pa.int64()), ("label", pa.string())]
    )
    assert [row[2]["year"] for row in rows_of(manifest)] == ["2023", "2024", None]
    assert {row[2]["label"] for row in rows_of(manifest)} == {"a b"}
    write_manifest(pa.table({"image": ["d"], "id": [1]}), "set/d.parquet")
    with pytest.raises(ManifestError, match=r"set/d\.parquet: no column named year"):
        opened([tmp_path / "set"], keep=("year",))


def test_a_column_of_the_file_wins_over_its_folders(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest(pa.table({"image": ["a"], "year": ["of file"]}), "year=2024/a.parquet")
    write_manifest(pa.table({"image": ["b"]}), "year=2025/b.parquet")
    manifest = opened([tmp_path / "year=2024", tmp_path / "year=2025"], keep=("year",))
    assert [row[2]["year"] for row in rows_of(manifest)] == ["of file", "2025"]


def test_what_is_not_scanned_is_said_once_for_all_files(write_manifest: Write) -> None:
    lists = pa.table({"images": [["a", "b"]], "captions": [["one", "two"]]})
    other = pa.table({"images": [["a", "b"]], "captions": [["one"]], "id": [1]})
    files = [write_manifest(lists, f"{name}.parquet") for name in "ab"]
    files.append(write_manifest(other, "c.parquet"))
    manifest = opened(files)
    assert [row[:2] for row in rows_of(manifest)] == [("a", "one")] * 3
    assert manifest.notes == (
        f"{files[0]} and 2 more files: column images is list<element: string>: only images[0] is "
        "scored in each row",
        f"{files[0]} and 2 more files: column captions is list<element: string>: only captions[0] "
        "is each row's prompt",
    )


def test_each_schema_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (pa.schema([("image", pa.string()), (name, pa.string())]) for name in ("a", "b"))
    files = [
        ManifestFile(f"{number}.parquet", 1, (1,), "00", schema=pa.schema(list(schema)))
        for number, schema in enumerate([one, one, other, one, other, other])
    ]
    looked_at: list[str] = []

    def note(schema: pa.Schema, path: str, choice: ColumnChoice) -> Columns:
        looked_at.append(path)
        return Columns("image", None)

    monkeypatch.setattr("aigid.sources.file_columns.resolve_columns", note)
    assert list(FileColumns(ColumnChoice()).watch(iter(files))) == files
    assert looked_at == ["0.parquet", "2.parquet"]


def test_columns_are_known_though_footers_are_not_read_again(
    write_manifest: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [
        write_manifest(pa.table({"image": ["a"]}), "a.parquet"),
        write_manifest(pa.table({"Image": ["b"], "text": ["words"]}), "b.parquet"),
        write_manifest(pa.table({"url": ["c"], "image": [1]}), "c.parquet"),
    ]
    before = opened(files)
    recorded = type(before.files).from_bytes(before.files.to_bytes())
    again = open_manifest([str(path) for path in files], known=recorded)
    assert (again.columns, again.notes) == (before.columns, before.notes)
    assert rows_of(again) == rows_of(before)
    workers = again.without_files()
    segment = Segment(again.files[2], 0, 1)
    (batch,) = read_segment(workers, segment)
    assert image_references(batch.column("image")) == [ImageReference(None, "c")]
