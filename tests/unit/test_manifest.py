"""Manifests: finding files and columns, the identity of a file, exact reads of runs of rows."""

import datetime
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.manifests import HF_IMAGE

from aigid.errors import AigidError, ManifestError
from aigid.fetch import ImageReference, image_references
from aigid.manifest import Manifest, open_manifest, read_segment
from aigid.sources import (
    IMAGE_NAMES,
    PROMPT_NAMES,
    READ_ROWS,
    ColumnChoice,
    Columns,
    Kind,
    ManifestFile,
    Segment,
    identify,
    opened,
    texts,
)
from aigid.storage import ListedFile

Write = Callable[..., Path]
LARGE_IMAGE = pa.struct([("bytes", pa.large_binary()), ("path", pa.large_string())])
VIEW_IMAGE = pa.struct([("bytes", pa.binary_view()), ("path", pa.string_view())])
PATH_ALONE = pa.struct([("path", pa.string())])
BYTES_ALONE = pa.struct([("bytes", pa.binary())])
NULL_PATH = pa.struct([("bytes", pa.binary()), ("path", pa.null())])


def table_of(*names: str, rows: int = 2) -> pa.Table:
    """Return a table of string columns whose values are the column's name."""
    return pa.table({name: [name] * rows for name in names})


def columns_of(path: Path, **choice: object) -> Columns:
    return open_manifest([str(path)], ColumnChoice(**choice)).columns


def rows_read(manifest: Manifest, segment: Segment, column: str) -> list[object]:
    return [
        value
        for batch in read_segment(manifest, segment)
        for value in batch.column(column).to_pylist()
    ]


@pytest.mark.parametrize("name", [*IMAGE_NAMES, "Image", "IMAGE_PATH", "Url", "PNG"])
def test_an_image_column_is_found_by_each_usual_name_in_any_case(
    write_manifest: Write, name: str
) -> None:
    assert columns_of(write_manifest(table_of("id", name, "label"))) == Columns(name, None)


@pytest.mark.parametrize("name", [*PROMPT_NAMES, "Caption", "PROMPT", "Text"])
def test_a_prompt_column_is_found_by_each_usual_name_in_any_case(
    write_manifest: Write, name: str
) -> None:
    assert columns_of(write_manifest(table_of("id", "image", name))) == Columns("image", name)


@pytest.mark.parametrize(
    ("names", "image", "prompt"),
    [
        (("url", "image_path", "Image", "Caption"), "Image", "Caption"),
        (("text", "caption", "Prompt", "uri", "file_name"), "file_name", "Prompt"),
        (("url", "path", "description", "TEXT"), "path", "TEXT"),
        (("img", "IMAGE", "image"), "image", None),
        (("IMAGE", "Image", "Caption", "CAPTION"), "Image", "Caption"),
        (("Image", "IMAGE", "CAPTION", "Caption"), "Image", "Caption"),
    ],
)
def test_content_wins_over_paths_paths_over_urls_and_prompt_over_caption(
    write_manifest: Write, names: tuple[str, ...], image: str, prompt: str | None
) -> None:
    assert columns_of(write_manifest(table_of(*names))) == Columns(image, prompt)


def test_chosen_columns_win_over_usual_names(write_manifest: Write) -> None:
    manifest = write_manifest(table_of("image", "caption", "thumbnail", "alt"))
    assert columns_of(manifest, image="thumbnail", prompt="alt") == Columns("thumbnail", "alt")
    assert columns_of(manifest, image="thumbnail") == Columns("thumbnail", "caption")
    assert columns_of(manifest, prompt="alt") == Columns("image", "alt")


def test_a_chosen_column_must_exist_in_the_same_case(write_manifest: Write) -> None:
    with pytest.raises(
        ManifestError, match="no column named IMAGE; the columns are image, caption"
    ):
        open_manifest(
            [str(write_manifest(table_of("image", "caption")))], ColumnChoice(image="IMAGE")
        )


def test_a_kept_column_that_is_asked_for_twice_is_read_once(write_manifest: Write) -> None:
    manifest = write_manifest(table_of("image", "caption", "id"))
    columns = columns_of(manifest, keep=("id", "caption", "id"))
    assert columns.keep == ("id", "caption")
    assert columns.names == ["image", "caption", "id"]


