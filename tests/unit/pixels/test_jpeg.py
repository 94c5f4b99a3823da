"""JPEGs: damage as the decoder tells of it, and bounds on the work that a file asks for."""

import io
import sys

import numpy as np
import pytest
from PIL import Image
from support.image_files import (
    END_OF_JPEG,
    encoded,
    exif_of,
    jpeg_segments,
    noise_image,
    smooth_image,
)

from aigid.contract import ImageSpec, Resizing
from aigid.pixels import DecodeLimits, decode_image
from aigid.records import ErrorCode, RowFailure

SPEC = ImageSpec(size=32)
WHOLE = ImageSpec(size=32, resizing=Resizing.NATIVE_CROP)
START_OF_SCAN = 0xDA


def refusal(data: bytes, limits: DecodeLimits = DecodeLimits()) -> tuple[ErrorCode, str]:
    with pytest.raises(RowFailure) as caught:
        decode_image(data, SPEC, limits)
    return caught.value.error.code, caught.value.error.detail


KINDS = {
    "baseline": encoded(noise_image(160, 120), "JPEG"),
    "4:4:4": encoded(noise_image(160, 120), "JPEG", subsampling=0),
    "restarts": encoded(noise_image(160, 120), "JPEG", restart_marker_blocks=2),
    "grey": encoded(noise_image(160, 120).convert("L"), "JPEG"),
    "cmyk": encoded(noise_image(160, 120).convert("CMYK"), "JPEG"),
    "progressive": encoded(noise_image(160, 120), "JPEG", progressive=True),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, 0.8, 0.97])
def test_a_jpeg_that_was_cut_short_and_closed_is_undecodable(kind: str, share: float) -> None:
    data = KINDS[kind]
    code, _ = refusal(data[: int(len(data) * share)] + END_OF_JPEG)
    assert code is ErrorCode.UNDECODABLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_marker_is_scored(kind: str, missing: int) -> None:
    data = KINDS[kind]
    assert data.endswith(END_OF_JPEG)
    cut = decode_image(data[:-missing], WHOLE)
    assert np.array_equal(cut, decode_image(data, WHOLE))


def test_a_progressive_jpeg_whose_last_scans_are_missing_is_undecodable() -> None:
    data = KINDS["progressive"]
    for start, _ in jpeg_segments(data, START_OF_SCAN)[1:]:
        code, detail = refusal(data[:start] + END_OF_JPEG)
        assert (code, "scans are missing" in detail) == (ErrorCode.UNDECODABLE, True)


@pytest.mark.parametrize("kind", ["baseline", "4:4:4", "grey", "restarts", "progressive"])
def test_zeros_in_the_middle_of_a_jpeg_make_it_undecodable(kind: str) -> None:
    data = KINDS[kind]
    middle = len(data) // 2
    code, _ = refusal(data[:middle] + bytes(1000) + data[middle + 1000 :])
    assert code is ErrorCode.UNDECODABLE


def test_padding_before_the_end_marker_is_no_damage() -> None:
    data = KINDS["baseline"]
    padded = data[:-2] + bytes(22) + END_OF_JPEG
    assert np.array_equal(decode_image(padded, WHOLE), decode_image(data, WHOLE))
    code, detail = refusal(data[:-2] + bytes(range(22)) + END_OF_JPEG)
    assert (code, "extraneous" in detail) == (ErrorCode.UNDECODABLE, True)


@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xda"])
def test_junk_in_the_header_is_no_damage_and_hides_none(marker: bytes) -> None:
    data = KINDS["baseline"]
    place = data.index(marker)
    with_junk = data[:place] + b"junk, \xff\0 more junk" + data[place:]
    assert np.array_equal(decode_image(with_junk, WHOLE), decode_image(data, WHOLE))
    assert refusal(with_junk[: len(data) // 2] + END_OF_JPEG)[0] is ErrorCode.UNDECODABLE


def test_what_follows_the_end_marker_does_not_count() -> None:
    data = KINDS["baseline"]
    assert np.array_equal(decode_image(data + b"trailer" * 9, WHOLE), decode_image(data, WHOLE))


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("side", [40, 333, 1000])
def test_the_pixels_are_those_that_pillow_decodes(
    subsampling: int, progressive: bool, side: int
) -> None:
    data = encoded(
        smooth_image(side, side + 7), "JPEG", subsampling=subsampling, progressive=progressive
    )
    for spec in (WHOLE, SPEC):
        image = Image.open(io.BytesIO(data))
        if spec is SPEC:
            image.draft(None, (64, 64))
        as_png = encoded(Image.fromarray(np.asarray(image)), "PNG")
        if spec is WHOLE or image.width % 8 == side % 8 == 0:
            assert np.array_equal(decode_image(data, spec), decode_image(as_png, spec))


def test_without_pyarrow_the_pixels_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = KINDS["4:4:4"]
    expected = decode_image(data, WHOLE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert np.array_equal(decode_image(data, WHOLE), expected)


def test_an_rgb_jpeg_without_a_colour_transform_keeps_its_colours() -> None:
    image = Image.new("RGB", (64, 64), (200, 30, 60))
    data = encoded(image, "JPEG", keep_rgb=True, quality=95)
    assert np.abs(decode_image(data, SPEC).astype(int) - (200, 30, 60)).max() <= 2


def repeated_scans(side: int, times: int) -> bytes:
    """A progressive JPEG of one colour whose last scan is there so many times."""
    data = encoded(Image.new("L", (side, side)), "JPEG", progressive=True)
    start, end = jpeg_segments(data, START_OF_SCAN)[-1]
    return data[:end] + data[start:end] * times + END_OF_JPEG


def test_scans_beyond_all_use_are_too_large_and_those_of_a_small_image_are_not() -> None:
    assert decode_image(repeated_scans(64, 200), SPEC).shape == (32, 32, 3)
    data = repeated_scans(9000, 50)
    assert len(data) < 400_000
    code, detail = refusal(data)
    assert (code, "scans" in detail) == (ErrorCode.TOO_LARGE, True)


def test_a_jpeg_of_very_many_segments_is_too_large() -> None:
    data = KINDS["baseline"]
    comments = b"\xff\xfe\0\2"
    assert decode_image(data[:2] + comments * 5000 + data[2:], SPEC).shape == (32, 32, 3)
    code, detail = refusal(data[:2] + comments * 20_000 + data[2:])
    assert (code, "segments" in detail) == (ErrorCode.TOO_LARGE, True)


def test_the_coefficients_of_a_progressive_jpeg_count_as_memory() -> None:
    image = smooth_image(800, 600)
    limits = DecodeLimits(max_memory_bytes=2_500_000)
    assert decode_image(encoded(image, "JPEG", subsampling=0), SPEC, limits).shape == (32, 32, 3)
    code, detail = refusal(encoded(image, "JPEG", subsampling=0, progressive=True), limits)
    assert (code, "memory" in detail) == (ErrorCode.TOO_LARGE, True)


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_mpo_with_a_damaged_second_image_is_scored(orientation: int) -> None:
    first, second = smooth_image(64, 48, seed=1), smooth_image(64, 48, seed=2)
    options = {"exif": exif_of(orientation)}
    data = encoded(first, "MPO", save_all=True, append_images=[second], **options)
    cut = data[: len(data) - 200]
    assert np.array_equal(decode_image(cut, SPEC), decode_image(data, SPEC))
