"""WebDataset tars: their samples as rows, and damage that is never taken for an end."""

import gzip
import io
import json
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.manifests import encoded_image
from support.source_forms import add_member, pairs, write_tar

from aigid.errors import AigidError, ManifestError
from aigid.manifest import ColumnChoice, Manifest, open_manifest, read_segment
from aigid.shards import plan_shards
from aigid.sources import Segment, tars

Members = list[tuple[str, bytes]]
IMAGE = encoded_image(1)


def write(path: Path, members: Members) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add_member(tar, name, data)
    return path


def rows_of(path: Path, **choice: Any) -> list[dict[str, Any]]:
    manifest = open_manifest([str(path)], ColumnChoice(**choice))
    return read(manifest, Segment(manifest.files[0], 0, None))


def read(manifest: Manifest, segment: Segment) -> list[dict[str, Any]]:
    return [row for batch in read_segment(manifest, segment) for row in batch.to_pylist()]


def shown(path: Path) -> list[tuple[str, str | None]]:
    return [(row["image"]["path"], row["prompt"]) for row in rows_of(path)]


def test_a_sample_is_an_image_and_its_text(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.tar",
        [
            ("a/000.jpg", IMAGE),
            ("a/000.txt", b" a cat\n"),
            ("a/001.json", b'{"caption": "a dog", "id": 7}'),
            ("a/001.png", IMAGE),
            ("b/001.webp", IMAGE),
            ("c.cls", b"5"),
        ],
    )
    assert shown(path) == [("a/000.jpg", "a cat"), ("a/001.png", "a dog"), ("b/001.webp", None)]
    assert {row["image"]["bytes"] for row in rows_of(path)} == {IMAGE}


def test_every_image_of_a_sample_is_a_row(tmp_path: Path) -> None:
    members = [("0.txt", b"x"), ("0.left.jpg", IMAGE), ("0.right.jpg", IMAGE), ("1.JPEG", IMAGE)]
    path = write(tmp_path / "m.tar", members)
    assert shown(path) == [("0.left.jpg", "x"), ("0.right.jpg", "x"), ("1.JPEG", None)]


def test_many_large_images_of_one_sample_wait_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bound in ("_HELD_BYTES", "_READ_BYTES"):
        monkeypatch.setattr(tars, bound, 1_000_000)
    members: Members = [(f"a.{number}.jpg", bytes([number]) * 400_000) for number in range(30)]
    path = write(tmp_path / "m.tar", [*members, ("a.txt", b"a caption"), ("b.jpg", b"b")])
    manifest = open_manifest([str(path)])
    tracemalloc.start()
    try:
        rows = 0
        for batch in read_segment(manifest, Segment(manifest.files[0], 0, None)):
            for row in batch.to_pylist():
                number = len(members) if row["image"]["path"] == "b.jpg" else rows
                expected = bytes([number]) * 400_000 if number < len(members) else b"b"
                assert row["image"]["bytes"] == expected
                assert row["prompt"] == ("a caption" if number < len(members) else None)
                rows += 1
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == 31
    assert peak_bytes < 8_000_000


def test_values_of_the_json_object_are_columns_of_strings(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m.tar",
        [
            ("0.jpg", IMAGE),
            ("0.json", json.dumps({"url": "u", "n": 1.5, "tags": ["a"], "prompt": "p"}).encode()),
            ("1.jpg", IMAGE),
            ("1.json", b"not json"),
            ("2.jpg", IMAGE),
            ("2.json", b'["a list"]'),
        ],
    )
    rows = rows_of(path, keep=("url", "n", "tags"))
    found = [(row["prompt"], row["url"], row["n"], row["tags"]) for row in rows]
    assert found == [("p", "u", "1.5", '["a"]'), (None,) * 4, (None,) * 4]
    with pytest.raises(ManifestError, match="no column named id; the columns are image, prompt,"):
        open_manifest([str(path)], ColumnChoice(keep=("id",)))


