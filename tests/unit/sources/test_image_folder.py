"""Folders of images: their order, their captions, and metadata beside them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.manifests import encoded_image

from aigid.errors import ManifestError
from aigid.fetch import FetchPolicy, fetch_image, image_references
from aigid.manifest import Manifest, image_root, open_manifest, read_segment
from aigid.shards import plan_shards
from aigid.sources import ManifestFiles, Segment
from aigid.storage import locate

Make = Callable[..., None]


def rows_of(manifest: Manifest) -> list[dict[str, object]]:
    return [
        row
        for file in manifest.files
        for batch in read_segment(manifest, Segment(file, 0, file.rows))
        for row in batch.to_pylist()
    ]


def captions(path: str = "s") -> dict[object, object]:
    manifest = open_manifest([path])
    prompt = manifest.columns.prompt
    return {row["image"]: row[prompt] if prompt else None for row in rows_of(manifest)}


def test_images_are_rows_in_the_order_of_their_paths(make: Make) -> None:
    make("s/b.jpg", "s/a/z.png", "s/a.webp", "s/a-b.gif", "s/a/x/y.JPG")
    manifest = open_manifest(["s"])
    names = ["a-b.gif", "a.webp", "a/x/y.JPG", "a/z.png", "b.jpg"]
    assert [row["image"] for row in rows_of(manifest)] == names
    assert manifest.columns.prompt is None
    assert manifest.rows == 5


def test_a_caption_lies_beside_its_image(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/b.png", "s/x/a.jpg", "s/c.jpg", "s/README.txt", "s/d.v1.jpg")
    (here / "s/a.txt").write_text("\ufeff a cat\n", encoding="utf-8")
    (here / "s/x/a.TXT").write_text("another cat")
    (here / "s/d.v1.txt").write_bytes(b"caf\xe9")
    assert captions() == {
        "a.jpg": "a cat",
        "b.png": None,
        "c.jpg": None,
        "d.v1.jpg": "caf\ufffd",
        "x/a.jpg": "another cat",
    }


def test_a_text_file_that_belongs_to_no_image_makes_no_prompts(make: Make) -> None:
    make("s/a.jpg", "s/README.txt")
    assert open_manifest(["s"]).columns.prompt is None


def test_captions_of_globs_and_of_single_images_are_found(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/b.jpg")
    (here / "s/a.txt").write_text("a cat")
    assert captions("s/*.jpg") == {"a.jpg": "a cat", "b.jpg": None}
    assert captions("s/a.jpg") == {"a.jpg": "a cat"}


def test_a_caption_that_is_a_link_out_of_the_folder_is_not_read(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/b.jpg", "secret", "s/inside.md")
    (here / "s/a.txt").symlink_to(here / "secret")
    (here / "s/b.txt").symlink_to("inside.md")
    assert captions() == {"a.jpg": None, "b.jpg": "s/inside.md"}


def write_metadata(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_metadata_describes_the_images_beside_it(make: Make, here: Path, ending: str) -> None:
    make("s/a.jpg", "s/b.jpg", "s/x/c.jpg")
    rows = [
        {"file_name": "x/c.jpg", "text": "three", "label": 3},
        {"file_name": "a.jpg", "text": "one", "label": 1},
    ]
    write_metadata(here / f"s/metadata.{ending}", rows)
    assert captions() == {"a.jpg": "one", "b.jpg": None, "x/c.jpg": "three"}
    assert "label" in open_manifest(["s"]).schema.names


def test_each_split_may_have_metadata_of_its_own(make: Make, here: Path) -> None:
    make("s/train/a.jpg", "s/test/a.jpg")
    write_metadata(here / "s/train/metadata.jsonl", [{"file_name": "a.jpg", "text": "train"}])
    write_metadata(here / "s/test/metadata.csv", [{"file_name": "./a.jpg", "text": "test"}])
    assert captions() == {"test/a.jpg": "test", "train/a.jpg": "train"}


def test_a_row_of_metadata_is_never_lost(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/b.jpg")
    rows = [
        {"file_name": "b.jpg", "text": "one"},
        {"file_name": "gone.jpg", "text": "two"},
        {"file_name": "b.jpg", "text": "three"},
    ]
    write_metadata(here / "s/metadata.csv", rows)
    found = [(row["image"], row["text"]) for row in rows_of(open_manifest(["s"]))]
    assert found == [("a.jpg", None), ("b.jpg", "one"), ("b.jpg", "three"), ("gone.jpg", "two")]


def test_metadata_wins_over_text_files(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/a.txt")
    write_metadata(here / "s/metadata.csv", [{"file_name": "a.jpg", "text": "from metadata"}])
    assert captions() == {"a.jpg": "from metadata"}


def test_metadata_without_names_of_files_is_refused(make: Make, here: Path) -> None:
    make("s/a.jpg")
    write_metadata(here / "s/metadata.csv", [{"name": "a.jpg", "text": "x"}])
    with pytest.raises(ManifestError, match=r"metadata.csv: no column file_name .* name, text"):
        open_manifest(["s"])


ODD_NAMES = [b"caf\xe9", b"\xff", b"\xed\xa0\x80", b" a", b"a ", b"a#?%", b"a/\xe9", b"\xe9/a"]


@pytest.mark.parametrize("name", [os.fsdecode(name) for name in ODD_NAMES])
@pytest.mark.parametrize("path", ["s", "s/**", "both"])
def test_an_image_of_any_name_has_its_caption(here: Path, name: str, path: str) -> None:
    image = here / "s" / f"{name}.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(encoded_image(1))
    image.with_suffix(".txt").write_text("a cat")
    (here / "s" / "b.jpg").write_bytes(encoded_image(2))
    paths = ["s"] if path == "both" else [path]
    if path == "both":
        (here / "t").mkdir()
        (here / "t" / "c.jpg").write_bytes(encoded_image(3))
        paths.append("t")
    manifest = open_manifest(paths)
    found = {}
    for file in manifest.files:
        for batch in read_segment(manifest, Segment(file, 0, file.rows)):
            prompts = batch.column("txt").to_pylist()
            for reference, prompt in zip(
                image_references(batch.column("image")), prompts, strict=True
            ):
                data = fetch_image(reference, FetchPolicy(image_root(file)))
                found[data] = prompt
    assert found.pop(encoded_image(1)) == "a cat"
    assert set(found.values()) == {None}
    assert len(found) == len(paths)


def test_a_folder_that_is_called_as_a_caption_is_none(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/a.txt/b")
    assert captions("s/*.jpg") == {"a.jpg": None}


@pytest.mark.parametrize(
    "name", [" a.jpg", "a .jpg ", "100%.jpg", "a#1?.jpg", "é\u3000.jpg", "~a.jpg"]
)
def test_an_image_of_any_name_is_read(here: Path, name: str) -> None:
    (here / "s").mkdir()
    name = name if name.endswith(".jpg") else f"{name}.jpg"
    (here / "s" / name).write_bytes(encoded_image(1))
    manifest = open_manifest(["s"])
    (batch,) = read_segment(manifest, Segment(manifest.files[0], 0, 1))
    (reference,) = image_references(batch.column("image"))
    policy = FetchPolicy(image_root(manifest.files[0]))
    assert fetch_image(reference, policy) == encoded_image(1)


def test_many_images_are_runs_that_are_read_anywhere(here: Path) -> None:
    (here / "s").mkdir()
    for number in range(2500):
        (here / "s" / f"{number:05}.jpg").touch()
    manifest = open_manifest(["s"])
    assert [(file.first_row, file.rows) for file in manifest.files] == [
        (0, 1000),
        (1000, 1000),
        (2000, 500),
    ]
    names = []
    for shard in plan_shards(manifest.files, 300):
        for segment in shard.segments:
            for batch in read_segment(manifest, segment):
                assert len(batch) <= 128
                names += batch.column("image").to_pylist()
    assert names == [f"{number:05}.jpg" for number in range(2500)]


def test_two_globs_of_one_folder_number_its_rows_once(make: Make) -> None:
    make("s/a.jpg", "s/b.png", "s/c.png")
    files = open_manifest(["s/*.png", "s/*.jpg"]).files
    assert [(file.path, file.first_row, file.rows) for file in files] == [("s", 0, 2), ("s", 2, 1)]


def test_the_record_of_a_folder_tells_another_content(make: Make, here: Path) -> None:
    make("s/a.jpg", "s/b.jpg")
    before = open_manifest(["s"]).files
    assert ManifestFiles.from_bytes(before.to_bytes()) == before == open_manifest(["s"]).files
    (here / "s/b.jpg").rename(here / "s/c.jpg")
    assert open_manifest(["s"]).files != before
    assert locate("s").text == before[0].path