def test_a_manifest_without_an_image_column_names_the_columns_it_has(write_manifest: Write) -> None:
    with pytest.raises(
        ManifestError, match=r"name it with `image_column`; the columns are photo, words"
    ) as caught:
        open_manifest([str(write_manifest(table_of("photo", "words")))])
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (pa.binary(), [b"one", None], [(b"one", None), (None, None)]),
        (pa.large_binary(), [b"one", None], [(b"one", None), (None, None)]),
        (pa.binary_view(), [b"one", None], [(b"one", None), (None, None)]),
        (pa.string(), ["é.png", None], [(None, "é.png"), (None, None)]),
        (pa.large_string(), ["é.png", None], [(None, "é.png"), (None, None)]),
        (pa.string_view(), ["é.png", None], [(None, "é.png"), (None, None)]),
        (
            pa.dictionary(pa.int32(), pa.string()),
            ["a", None, "a"],
            [(None, "a"), (None, None), (None, "a")],
        ),
        (pa.dictionary(pa.int8(), pa.string()), ["a", None], [(None, "a"), (None, None)]),
        (pa.null(), [None, None], [(None, None), (None, None)]),
        (
            HF_IMAGE,
            [{"bytes": b"x", "path": "p"}, {"bytes": None, "path": "p"}, None],
            [(b"x", "p"), (None, "p"), (None, None)],
        ),
        (
            LARGE_IMAGE,
            [{"bytes": b"x", "path": "p"}, {"bytes": None, "path": "p"}],
            [(b"x", "p"), (None, "p")],
        ),
        (
            VIEW_IMAGE,
            [{"bytes": b"x", "path": "p"}, {"bytes": None, "path": "p"}],
            [(b"x", "p"), (None, "p")],
        ),
        (NULL_PATH, [{"bytes": b"x", "path": None}, None], [(b"x", None), (None, None)]),
        (
            PATH_ALONE,
            [{"path": "p"}, {"path": None}, None],
            [(None, "p"), (None, None), (None, None)],
        ),
        (
            BYTES_ALONE,
            [{"bytes": b"x"}, {"bytes": None}, None],
            [(b"x", None), (None, None), (None, None)],
        ),
    ],
    ids=str,
)
def test_every_accepted_type_of_image_column_is_read_to_the_same_references(
    write_manifest: Write,
    kind: pa.DataType,
    values: list[object],
    expected: list[tuple[bytes | None, str | None]],
) -> None:
    manifest = open_manifest(
        [str(write_manifest(pa.table({"image": pa.array(values, kind)}), row_group_size=2))]
    )
    batches = list(read_segment(manifest, Segment(manifest.files[0], 0, len(values))))
    found = [
        reference for batch in batches for reference in image_references(batch.column("image"))
    ]
    assert found == [ImageReference(data, path) for data, path in expected]


@pytest.mark.parametrize(
    "kind",
    [
        pa.int64(),
        pa.bool_(),
        pa.float32(),
        pa.dictionary(pa.int32(), pa.int64()),
        pa.list_(pa.float32()),
        pa.list_(pa.list_(pa.uint8())),
        pa.list_(pa.list_(pa.list_(pa.uint8()))),
        pa.map_(pa.string(), pa.binary()),
        pa.struct([("pixels", pa.binary())]),
        pa.struct([("bytes", pa.list_(pa.float32())), ("path", pa.int32())]),
        pa.struct([("data", pa.binary()), ("height", pa.int32()), ("mode", pa.int32())]),
    ],
    ids=str,
)
def test_an_image_column_of_another_type_is_refused_by_name_and_type(
    write_manifest: Write, kind: pa.DataType
) -> None:
    path = write_manifest(pa.table({"image": pa.array([None], kind)}))
    stored = pq.read_schema(path).field("image").type
    with pytest.raises(ManifestError) as caught:
        open_manifest([str(path)])
    assert str(caught.value) == (
        f"{path}: column image is {stored}; an image column holds encoded images (bytes, "
        "base64, data: URIs), paths or URIs, also in structs and lists, but no decoded pixels: "
        "name another with `image_column`"
    )


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["a cat", None, ""]),
        (pa.large_string(), ["a cat", None, ""]),
        (pa.string_view(), ["a cat", None, ""]),
        (pa.dictionary(pa.int16(), pa.string()), ["a cat", None, "a cat"]),
        (pa.null(), [None, None]),
    ],
    ids=str,
)
def test_every_accepted_type_of_prompt_column_is_read_to_the_same_texts(
    write_manifest: Write, kind: pa.DataType, values: list[str | None]
) -> None:
    table = pa.table({"image": [b"x"] * len(values), "prompt": pa.array(values, kind)})
    manifest = open_manifest([str(write_manifest(table))])
    batches = list(read_segment(manifest, Segment(manifest.files[0], 0, len(values))))
    assert [text for batch in batches for text in texts(batch.column("prompt"))] == values


