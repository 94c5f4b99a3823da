"""PNG files with metadata that Pillow refuses, and with damage that Pillow does not see."""

import zlib

import numpy as np
import pytest
from support.image_files import (
    PNG_SIGNATURE,
    encoded,
    exif_of,
    noise_image,
    png_chunk,
    with_chunks,
)

from aigid.contract import ImageSpec
from aigid.pixels import decode_image, open_image
from aigid.records import ErrorCode, RowFailure

pytestmark = pytest.mark.filterwarnings("ignore:Invalid APNG:UserWarning:PIL")

SPEC = ImageSpec(size=32)
IMAGE = noise_image(32, 32)
WHOLE = encoded(IMAGE, "PNG")
BOMB = zlib.compress(bytes(3_000_000))

METADATA = {
    "text of 3 MB, compressed": png_chunk(b"zTXt", b"a\0\0" + BOMB),
    "international text of 3 MB": png_chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "profile of 3 MB": png_chunk(b"iCCP", b"a\0\0" + BOMB),
    "90 texts of 1 MB": b"".join(
        png_chunk(b"zTXt", b"a%d\0\0" % index + zlib.compress(bytes(1_000_000)))
        for index in range(90)
    ),
    "text with a wrong checksum": png_chunk(b"tEXt", b"a\0b", damaged=True),
    "unknown with a wrong checksum": png_chunk(b"abCd", b"12", damaged=True),
    "EXIF with a wrong checksum": png_chunk(b"eXIf", b"II*\0", damaged=True),
    "gamma cut short": png_chunk(b"gAMA", b"a"),
    "resolution cut short": png_chunk(b"pHYs", b"a"),
    "chromaticities cut short": png_chunk(b"cHRM", b"a"),
    "intent cut short": png_chunk(b"sRGB", b""),
    "animation cut short": png_chunk(b"acTL", b"a"),
    "no frames": png_chunk(b"acTL", bytes(8)),
}


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("at_the_end", [False, True], ids=["before", "after"])
def test_metadata_that_is_damaged_or_large_does_not_matter(name: str, at_the_end: bool) -> None:
    data = with_chunks(WHOLE, METADATA[name], at_the_end=at_the_end)
    assert np.array_equal(decode_image(data, SPEC), np.asarray(IMAGE))
    assert open_image(data).size == (32, 32)


def test_orientation_and_transparency_stay_where_other_metadata_is_damaged() -> None:
    damaged = METADATA["text with a wrong checksum"]
    image = noise_image(40, 32).quantize(9)
    for options in ({"exif": exif_of(6)}, {"transparency": 3}):
        data = encoded(image, "PNG", **options)
        plain = decode_image(encoded(image, "PNG"), SPEC)
        expected = decode_image(data, SPEC)
        assert not np.array_equal(expected, plain)
        assert np.array_equal(decode_image(with_chunks(data, damaged), SPEC), expected)


def test_very_many_chunks_are_read_as_one() -> None:
    start = WHOLE.index(b"IDAT") - 4
    length = int.from_bytes(WHOLE[start : start + 4], "big")
    samples = WHOLE[start + 8 : start + 8 + length]
    pieces = b"".join(png_chunk(b"IDAT", samples[at : at + 1]) for at in range(length))
    none = png_chunk(b"IDAT", b"") * 150_000
    data = WHOLE[:start] + none + pieces + png_chunk(b"IEND", b"")
    assert np.array_equal(decode_image(data, SPEC), np.asarray(IMAGE))


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_a_wrong_checksum_of_what_makes_the_pixels_is_undecodable(kind: bytes) -> None:
    data = bytearray(encoded(IMAGE.quantize(9), "PNG"))
    start = data.index(kind)
    length = int.from_bytes(data[start - 4 : start], "big")
    data[start + 4 + length] ^= 1
    with pytest.raises(RowFailure) as caught:
        decode_image(bytes(data), SPEC)
    assert caught.value.error.code is ErrorCode.UNDECODABLE


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_damaged_image_data_is_undecodable_beside_damaged_metadata(place: float) -> None:
    data = bytearray(with_chunks(WHOLE, METADATA["text with a wrong checksum"]))
    data[int(len(data) * place)] ^= 0xFF
    assert data.startswith(PNG_SIGNATURE)
    with pytest.raises(RowFailure) as caught:
        decode_image(bytes(data), SPEC)
    assert caught.value.error.code is ErrorCode.UNDECODABLE


@pytest.mark.parametrize("level", [0, 1, 6])
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
def test_a_bit_that_is_flipped_anywhere_in_image_data_is_damage(mode: str, level: int) -> None:
    whole = encoded(IMAGE.resize((90, 80)).convert(mode), "PNG", compress_level=level)
    first, last = whole.index(b"IDAT") + 4, whole.rindex(b"IEND") - 9
    generator = np.random.default_rng(0)
    for place, bit in generator.integers((first, 0), (last + 1, 8), (200, 2)):
        data = bytearray(whole)
        data[place] ^= 1 << bit
        with pytest.raises(RowFailure) as caught:
            decode_image(bytes(data), SPEC)
        assert caught.value.error.code is ErrorCode.UNDECODABLE
        with pytest.raises(RowFailure):
            decode_image(with_chunks(bytes(data), METADATA["gamma cut short"]), SPEC)


def test_image_data_whose_checksum_alone_is_cut_off_is_scored() -> None:
    end = WHOLE.rindex(b"IEND") - 4
    for data in (WHOLE[:end], WHOLE[: end - 1], WHOLE[: end - 4]):
        assert np.array_equal(decode_image(data, SPEC), np.asarray(IMAGE))
