"""Tables of text: exact reads of any rows, odd forms, and refusals that name the line."""

import csv
import io
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigid.errors import AigidError, ManifestError
from aigid.manifest import ColumnChoice, open_manifest, read_segment
from aigid.memory_budget import MemoryBudget
from aigid.sources import Segment, text_tables

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=8)


def read(path: Path, start: int = 0, stop: int | None = None, **choice: Any) -> list[Any]:
    """Return rows of a table as tuples of its image, its prompt and kept columns."""
    manifest = open_manifest([str(path)], ColumnChoice(**choice))
    file = manifest.files[0]
    batches = read_segment(manifest, Segment(file, start, file.rows if stop is None else stop))
    names = manifest.columns.names
    return [tuple(row[name] for name in names) for batch in batches for row in batch.to_pylist()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@settings(max_examples=60)
@given(
    st.lists(st.tuples(CELLS.filter(bool), CELLS), min_size=1, max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.data(),
)
def test_any_rows_of_a_csv_file_are_read_as_they_were_written(
    folder: Path, rows: list[tuple[str, str]], end: str, quoting: int, data: st.DataObject
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    writer.writerow(["image", "prompt"])
    writer.writerows(rows)
    path = folder / "m.csv"
    path.write_bytes(text.getvalue().encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tables, "_BLOCK_ROWS", 3)
        start = data.draw(st.integers(0, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        assert read(path, start, stop) == rows[start:stop]


VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | CELLS


@settings(max_examples=60)
@given(st.lists(st.tuples(CELLS, VALUES), min_size=1, max_size=30), st.data())
def test_any_rows_of_json_lines_are_read_as_they_were_written(
    folder: Path, rows: list[tuple[str, Any]], data: st.DataObject
) -> None:
    path = folder / "m.jsonl"
    lines = [json.dumps({"image": image, "value": value}) for image, value in rows]
    path.write_text("\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tables, "_BLOCK_ROWS", 3)
        start = data.draw(st.integers(0, len(rows)))
        found = read(path, start, keep=("value",))
    wanted = [value for _, value in rows[start:]]
    if len({type(value) for _, value in rows if value is not None}) > 1:
        wanted = [
            value if value is None or isinstance(value, str) else json.dumps(value)
            for value in wanted
        ]
    assert [value for _, value in found] == wanted


def test_a_large_table_has_blocks_of_a_thousand_rows(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("image\n" + "".join(f"{row}.jpg\n" for row in range(2345)))
    manifest = open_manifest([str(path)])
    assert manifest.files[0].row_groups == (1000, 1000, 345)
    assert sum(block.bytes for block in manifest.files[0].blocks) == path.stat().st_size
    assert read(path, 990, 1010) == [(f"{row}.jpg",) for row in range(990, 1010)]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("image;prompt\na.jpg;a, b\n", [("a.jpg", "a, b")]),
        ("url|text\na.jpg|x\n", [("a.jpg", "x")]),
        ("image\tprompt\na.jpg\tx\n", [("a.jpg", "x")]),
        ("\ufeffimage,prompt\r\na.jpg,x\r\n", [("a.jpg", "x")]),
        ('"image","prompt"\n"a.jpg","say ""hi"""\n', [("a.jpg", 'say "hi"')]),
        ('image,prompt\na.jpg,"two\nlines"\nb.jpg,y', [("a.jpg", "two\nlines"), ("b.jpg", "y")]),
        ('image,prompt\na.jpg,a 5" disk\n', [("a.jpg", 'a 5" disk')]),
        ("image,prompt\n\na.jpg,x\n\n\nb.jpg,y\n", [("a.jpg", "x"), ("b.jpg", "y")]),
        ("image,prompt\na.jpg\n", [("a.jpg", None)]),
        (",image,prompt\n0,a.jpg,x\n", [("a.jpg", "x")]),
        ("image , prompt \na.jpg,x\n", [("a.jpg", "x")]),
    ],
)
def test_csv_files_of_many_habits_are_read(
    tmp_path: Path, text: str, rows: list[tuple[str, ...]]
) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode())
    assert read(path) == rows


def test_bytes_that_are_not_utf8_become_replacement_characters(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"image,prompt\na.jpg,caf\xe9\n")
    assert read(tmp_path / "m.csv") == [("a.jpg", "caf\ufffd")]
    (tmp_path / "m.jsonl").write_bytes(b'{"image": "a.jpg", "prompt": "caf\xe9"}\n')
    assert read(tmp_path / "m.jsonl") == [("a.jpg", "caf\ufffd")]


def test_a_cell_as_long_as_an_image_in_base64_is_read(tmp_path: Path) -> None:
    cell = "A" * 3_000_000
    (tmp_path / "m.csv").write_text(f"image,prompt\n{cell},x\nb.jpg,y\n")
    assert [len(image) for image, _ in read(tmp_path / "m.csv")] == [3_000_000, 5]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("m.csv", b"image,prompt\na.jpg,x\nb.jpg,a, b\n", "m.csv, line 3: it has 3 cells, but"),
        ("m.csv", b'image,prompt\na.jpg,"x\nb.jpg,y\n', "m.csv, line 3: not a record .* a double"),
        ("m.csv", b"image,prompt\na.jpg,x\ry\n", "line 2: .* a carriage return in a cell"),
        ("m.csv", b'image,prompt\na.jpg,"x" y\n', "m.csv, line 2: not a record of a CSV file"),
        ("m.csv", "image,prompt\na,x\n".encode("utf-16"), "line 1: .* not text in UTF-8"),
        ("m.csv", b"", "line 0: the first line must name the columns"),
        ("m.csv", b"\nimage\na.jpg\n", "line 1: the first line must name the columns"),
        ("m.csv", b"a.jpg,a cat\nb.jpg,a dog\n", "no column has a usual name for images"),
        ("m.csv", b"image,prompt\n", "the manifest has no rows"),
        ("m.jsonl", b'{"image": "a"}\nnot json\n', "m.jsonl, line 2: not a JSON object: Expecting"),
        ("m.jsonl", b'{"image": "a"}\n["b"]\n', "line 2: not a JSON object: it is a list"),
        ("m.jsonl", b'{"image":\n "a"}\n', "line 1: not a JSON object"),
        ("m.jsonl", b"[" * 100_000, "line 1: not a JSON object"),
        ("m.jsonl", b"\n\n", "no column has a usual name for images"),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(
    tmp_path: Path, name: str, text: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ManifestError, match=said):
        open_manifest([str(tmp_path / name)])


def test_values_of_json_lines_have_the_type_that_fits_all(tmp_path: Path) -> None:
    lines = [
        {"image": "a", "number": 1, "mixed": 1, "late": None, "nested": {"a": 1}},
        {"image": "b", "number": 2.5, "mixed": "x", "late": "y", "nested": {"b": "z"}},
        {"image": "c"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read(path, keep=("number", "mixed", "late", "nested")) == [
        ("a", 1.0, "1", None, {"a": 1, "b": None}),
        ("b", 2.5, "x", "y", {"a": None, "b": "z"}),
        ("c", None, None, None, None),
    ]


@pytest.mark.parametrize("value", ['"\\ud800"', "1e400", "123456789012345678901234567890", "NaN"])
def test_odd_values_of_json_are_no_reason_to_end(tmp_path: Path, value: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{{"image": "a", "x": {value}}}\n{{"image": "b", "x": "y"}}\n')
    assert len(read(path, keep=("x",))) == 2


def test_a_table_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("image\na.jpg\nb.jpg\n")
    manifest = open_manifest([str(path)])
    path.write_text("image\na.jpg\nc.jpg\n")
    with pytest.raises(AigidError, match="has changed since the scan began"):
        list(read_segment(manifest, Segment(manifest.files[0], 0, 2)))
    path.unlink()
    with pytest.raises(AigidError, match="cannot be read"):
        list(read_segment(manifest, Segment(manifest.files[0], 0, 2)))


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aigid.sources.lines.MAX_LINE_BYTES", 3 << 20)
    (tmp_path / "m.csv").write_bytes(b"image" + b"x" * (5 << 20))
    with pytest.raises(ManifestError, match="a line has more than 3 MiB: is it a text file?"):
        open_manifest([str(tmp_path / "m.csv")])


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_the_memory_of_planning_does_not_grow_with_large_rows(tmp_path: Path, ending: str) -> None:
    path, large = tmp_path / f"m.{ending}", "A" * 3_000_000
    line = f"{large}\n" if ending == "csv" else json.dumps({"image": large}) + "\n"
    path.write_text(("image\n" if ending == "csv" else "") + line * 30)
    tracemalloc.start()
    try:
        assert open_manifest([str(path)]).rows == 30
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A row as bytes, text and the 4-byte characters of CSV's parser.
    assert peak_bytes < 15 * len(large)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_large_row_waits_for_the_memory_that_images_use(tmp_path: Path, ending: str) -> None:
    path, large = tmp_path / f"m.{ending}", "A" * 9_000_000
    line = f"{large}\n" if ending == "csv" else json.dumps({"image": large}) + "\n"
    path.write_text(("image\n" if ending == "csv" else "") + line)
    budget = MemoryBudget(100_000_000)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(text_tables, "LARGE_ROWS", budget)
        with budget.reserve(100_000_000):
            rows = pool.submit(read, path)
            while not budget._waiting:
                assert not rows.done()
        assert rows.result(timeout=30) == [(large,)]