@pytest.mark.parametrize(
    "kind",
    [
        pa.int32(),
        pa.binary(3),
        pa.list_(pa.int32()),
        pa.map_(pa.string(), pa.int32()),
        pa.struct([("text", pa.int32())]),
        pa.struct([("one", pa.string()), ("two", pa.string())]),
    ],
    ids=str,
)
def test_a_prompt_column_of_another_type_is_refused_by_name_and_type(
    write_manifest: Write, kind: pa.DataType
) -> None:
    path = write_manifest(pa.table({"image": [b"x"], "prompt": pa.array([None], kind)}))
    with pytest.raises(ManifestError, match="column prompt is .*; a prompt column holds strings"):
        open_manifest([str(path)])


def test_texts_replaces_bytes_that_are_not_utf8_and_keeps_nulls() -> None:
    broken = pa.array([b"caf\xe9", None, b"", "café".encode(), b"\xed\xa0\x80"], pa.binary()).view(
        pa.string()
    )
    expected = ["caf\N{REPLACEMENT CHARACTER}", None, "", "café", "\N{REPLACEMENT CHARACTER}" * 3]
    assert texts(broken) == expected
    assert texts(broken.dictionary_encode()) == expected
    assert texts(broken.slice(1, 3)) == expected[1:4]


def test_a_duplicate_column_name_is_refused_only_if_the_column_is_used(
    write_manifest: Write,
) -> None:
    values = [pa.array(["x"]), pa.array([1]), pa.array([2])]
    path = write_manifest(pa.Table.from_arrays(values, names=["image", "id", "id"]))
    manifest = open_manifest([str(path)])
    assert rows_read(manifest, Segment(manifest.files[0], 0, 1), "image") == ["x"]
    with pytest.raises(ManifestError, match="more than one column named id"):
        open_manifest([str(path)], ColumnChoice(keep=("id",)))
    twice = write_manifest(pa.Table.from_arrays(values, names=["image", "image", "id"]))
    with pytest.raises(ManifestError, match="more than one column named image"):
        open_manifest([str(twice)])


def test_later_files_may_hold_images_and_prompts_in_other_types_and_columns_in_another_order(
    write_manifest: Write,
) -> None:
    first = write_manifest(pa.table({"image": [b"one"], "prompt": ["a"]}), "a.parquet")
    second = write_manifest(
        pa.table(
            {
                "prompt": pa.array(["b"]).dictionary_encode(),
                "image": pa.array([{"bytes": b"two", "path": None}], HF_IMAGE),
            }
        ),
        "b.parquet",
    )
    manifest = open_manifest([str(first), str(second)])
    batches = [
        batch
        for number in (0, 1)
        for batch in read_segment(manifest, Segment(manifest.files[number], 0, 1))
    ]
    assert [image_references(batch.column("image"))[0].data for batch in batches] == [
        b"one",
        b"two",
    ]
    assert [texts(batch.column("prompt")) for batch in batches] == [["a"], ["b"]]