@pytest.mark.parametrize(
    ("name", "mode"), [("m.tar", "w"), ("m.tar.gz", "w:gz"), ("m.tgz", "w:gz")]
)
def test_tars_are_read_whole_and_in_part(tmp_path: Path, name: str, mode: str) -> None:
    write_tar(tmp_path / name, pairs(300), mode=mode)
    manifest = open_manifest([str(tmp_path / name)])
    assert not manifest.files[0].has_known_rows
    whole = read(manifest, Segment(manifest.files[0], 0, None))
    assert [row["image"]["path"] for row in whole] == [name for name, _, _ in pairs(300)]
    assert read(manifest, Segment(manifest.files[0], 120, 131)) == whole[120:131]
    (shard,) = plan_shards(manifest.files, 10_000)
    assert not shard.has_known_rows


def test_with_a_limit_the_rows_of_tars_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", pairs(10), 10 * number)
    files = open_manifest([str(tmp_path)], limit=15).files
    assert [file.rows for file in files] == [10, 5]
    assert [shard.rows for shard in plan_shards(files, 6, 15)] == [5, 5, 5]


def test_members_that_are_no_files_are_rows_without_an_image(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "m.tar", "w") as tar:
        add_member(tar, "0.jpg", IMAGE)
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE), 1):
            link = tarfile.TarInfo(f"{number}.jpg")
            link.type, link.linkname = kind, "0.jpg"
            tar.addfile(link)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    images = [row["image"] for row in rows_of(tmp_path / "m.tar")]
    assert [(image["path"], image["bytes"]) for image in images] == [
        ("0.jpg", IMAGE),
        ("1.jpg", None),
        ("2.jpg", None),
    ]


def truncated(data: bytes) -> bytes:
    return data[:9000]


def cut_after_a_member(data: bytes) -> bytes:
    return data[: -tarfile.RECORDSIZE + 1024].rstrip(b"\0")[:-1]


def without_its_end(data: bytes) -> bytes:
    content = len(data.rstrip(b"\0"))
    return data[: -(-content // 512) * 512]


def with_a_damaged_header(data: bytes) -> bytes:
    at = data.index(b"00002.png")
    return data[:at] + b"\xff" + data[at + 1 :]


def twice(data: bytes) -> bytes:
    return data + data


DAMAGES: list[Callable[[bytes], bytes]] = [
    truncated,
    cut_after_a_member,
    without_its_end,
    with_a_damaged_header,
    twice,
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_damaged_tar_ends_in_an_error_not_in_fewer_rows(
    tmp_path: Path, ending: str, damage: Callable[[bytes], bytes]
) -> None:
    write_tar(tmp_path / "whole.tar", pairs(5))
    data = damage((tmp_path / "whole.tar").read_bytes())
    path = tmp_path / f"m.{ending}"
    path.write_bytes(gzip.compress(data) if ending == "tar.gz" else data)
    manifest = open_manifest([str(path)])
    with pytest.raises(AigidError, match=rf"{path.name}: cannot be read: .*repair or replace"):
        read(manifest, Segment(manifest.files[0], 0, None))


def test_a_truncated_gzip_stream_is_an_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "m.tar.gz", pairs(50), mode="w:gz")
    data = (tmp_path / "m.tar.gz").read_bytes()
    (tmp_path / "m.tar.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(AigidError, match="Truncated compressed stream"):
        manifest = open_manifest([str(tmp_path / "m.tar.gz")])
        read(manifest, Segment(manifest.files[0], 0, None))


@pytest.mark.parametrize(
    "content", [b"", b"no tar at all " * 100, IMAGE, gzip.compress(b"x", mtime=0)]
)
@pytest.mark.parametrize("name", ["m.tar", "m.tgz"])
def test_what_is_no_tar_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ManifestError, match=rf"{name}: not a readable tar"):
        open_manifest([str(tmp_path / name)])


def test_a_tar_that_changes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tar", [("0.jpg", IMAGE)])
    manifest = open_manifest([str(path)])
    write(path, [("1.jpg", IMAGE)])
    with pytest.raises(AigidError, match="has changed since the scan began"):
        read(manifest, Segment(manifest.files[0], 0, None))


def test_names_and_texts_that_are_not_utf8_have_replacement_characters(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        add_member(tar, "caf\udce9.jpg", IMAGE)
        add_member(tar, "caf\udce9.txt", b"caf\xe9")
    (tmp_path / "m.tar").write_bytes(buffer.getvalue())
    assert shown(tmp_path / "m.tar") == [("caf\ufffd.jpg", "caf\ufffd")]
