"""Prompts and thumbnails: from any kind of manifest, and what is gone says why."""

import base64
import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.manifests import encoded_image
from support.report_results import Made, ResultRow, report_results

from aigid.errors import AigidError
from aigid.records import ErrorCode, RowFailure
from aigid.report import ReportConfig
from aigid.report.cards import Card, read_cards
from aigid.report.images import thumbnail, with_images
from aigid.report.opened import OpenedResults, open_for_report
from aigid.report.patience import Patience
from aigid.report.selection import Chosen


def opened_of(folder: Path, rows: list[ResultRow], made: Made = Made()) -> OpenedResults:
    return open_for_report(ReportConfig(str(report_results(folder, rows, made))))


def cards_of(opened: OpenedResults, *places: int, thumbnails: bool = True) -> list[Card]:
    rows = [Chosen(place // 10_000, place % 10_000) for place in places]
    cards = with_images(opened, read_cards(opened, rows), thumbnails=thumbnails)
    return [cards[row] for row in rows]


def pixels_of(uri: str | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert uri is not None and uri.startswith("data:image/webp;base64,")
    data = base64.b64decode(uri.partition(",")[2], validate=True)
    image = Image.open(io.BytesIO(data))
    assert image.format == "WEBP"
    return np.asarray(image.convert("RGB"))


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (60, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_thumbnails_are_those_of_their_rows(tmp_path: Path) -> None:
    rows = [ResultRow(image=plain((10 * row, 0, 0)), prompt=f"row {row}") for row in range(20)]
    opened = opened_of(tmp_path, rows, Made(row_group_rows=6))
    for place, card in zip((19, 0, 7, 8), cards_of(opened, 19, 0, 7, 8), strict=True):
        assert (card.row, card.prompt, card.reason) == (place, f"row {place}", None)
        pixels = pixels_of(card.thumbnail)
        assert pixels.shape == (192, 192, 3)
        assert abs(int(pixels[..., 0].mean()) - 10 * place) < 6


def test_paths_are_fetched_by_the_scan_s_own_rules(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded_image(1))
    (tmp_path / "outside.png").write_bytes(encoded_image(1))
    rows = [
        ResultRow(image="a.png"),
        ResultRow(image="../outside.png"),
        ResultRow(image="http://127.0.0.1:9/a.png"),
        ResultRow(image="gone.png"),
    ]
    opened = opened_of(tmp_path, rows, Made(manifest="in/manifest.parquet"))
    there, outside, private, gone = cards_of(opened, 0, 1, 2, 3)
    assert there.thumbnail and there.image == "a.png"
    assert "outside" in str(outside.reason) and not outside.thumbnail
    assert "private" in str(private.reason) or "loopback" in str(private.reason)
    assert "No such file" in str(gone.reason)
    settings = replace(opened.scan.settings, allow_outside_root=True)
    allowing = replace(opened, scan=replace(opened.scan, settings=settings))
    assert cards_of(allowing, 1)[0].thumbnail


def gone(path: Path) -> None:
    path.unlink()


def another(path: Path) -> None:
    pq.write_table(pa.table({"Image": [b"x"], "Caption": ["y"]}), path)


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("change", [gone, another, shorter])
def test_a_manifest_that_changed_or_went_leaves_the_reason(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    opened = opened_of(tmp_path, [ResultRow(), ResultRow()])
    change(tmp_path / "manifest.parquet")
    for card in cards_of(opened, 0, 1):
        assert card.thumbnail is None and not card.has_prompt
        assert "manifest.parquet" in str(card.reason)


def test_null_and_damaged_images_leave_the_reason(tmp_path: Path) -> None:
    rows = [ResultRow(image=b""), ResultRow(image=b"no image"), ResultRow(prompt=None)]
    empty, damaged, without_prompt = cards_of(opened_of(tmp_path, rows), 0, 1, 2)
    assert empty.reason == "zero bytes"
    assert str(damaged.reason).startswith("not an image that aigid reads, but: text")
    assert without_prompt.thumbnail and without_prompt.has_prompt
    assert without_prompt.prompt is None


def test_without_thumbnails_prompts_are_there_and_nothing_is_fetched(tmp_path: Path) -> None:
    opened = opened_of(tmp_path, [ResultRow(image="http://127.0.0.1:9/a.png", prompt="a car")])
    (card,) = cards_of(opened, 0, thumbnails=False)
    assert (card.prompt, card.thumbnail, card.reason) == ("a car", None, None)


def bomb(width: int, height: int) -> bytes:
    """A PNG that says of itself to be huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1_000_000)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("size", [(100_000, 100_000), (9000, 9000), (2**31 - 1, 1)])
def test_an_image_that_would_need_much_memory_is_left_out(size: tuple[int, int]) -> None:
    with pytest.raises(RowFailure) as failed:
        thumbnail(bomb(*size))
    assert failed.value.error.code in (ErrorCode.TOO_LARGE, ErrorCode.UNDECODABLE)


def test_a_report_gives_up_a_place_that_fails_and_looks_at_others() -> None:
    patience = Patience()
    for _ in range(3):
        with pytest.raises(RowFailure), patience.with_place("slow.example"):
            raise RowFailure(ErrorCode.TIMEOUT, "no answer")
    with (
        pytest.raises(AigidError, match=r"slow\.example failed 3 times"),
        patience.with_place("slow.example"),
    ):
        raise AssertionError("it is not asked again")
    with patience.with_place("other.example"), patience.with_place(None):
        pass


def test_a_missing_image_is_no_failure_of_its_place() -> None:
    patience = Patience()
    for _ in range(10):
        with pytest.raises(RowFailure), patience.with_place("example"):
            raise RowFailure(ErrorCode.MISSING, "no such object")


def test_after_its_time_a_report_looks_nothing_up() -> None:
    with pytest.raises(AigidError, match="not looked up: 0 s"):
        Patience(most_s=0).check()