def test_kept_columns_may_differ_in_nullability_and_metadata(
    write_manifest: Write,
) -> None:
    strict = pa.schema([pa.field("image", pa.string()), pa.field("id", pa.int64(), nullable=False)])
    noted = pa.schema(
        [pa.field("image", pa.string()), pa.field("id", pa.int64(), metadata={"unit": "rows"})]
    )
    first = write_manifest(pa.table([["x"], [1]], schema=strict), "a.parquet")
    second = write_manifest(pa.table([["y"], [None]], schema=noted), "b.parquet")
    manifest = open_manifest([str(first), str(second)], ColumnChoice(keep=("id",)))
    batches = [
        batch
        for number in (0, 1)
        for batch in read_segment(manifest, Segment(manifest.files[number], 0, 1))
    ]
    kept = pa.Table.from_batches(
        [manifest.kept(batch) for batch in batches], schema=manifest.keep_schema
    )
    assert kept.column("id").to_pylist() == [1, None]


def test_nested_kept_columns_are_read_unchanged(write_manifest: Write) -> None:
    noon = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    kept = {
        "tags": pa.array([["a", "b"], None, []], pa.list_(pa.string())),
        "box": pa.array([{"x": 1, "tags": [1]}, None, {"x": None, "tags": None}]),
        "seen": pa.array([noon, None, noon], pa.timestamp("ns", "UTC")),
        "dotted.name": pa.array([1.5, None, 2.5]),
        "dotted": pa.array([{"name": 1}, {"name": 2}, None]),
        "codes": pa.array(["x", None, "y"]).dictionary_encode(),
    }
    path = write_manifest(pa.table({"image": ["a", "b", "c"], **kept}), row_group_size=2)
    manifest = open_manifest([str(path)], ColumnChoice(keep=tuple(kept)))
    assert manifest.keep_schema == pa.schema([(name, values.type) for name, values in kept.items()])
    for name, values in kept.items():
        assert rows_read(manifest, Segment(manifest.files[0], 1, 3), name) == values.to_pylist()[1:]


def test_files_come_in_the_order_of_the_paths_and_folders_are_sorted(
    write_manifest: Write, tmp_path: Path
) -> None:
    for name in ("z.parquet", "many/b.parquet", "many/a.parquet", "many/below/c.parquet"):
        write_manifest(table_of("image"), name)
    manifest = open_manifest([str(tmp_path / "z.parquet"), str(tmp_path / "many")])
    names = [Path(file.path).relative_to(tmp_path).as_posix() for file in manifest.files]
    assert names == ["z.parquet", "many/a.parquet", "many/b.parquet", "many/below/c.parquet"]


def test_a_file_that_is_given_twice_is_refused(write_manifest: Write, tmp_path: Path) -> None:
    path = write_manifest(table_of("image"), "many/a.parquet")
    for again in (
        path,
        tmp_path / "many" / ".." / "many" / "a.parquet",
        tmp_path / "many",
        tmp_path / "many" / "*.parquet",
    ):
        with pytest.raises(ManifestError, match=r"a\.parquet: given twice"):
            open_manifest([str(path), str(again)])


def test_hidden_files_and_folders_of_a_folder_are_skipped(
    write_manifest: Write, tmp_path: Path
) -> None:
    for name in (
        "a.parquet",
        "_SUCCESS.parquet",
        ".hidden.parquet",
        "_tmp/b.parquet",
        ".cache/c.parquet",
    ):
        write_manifest(table_of("image"), f"_folder/{name}")
    manifest = open_manifest([str(tmp_path / "_folder")])
    assert [Path(file.path).name for file in manifest.files] == ["a.parquet"]


def test_a_hidden_file_that_is_named_is_read(write_manifest: Write) -> None:
    assert open_manifest([str(write_manifest(table_of("image"), "_named.parquet"))]).rows == 2


def test_empty_files_among_others_stay_in_the_manifest_without_rows(
    write_manifest: Write, tmp_path: Path
) -> None:
    write_manifest(table_of("image", rows=0), "many/a.parquet")
    write_manifest(table_of("image", rows=3), "many/b.parquet", row_group_size=2)
    write_manifest(pa.table({"image": pa.array([], pa.string())}), "many/c.parquet")
    manifest = open_manifest([str(tmp_path / "many")])
    assert [file.rows for file in manifest.files] == [0, 3, 0]
    assert manifest.files[1].row_groups == (2, 1)
    assert manifest.rows == 3


