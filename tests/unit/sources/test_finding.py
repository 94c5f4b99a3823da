"""What a path names as a manifest: the kind of its files, and what is left out."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image
from support.source_forms import add_member

from aigid.errors import ManifestError
from aigid.manifest import Manifest, open_manifest, read_segment
from aigid.sources import FoundFile, Kind, Segment, find_sources

Make = Callable[..., None]


def found_in(path: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the kind and path of each file that a path names, and the notes."""
    notes: list[str] = []
    found = [
        (str(one.kind), one.file.location.text if isinstance(one, FoundFile) else one.path)
        for one in find_sources(path, notes.append)
    ]
    return found, notes


def rows_of(manifest: Manifest) -> list[dict[str, object]]:
    return [
        row
        for file in manifest.files
        for batch in read_segment(manifest, Segment(file, 0, file.rows))
        for row in batch.to_pylist()
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.parquet", "parquet"),
        ("a.PQ", "parquet"),
        ("a.snappy.parq", "parquet"),
        ("a.csv", "csv"),
        ("a.CSV", "csv"),
        ("a.tsv", "tsv"),
        ("a.jsonl", "json lines"),
        ("a.ndjson", "json lines"),
        ("a.tar", "tar"),
        ("a.TAR.GZ", "tar"),
        ("a.tgz", "tar"),
        ("a.jpg", "images"),
        ("a.b.JPEG", "images"),
        ("a.heic", "images"),
        ("a.jxl", "images"),
    ],
)
def test_the_ending_of_a_name_tells_what_a_file_is(make: Make, name: str, kind: str) -> None:
    make(f"set/{name}")
    found, notes = found_in("set")
    assert [kind for kind, _ in found] == [kind]
    assert not notes


def test_a_folder_is_scanned_as_parquet_then_tars_then_images_then_tables(make: Make) -> None:
    make("s/a.jpg", "s/b.tar", "s/c.csv", "s/d.parquet", "s/e.jsonl")
    for name, kind in (("d.parquet", "parquet"), ("b.tar", "tar"), ("a.jpg", "images")):
        found, notes = found_in("s")
        assert {one for one, _ in found} == {kind}
        assert notes or kind == "parquet"
        Path("s", name).unlink()
    assert [kind for kind, _ in found_in("s")[0]] == ["csv"]


def test_what_lies_beside_the_images_is_counted(make: Make) -> None:
    make("s/a.jpg", "s/a.txt", "s/metadata.csv", "s/x/b.tsv", "s/x/c.mov", "s/d.mov", "s/LICENSE")
    Path("s/metadata.csv").write_text("file_name\na.jpg\n")
    _, notes = found_in("s")
    assert notes == [
        "s: its images are scanned, and what else lies there is not: 1 tsv, 2 .mov, 1 no ending"
    ]


def test_hidden_files_and_the_notes_of_writers_are_left_out(make: Make) -> None:
    make("s/.a.parquet", "s/._b.jpg", "s/_SUCCESS", "s/_temporary/c.parquet", "s/d.parquet")
    assert found_in("s") == ([("parquet", "s/d.parquet")], [])


def test_an_image_may_begin_with_an_underscore(make: Make) -> None:
    make("s/_DSC0001.JPG")
    assert [row["image"] for row in rows_of(open_manifest(["s"]))] == ["_DSC0001.JPG"]


def test_a_table_of_metadata_without_images_beside_it_is_a_manifest(here: Path) -> None:
    pq.write_table(pa.table({"file_name": ["a.jpg"]}), here / "metadata.parquet")
    assert found_in(".")[0] == [("parquet", "metadata.parquet")]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (encoded_image(1), "images"),
        (encoded_image(1, kind="JPEG"), "images"),
        (encoded_image(1, kind="WEBP"), "images"),
        (encoded_image(1, kind="GIF"), "images"),
        (encoded_image(1, kind="AVIF"), "images"),
        (b'{"image": "a.jpg"}\n', "json lines"),
        (b'\xef\xbb\xbf\n {"image": "a.jpg"}\n', "json lines"),
    ],
)
@pytest.mark.parametrize("name", ["data", "data.json", "data.bin"])
def test_the_content_tells_where_the_name_does_not(
    here: Path, name: str, content: bytes, kind: str
) -> None:
    (here / name).write_bytes(content)
    for path in (name, "dat*"):
        assert [one for one, _ in found_in(path)[0]] == [kind]


def test_a_parquet_file_and_a_tar_are_known_without_an_ending(here: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"]}), here / "part-0")
    with tarfile.open(here / "part-1", "w") as tar:
        add_member(tar, "a.jpg", encoded_image(1))
    assert found_in("part-*")[0] == [("parquet", "part-0"), ("tar", "part-1")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("notes.docx", b"PK\x03\x04", "not a manifest: a manifest is a Parquet, CSV, TSV or JSON"),
        ("clip.mp4", b"\0\0\0\x18ftypisom", "not a manifest: a manifest is"),
        ("data.json", b'[{"image": "a"}]', "write a JSON array as one object a line"),
        ("pairs.csv.gz", b"\x1f\x8b\x08\x00", "or a folder or glob of these; decompress it first"),
        ("empty", b"", "not a manifest"),
        ("list.txt", b"a.jpg\nb.jpg\n", 'give a list of paths a first line "image"'),
        ("photos.zip", b"PK\x03\x04", "unpack it first"),
        ("table.xlsx", b"PK\x03\x04", "save a spreadsheet as CSV"),
        ("rows.jsonl.zst", b"\x28\xb5\x2f\xfd", "decompress it first"),
        ("data.arrow", b"ARROW1\0\0", "convert it to Parquet"),
    ],
)
def test_what_is_no_manifest_says_what_would_be(
    here: Path, name: str, content: bytes, said: str
) -> None:
    (here / name).write_bytes(content)
    with pytest.raises(ManifestError, match=said):
        open_manifest([name])


def test_a_folder_without_anything_to_scan_says_what_would_be(make: Make) -> None:
    make("s/notes.docx", "s/.hidden.jpg")
    with pytest.raises(ManifestError, match="s: nothing to scan there: a manifest is a Parquet"):
        open_manifest(["s"])


def test_files_of_several_kinds_are_one_manifest_if_they_are_named(here: Path) -> None:
    pq.write_table(pa.table({"image": ["a.jpg"]}), here / "a.parquet")
    (here / "b.csv").write_text("image\nb.jpg\n")
    (here / "c.jsonl").write_text(json.dumps({"image": "c.jpg"}))
    manifest = open_manifest(["a.parquet", "b.csv", "c.jsonl"])
    assert [row["image"] for row in rows_of(manifest)] == ["a.jpg", "b.jpg", "c.jpg"]
    assert [file.kind for file in manifest.files] == [Kind.PARQUET, Kind.CSV, Kind.JSON_LINES]


def test_a_link_that_leads_nowhere_is_an_image_that_is_missing_later(here: Path) -> None:
    (here / "s").mkdir()
    for name, target in (("a", "gone"), ("b", "b.jpg"), ("c", "/dev/null/x")):
        (here / "s" / f"{name}.jpg").symlink_to(target)
    os.mkfifo(here / "s" / "d.jpg")
    (here / "s" / "e.jpg").symlink_to("d.jpg")
    rows = rows_of(open_manifest(["s"]))
    assert [row["image"] for row in rows] == ["a.jpg", "b.jpg", "c.jpg"]