def test_a_manifest_of_only_empty_files_is_refused(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest(table_of("image", rows=0), "many/a.parquet")
    write_manifest(table_of("image", rows=0), "many/b.parquet")
    with pytest.raises(ManifestError, match="many: the manifest has no rows"):
        open_manifest([str(tmp_path / "many")])


def test_the_footer_hash_depends_on_the_content_not_on_the_name(write_manifest: Write) -> None:
    one = write_manifest(table_of("image", "prompt"), "a.parquet")
    same = write_manifest(table_of("image", "prompt"), "b.parquet")
    hashes = {path: open_manifest([str(path)]).files[0].digest for path in (one, same)}
    assert hashes[one] == hashes[same]
    assert len(hashes[one]) == 64


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (pa.table({"image": ["image", "other"]}), {}),
        (table_of("image", rows=3), {}),
        (table_of("image", "id"), {}),
        (table_of("image"), {"row_group_size": 1}),
        (table_of("image"), {"compression": "none"}),
    ],
    ids=[
        "another value",
        "another row",
        "another column",
        "other row groups",
        "another compression",
    ],
)
def test_the_footer_hash_changes_with_the_content(
    write_manifest: Write, table: pa.Table, options: dict[str, object]
) -> None:
    before = open_manifest([str(write_manifest(table_of("image")))]).files[0].digest
    after = open_manifest([str(write_manifest(table, **options))]).files[0].digest
    assert before != after


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Return a manifest with row groups smaller and larger than one read, and an empty one."""
    path = tmp_path_factory.mktemp("grouped") / "m.parquet"
    schema = pa.schema([("image", pa.binary()), ("id", pa.int64())])
    with pq.ParquetWriter(path, schema) as writer:
        start = 0
        for rows in (1, 5, 0, 2 * READ_ROWS + 3, READ_ROWS, 7):
            ids = range(start, start + rows)
            writer.write_table(
                pa.table([[str(row).encode() for row in ids], list(ids)], schema=schema),
                row_group_size=10_000,
            )
            start += rows
    return open_manifest([str(path)], ColumnChoice(keep=("id",)))


@settings(max_examples=60)
@given(st.data())
def test_a_segment_is_exactly_the_rows_asked_for_across_row_groups(
    grouped: Manifest, data: st.DataObject
) -> None:
    assert grouped.files[0].row_groups == (1, 5, 0, 2 * READ_ROWS + 3, READ_ROWS, 7)
    start = data.draw(st.integers(0, grouped.rows - 1))
    stop = data.draw(st.integers(start + 1, grouped.rows))
    batches = list(read_segment(grouped, Segment(grouped.files[0], start, stop)))
    ids = [row for batch in batches for row in batch.column("id").to_pylist()]
    images = [image for batch in batches for image in batch.column("image").to_pylist()]
    assert ids == list(range(start, stop))
    assert images == [str(row).encode() for row in ids]
    assert max(len(batch) for batch in batches) <= READ_ROWS


def test_only_the_manifests_columns_are_read(write_manifest: Write) -> None:
    path = write_manifest(table_of("unused", "image", "id", "prompt"))
    manifest = open_manifest([str(path)], ColumnChoice(keep=("id",)))
    (batch,) = read_segment(manifest, Segment(manifest.files[0], 0, 2))
    assert sorted(batch.schema.names) == ["id", "image", "prompt"]


def _shrink(path: Path) -> None:
    pq.write_table(table_of("image", rows=2), path)


def _replace_with_as_many_rows(path: Path) -> None:
    pq.write_table(pa.table({"image": ["other"] * 8}), path)


def _grow(path: Path) -> None:
    pq.write_table(table_of("image", rows=80), path)


def _rename_column(path: Path) -> None:
    pq.write_table(table_of("photo", rows=8), path)


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _damage_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4] + b"PAR2")


@pytest.mark.parametrize(
    "change",
    [_shrink, _replace_with_as_many_rows, _grow, _rename_column, _cut_in_half, _damage_the_end],
)
def test_a_file_that_changed_since_the_manifest_was_opened_is_not_read(
    write_manifest: Write, change: Callable[[Path], None]
) -> None:
    path = write_manifest(table_of("image", rows=8))
    manifest = open_manifest([str(path)])
    change(path)
    with pytest.raises(AigidError, match="has changed since the scan began") as caught:
        list(read_segment(manifest, Segment(manifest.files[0], 0, 8)))
    assert str(path) in str(caught.value)
    assert caught.value.exit_status == 1


def test_a_removed_file_is_named_with_the_rows_to_read(write_manifest: Write) -> None:
    path = write_manifest(table_of("image", rows=8))
    manifest = open_manifest([str(path)])
    path.unlink()
    with pytest.raises(
        AigidError, match=f"{path}, rows 2 to 5: cannot be read: .*No such file"
    ) as caught:
        list(read_segment(manifest, Segment(manifest.files[0], 2, 5)))
    assert caught.value.exit_status == 1
    with pytest.raises(AigidError, match=f"{path}: cannot be read: "):
        opened(manifest.files[0]).__enter__()


def test_a_damaged_page_is_named_and_the_row_groups_before_it_are_read(
    write_manifest: Write,
) -> None:
    path = write_manifest(table_of("image", rows=20), row_group_size=10, compression="none")
    data = bytearray(path.read_bytes())
    offset = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[offset : offset + 12] = b"\xff" * 12
    path.write_bytes(bytes(data))
    manifest = open_manifest([str(path)])
    assert rows_read(manifest, Segment(manifest.files[0], 0, 10), "image") == ["image"] * 10
    with pytest.raises(
        AigidError, match=f"{path}, rows 5 to 15: cannot be read: .*; repair or replace the file"
    ) as caught:
        list(read_segment(manifest, Segment(manifest.files[0], 5, 15)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a Parquet file: it has 0 bytes"),
        (b"PAR1PAR1", "not a Parquet file: it has 8 bytes"),
        (b"id,image\n1,a.png\n", "not a Parquet file: no Parquet marker at the start or the end"),
        (
            b"PAR1" + b"\0" * 40,
            "not a Parquet file: the end is missing; is the file truncated?",
        ),
        (
            b"PAR1" + b"\xff" * 8 + (8).to_bytes(4, "little") + b"PAR1",
            "not a readable Parquet file: ",
        ),
        (
            b"PAR1" + b"\0" * 8 + (10**9).to_bytes(4, "little") + b"PAR1",
            "not a readable Parquet file: ",
        ),
    ],
)
def test_a_file_that_is_not_parquet_is_refused_with_the_reason(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "m.parquet"
    path.write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        open_manifest([str(path)])
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)


class Footer:
    """A Parquet file with its content and the position of its footer, to be damaged."""

    def __init__(self, path: Path) -> None:
        table = pa.table({"image": [b"abc"] * 20, "prompt": ["x"] * 20, "id": range(20)})
        pq.write_table(table, path, row_group_size=7, compression="none")
        self.path, self.content = path, path.read_bytes()
        self.start = len(self.content) - 8 - int.from_bytes(self.content[-8:-4], "little")


@pytest.fixture(scope="module")
def footer(tmp_path_factory: pytest.TempPathFactory) -> Footer:
    return Footer(tmp_path_factory.mktemp("footer") / "m.parquet")


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_footer_raises_only_errors_of_aigid(footer: Footer, data: st.DataObject) -> None:
    damaged = bytearray(footer.content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(footer.start, len(damaged) - 5))] = data.draw(
            st.integers(0, 255)
        )
    footer.path.write_bytes(bytes(damaged))
    try:
        manifest = open_manifest([str(footer.path)], ColumnChoice(keep=("id",)))
        assert all(rows >= 0 for rows in manifest.files[0].row_groups)
        for _ in read_segment(manifest, Segment(manifest.files[0], 0, min(manifest.rows, 20))):
            pass
    except AigidError as error:
        assert str(footer.path) in str(error)


def test_a_column_name_that_is_not_utf8_is_refused(write_manifest: Write) -> None:
    path = write_manifest(table_of("image", "unused"), store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"unused", b"unus\xe9d"))
    with pytest.raises(ManifestError, match="not a readable Parquet file: .*utf-8"):
        open_manifest([str(path)])


def test_row_counts_that_contradict_each_other_are_refused(write_manifest: Write) -> None:
    path = write_manifest(table_of("image", rows=50), store_schema=False, write_statistics=False)
    whole = path.read_bytes()
    # The file's own row count: Thrift writes 50 as the byte 100, after the field's header.
    at = whole.rindex(b"\x16\x64\x19")
    path.write_bytes(whole[:at] + b"\x16\x66\x19" + whole[at + 3 :])
    assert pq.read_metadata(path).num_rows == 51
    with pytest.raises(
        ManifestError, match="not a readable Parquet file: its row groups have 50 rows, the file 51"
    ):
        open_manifest([str(path)])


def footers_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of each file whose footer is read from now on."""
    read: list[str] = []

    def note(kind: Kind, listed: ListedFile, keep: Sequence[str]) -> ManifestFile:
        read.append(Path(listed.location.text).name)
        return identify(kind, listed, keep)

    monkeypatch.setattr("aigid.manifest.identify", note)
    return read


def test_footers_beyond_the_limit_are_not_read(
    write_manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1000):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number:04}.parquet").write_bytes(b"no Parquet file at all")
    for number in range(3):
        write_manifest(table_of("image", rows=10), f"many/{number:04}.parquet")
    read = footers_read(monkeypatch)
    monkeypatch.setattr("aigid.manifest._THREADS", 1)
    manifest = open_manifest([str(tmp_path / "many")], limit=25)
    assert [Path(file.path).name for file in manifest.files] == [
        "0000.parquet",
        "0001.parquet",
        "0002.parquet",
    ]
    assert len(read) < 10
    with pytest.raises(ManifestError, match=r"0003\.parquet: not a Parquet file"):
        open_manifest([str(tmp_path / "many")], limit=31)


def test_footers_of_unmodified_files_are_not_read_again(
    write_manifest: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        write_manifest(table_of("image", rows=number + 1), f"many/{number}.parquet")
    before = open_manifest([str(tmp_path / "many")]).files
    write_manifest(table_of("image", "id", rows=3), "many/2.parquet")
    os.utime(tmp_path / "many" / "4.parquet", ns=(1, 1))
    read = footers_read(monkeypatch)
    after = open_manifest([str(tmp_path / "many")], known=before).files
    assert sorted(read) == ["0.parquet", "2.parquet", "4.parquet"]
    assert [file for file, old in zip(after, before, strict=True) if file != old] == [after[2]]
    assert after[4].modified_ns == 1
    (tmp_path / "many" / "1.parquet").unlink()
    assert [file.rows for file in open_manifest([str(tmp_path / "many")], known=before).files] == [
        1,
        3,
        4,
        5,
        6,
    ]


def test_missing_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    cases = {
        "gone.parquet": "gone.parquet: no such file or folder",
        "gone/": "gone/: no such file or folder",
        "none": "none: nothing to scan there",
        "*.parquet": r"\*.parquet: nothing to scan there",
    }
    for path, said in cases.items():
        with pytest.raises(ManifestError, match=said):
            open_manifest([f"{tmp_path}/{path}"])


def test_a_dangling_link_in_a_folder_is_an_error(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest(table_of("image"), "many/a.parquet")
    (tmp_path / "many" / "b.parquet").symlink_to(tmp_path / "not-fetched-yet")
    with pytest.raises(ManifestError, match=r"b\.parquet: no such file"):
        open_manifest([str(tmp_path / "many")])


def test_a_link_to_itself_is_an_error_that_names_it(write_manifest: Write, tmp_path: Path) -> None:
    write_manifest(table_of("image"), "many/a.parquet")
    (tmp_path / "many" / "b.parquet").symlink_to("b.parquet")
    with pytest.raises(
        ManifestError, match="b.parquet: cannot be read: .*Too many levels of symbolic links"
    ):
        open_manifest([str(tmp_path / "many")])
