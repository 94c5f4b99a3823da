"""Image files of every kind to pixels: formats, limits, damage, and reference implementations."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.image_files import encoded, exif_of, noise_image, png_chunk, smooth_image

from aigid.contract import ImageSpec, Resizing
from aigid.pixels import (
    DecodeLimits,
    Pixels,
    changed_pixels,
    decode_image,
    image_pixels,
    whole_image,
)
from aigid.records import ErrorCode, RowError, RowFailure

SIDE = 32
SPEC = ImageSpec(size=SIDE)
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "retina.jpg",
)

# Pillow warns of oddities in files. A scan of a million files has many, and ignores them.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:UserWarning:PIL", "ignore:.*:PIL.Image.DecompressionBombWarning:PIL"
)


def mean_difference(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    return float(
        np.abs(np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)).mean()
    )


def refusal(data: bytes, limits: DecodeLimits = DecodeLimits()) -> RowError:
    with pytest.raises(RowFailure) as caught:
        decode_image(data, SPEC, limits)
    return caught.value.error


def png_file(samples: npt.NDArray[np.uint16], transparent: int | None = None) -> bytes:
    """Return a 16-bit PNG, which Pillow cannot write.

    It is grey for samples [height, width], and RGB for [height, width, 3].
    """
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if samples.ndim == 3 else 0, 0, 0, 0)
    key = b"" if transparent is None else png_chunk(b"tRNS", struct.pack(">H", transparent))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = (
        png_chunk(b"IHDR", header)
        + key
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_a_lossless_file_of_the_model_s_size_gives_its_exact_pixels(
    kind: str, options: dict[str, object]
) -> None:
    image = noise_image(SIDE, SIDE)
    pixels = decode_image(encoded(image, kind, **options), SPEC)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (SIDE, SIDE, 3)
    assert np.array_equal(pixels, np.asarray(image))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {"quality": 95}),
        ("TIFF", {"compression": "jpeg", "quality": 95}),
    ],
)
def test_a_lossy_file_gives_nearly_its_pixels(kind: str, options: dict[str, object]) -> None:
    image = smooth_image(64, 48)
    expected = decode_image(encoded(image, "PNG"), SPEC)
    assert mean_difference(decode_image(encoded(image, kind, **options), SPEC), expected) < 3


def test_a_progressive_jpeg_gives_the_pixels_of_the_sequential_one() -> None:
    image = smooth_image(100, 80)
    sequential, progressive = encoded(image, "JPEG"), encoded(image, "JPEG", progressive=True)
    assert b"\xff\xc2" in progressive
    assert np.array_equal(decode_image(progressive, SPEC), decode_image(sequential, SPEC))


def test_a_grey_jpeg_becomes_three_equal_channels() -> None:
    grey = smooth_image(64, 48).convert("L")
    pixels = decode_image(encoded(grey, "JPEG", quality=95), SPEC)
    assert np.array_equal(pixels[..., 0], pixels[..., 1])
    assert np.array_equal(pixels[..., 0], pixels[..., 2])
    assert mean_difference(pixels, decode_image(encoded(grey.convert("RGB"), "PNG"), SPEC)) < 3


def test_a_cmyk_jpeg_keeps_its_colours() -> None:
    colour = (200, 30, 60)
    image = Image.new("RGB", (64, 64), colour).convert("CMYK")
    assert (
        np.abs(decode_image(encoded(image, "JPEG", quality=95), SPEC).astype(int) - colour).max()
        <= 6
    )


def test_an_mpo_gives_its_first_image() -> None:
    first, second = smooth_image(64, 48, seed=1), smooth_image(64, 48, seed=2)
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert np.array_equal(decode_image(data, SPEC), decode_image(encoded(first, "JPEG"), SPEC))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames_counts(kind: str) -> None:
    # Few colours, so that a GIF's palette holds them all.
    first, second = (
        image.quantize(64).convert("RGB")
        for image in (noise_image(SIDE, SIDE), noise_image(SIDE, SIDE, 1))
    )
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert np.array_equal(decode_image(data, SPEC), np.asarray(first))


# From an upright image to the stored one, for each EXIF orientation.
STORED: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(upright)[:, ::-1],
    8: lambda upright: np.rot90(upright, -1),
}


def turned(upright: Image.Image, orientation: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(upright))))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_exif_orientation_turns_an_image_upright(kind: str, orientation: int) -> None:
    upright = smooth_image(60, 40)
    options: dict[str, dict[str, object]] = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 100, "subsampling": 0},
    }
    data = encoded(
        turned(upright, orientation), kind, exif=exif_of(orientation), **options.get(kind, {})
    )
    pixels = decode_image(data, SPEC)
    expected = decode_image(encoded(upright, "PNG"), SPEC)
    assert mean_difference(pixels, expected) <= (1 if kind == "JPEG" else 0)


@pytest.mark.parametrize("orientation", STORED)
def test_a_drafted_jpeg_of_any_size_and_orientation_is_cropped_where_the_whole_one_is(
    orientation: int,
) -> None:
    # No DCT scale divides the sizes, and the detail would show a crop moved by part of a pixel.
    upright = noise_image(150, 110).resize((599, 443), Image.Resampling.BICUBIC)
    stored = encoded(turned(upright, orientation), "JPEG", quality=95, exif=exif_of(orientation))
    assert mean_difference(decode_image(stored, SPEC), decode_image(stored, SPEC, draft=False)) <= 1


def exif_block(*entries: bytes) -> bytes:
    return (
        b"Exif\0\0II*\0\x08\0\0\0"
        + struct.pack("<H", len(entries))
        + b"".join(entries)
        + b"\0\0\0\0"
    )


ORIENTATION_6 = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0neither byte order at all",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        exif_block(ORIENTATION_6)[:22],
        exif_block(struct.pack("<HHIHH", 0x0112, 3, 1, 99, 0)),
        exif_block(struct.pack("<HHII", 0x0112, 2, 3, 0x00787878)),
        exif_block(struct.pack("<HHII", 0x0112, 5, 1, 0xFFFFFFF0)),
    ],
    ids=[
        "empty",
        "no-tiff",
        "offset-outside",
        "cut",
        "no-such-orientation",
        "text",
        "value-outside",
    ],
)
def test_a_damaged_exif_block_leaves_the_image_as_it_is_stored(block: bytes) -> None:
    image = smooth_image(60, 40)
    assert np.array_equal(
        decode_image(encoded(image, "JPEG", exif=block), SPEC),
        decode_image(encoded(image, "JPEG"), SPEC),
    )


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_an_orientation_counts_beside_a_damaged_tag(kind: str) -> None:
    # A description that is a number: Pillow reads it, but cannot write it again.
    block = exif_block(struct.pack("<HHIf", 0x010E, 11, 1, 1.5), ORIENTATION_6)
    upright = smooth_image(60, 40)
    pixels = decode_image(encoded(turned(upright, 6), kind, exif=block, quality=100), SPEC)
    assert mean_difference(pixels, decode_image(encoded(upright, "PNG"), SPEC)) < 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF"])
def test_a_palette_becomes_its_colours(kind: str) -> None:
    image = noise_image(SIDE, SIDE).quantize(100)
    assert np.array_equal(
        decode_image(encoded(image, kind), SPEC), np.asarray(image.convert("RGB"))
    )


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparent_colour_of_a_palette_becomes_white(kind: str) -> None:
    indices = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) % 3
    image = Image.fromarray(indices).convert("P")
    image.putpalette([0, 0, 0, 10, 20, 30, 40, 50, 60])
    expected = np.array([(0, 0, 0), (255, 255, 255), (40, 50, 60)])[indices]
    assert np.array_equal(decode_image(encoded(image, kind, transparency=1), SPEC), expected)


def test_a_palette_with_an_alpha_for_each_colour_is_laid_over_white() -> None:
    indices = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) % 3
    image = Image.fromarray(indices).convert("P")
    image.putpalette([0, 0, 0, 100, 100, 100, 40, 50, 60])
    expected = np.array([(255, 255, 255), (193, 193, 193), (40, 50, 60)])[indices]
    assert np.array_equal(
        decode_image(encoded(image, "PNG", transparency=bytes([0, 102, 255])), SPEC), expected
    )


def over_white(
    colours: npt.NDArray[np.uint8], alphas: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    share = alphas[..., None] / 255
    return np.floor(colours * share + 255 * (1 - share) + 0.5)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})]
)
def test_rgba_is_laid_over_white_exactly(kind: str, options: dict[str, object]) -> None:
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    samples[:8, :, 3] = np.arange(256).reshape(8, SIDE)
    pixels = decode_image(encoded(Image.fromarray(samples), kind, **options), SPEC)
    assert np.abs(pixels - over_white(samples[..., :3], samples[..., 3])).max() == 0


def test_transparent_black_is_also_white_after_resizing() -> None:
    assert np.all(
        decode_image(encoded(Image.new("RGBA", (300, 200), (0, 0, 0, 0)), "PNG"), SPEC) == 255
    )


def test_grey_with_alpha_is_laid_over_white() -> None:
    samples = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 2), dtype=np.uint8)
    pixels = decode_image(encoded(Image.fromarray(samples), "PNG"), SPEC)
    assert np.array_equal(pixels, over_white(samples[..., :1].repeat(3, axis=2), samples[..., 1]))


def test_grey_with_alpha_in_its_samples_is_laid_over_white() -> None:
    data = bytearray(encoded(Image.new("LA", (SIDE, SIDE), (50, 128)), "TIFF"))
    # ExtraSamples says that the alpha is in the samples already: 50 is half of 100.
    place = data.index(struct.pack("<HHI", 338, 3, 1)) + 8
    data[place] = 1
    assert np.array_equal(decode_image(bytes(data), SPEC), np.full((SIDE, SIDE, 3), 177, np.uint8))


def test_the_colour_key_of_a_png_becomes_white() -> None:
    samples = np.full((SIDE, SIDE, 3), (1, 2, 3), dtype=np.uint8)
    samples[:, ::2] = (9, 8, 7)
    pixels = decode_image(encoded(Image.fromarray(samples), "PNG", transparency=(9, 8, 7)), SPEC)
    assert np.all(pixels[:, ::2] == 255)
    assert np.all(pixels[:, 1::2] == (1, 2, 3))


def grey_16() -> npt.NDArray[np.uint16]:
    return np.linspace(0, 65535, SIDE * SIDE).round().astype(np.uint16).reshape(SIDE, SIDE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "big-endian TIFF"])
def test_16_bit_grey_is_scaled_to_8(kind: str) -> None:
    samples = grey_16()
    if kind == "big-endian TIFF":
        data = encoded(Image.fromarray(samples.astype(">u2")), "TIFF")
        assert data.startswith(b"MM")
    else:
        data = encoded(Image.fromarray(samples), kind)
    assert np.array_equal(
        decode_image(data, SPEC), np.round(samples / 257)[..., None].repeat(3, axis=2)
    )


def test_the_transparent_grey_of_a_16_bit_png_becomes_white() -> None:
    samples = np.full((SIDE, SIDE), 1000, dtype=np.uint16)
    samples[:, ::2] = 1001
    pixels = decode_image(png_file(samples, transparent=1001), SPEC)
    assert np.all(pixels[:, ::2] == 255)
    assert np.all(pixels[:, 1::2] == 4)


def test_16_bit_rgb_is_scaled_to_8() -> None:
    samples = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE, 3), dtype=np.uint16)
    assert np.abs(decode_image(png_file(samples), SPEC) - samples / 257).max() <= 1


def test_black_and_white_becomes_0_and_255() -> None:
    dots = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE)).astype(bool)
    for kind, options in [("PNG", {}), ("TIFF", {"compression": "group4"}), ("BMP", {})]:
        pixels = decode_image(encoded(Image.fromarray(dots), kind, **options), SPEC)
        assert np.array_equal(pixels, dots[..., None].repeat(3, axis=2) * 255), kind


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_samples_without_a_defined_white_are_refused(kind: type[np.generic]) -> None:
    error = refusal(encoded(Image.fromarray(np.ones((SIDE, SIDE), dtype=kind)), "TIFF"))
    assert error.code is ErrorCode.UNDECODABLE
    assert "white" in error.detail


@pytest.mark.parametrize(
    ("longer", "first"), [(32, 0), (33, 0), (34, 1), (35, 1), (96, 32), (97, 32)]
)
def test_the_crop_keeps_the_centre(longer: int, first: int) -> None:
    # An odd column or row is cut at the end, as in CLIP's processor.
    wide = noise_image(longer, SIDE)
    kept = np.asarray(wide)[:, first : first + SIDE]
    assert np.array_equal(decode_image(encoded(wide, "PNG"), SPEC), kept)
    tall = wide.transpose(Image.Transpose.TRANSPOSE)
    assert np.array_equal(decode_image(encoded(tall, "PNG"), SPEC), kept.swapaxes(0, 1))


def resize_then_crop(image: Image.Image, size: int) -> list[Pixels]:
    """Return CLIP's preprocessing in both of Pillow's orders: rows first, and columns first.

    The order depends on Pillow's version and on the sizes.
    """
    width, height = image.size
    shorter = min(width, height)
    new = int(size * width / shorter), int(size * height / shorter)
    left, top = (new[0] - size) // 2, (new[1] - size) // 2
    found = []
    for between in ((new[0], height), (width, new[1])):
        whole = image.resize(between, Image.Resampling.BICUBIC).resize(
            new, Image.Resampling.BICUBIC
        )
        found.append(np.asarray(whole.crop((left, top, left + size, top + size))))
    return found


@settings(max_examples=150)
@given(
    st.integers(1, 400), st.integers(1, 400), st.sampled_from([8, 32, 96, 224]), st.integers(0, 3)
)
@example(1, 300, 32, 0)
@example(300, 1, 32, 0)
@example(223, 225, 224, 0)
def test_any_size_equals_resizing_all_and_then_cropping(
    width: int, height: int, size: int, seed: int
) -> None:
    image = noise_image(width, height, seed)
    pixels = decode_image(encoded(image, "PNG", compress_level=1), ImageSpec(size=size))
    assert pixels.shape == (size, size, 3)
    assert min(mean_difference(pixels, whole) for whole in resize_then_crop(image, size)) <= 0.05


def test_one_pixel_fills_the_square() -> None:
    assert np.all(
        decode_image(encoded(Image.new("RGB", (1, 1), (10, 20, 30)), "PNG"), ImageSpec())
        == (10, 20, 30)
    )


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_a_very_long_image_gives_its_middle(size: tuple[int, int]) -> None:
    samples = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    samples.reshape(5000, 3)[2490:2510] = (10, 20, 30)
    pixels = decode_image(encoded(Image.fromarray(samples), "PNG"), ImageSpec())
    assert pixels.shape == (224, 224, 3)
    assert np.all(pixels == (10, 20, 30))


def test_native_crop_keeps_the_centre_at_native_resolution() -> None:
    # The exact centre begins at 19 and 34. Blocks of 16 pixels begin at 16 and 32.
    spec = ImageSpec(size=SIDE, resizing=Resizing.NATIVE_CROP)
    image = noise_image(101, 70)
    assert np.array_equal(
        decode_image(encoded(image, "PNG"), spec),
        np.asarray(image)[16 : 16 + SIDE, 32 : 32 + SIDE],
    )
    wide = noise_image(101, SIDE)
    assert np.array_equal(
        decode_image(encoded(wide, "PNG"), spec), np.asarray(wide)[:, 32 : 32 + SIDE]
    )
    exact = noise_image(SIDE, SIDE)
    assert np.array_equal(decode_image(encoded(exact, "PNG"), spec), np.asarray(exact))


def test_native_crop_of_a_large_jpeg_is_decoded_in_full() -> None:
    spec = ImageSpec(size=SIDE, resizing=Resizing.NATIVE_CROP)
    data = encoded(noise_image(600, 500), "JPEG")
    whole = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_image(data, spec), whole[224 : 224 + SIDE, 272 : 272 + SIDE])


@pytest.mark.parametrize("size", [(20, 50), (50, 20), (31, 31)])
def test_native_crop_resizes_only_what_is_too_small(size: tuple[int, int]) -> None:
    data = encoded(noise_image(*size), "PNG")
    native = decode_image(data, ImageSpec(size=SIDE, resizing=Resizing.NATIVE_CROP))
    assert np.array_equal(native, decode_image(data, SPEC))


@pytest.mark.parametrize("resizing", [Resizing.FOUR_NATIVE_CROPS, Resizing.NINE_NATIVE_CROPS])
@pytest.mark.parametrize("size", [(101, 70), (32, 32), (33, 200)])
def test_native_crops_are_a_grid_from_edge_to_edge_at_block_corners(
    resizing: Resizing, size: tuple[int, int]
) -> None:
    spec = ImageSpec(size=SIDE, resizing=resizing)
    image = noise_image(*size)
    across = {"4": 2, "9": 3}[resizing[0]]
    found = decode_image(encoded(image, "PNG"), spec)
    assert found.shape == spec.shape == (across**2 * SIDE, SIDE, 3)
    crops, samples = found.reshape(across, across, SIDE, SIDE, 3), np.asarray(image)
    lefts, tops = (
        [round(step * (side - SIDE) / (across - 1)) // 16 * 16 for step in range(across)]
        for side in size
    )
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            assert np.array_equal(crops[row, column], samples[top : top + SIDE, left : left + SIDE])


def test_crops_of_a_small_image_are_of_the_resized_one() -> None:
    image = noise_image(50, 20)
    whole = np.asarray(image.resize((80, SIDE), Image.Resampling.BICUBIC)).astype(int)
    found = decode_image(
        encoded(image, "PNG"), ImageSpec(size=SIDE, resizing=Resizing.FOUR_NATIVE_CROPS)
    )
    crops = found.reshape(2, 2, SIDE, SIDE, 3).astype(int)
    assert np.array_equal(crops[0], crops[1])
    for crop, expected in ((crops[0, 0], whole[:, :SIDE]), (crops[0, 1], whole[:, -SIDE:])):
        assert np.abs(crop - expected).mean() < 1
    # This wide, the resized image would need gigabytes.
    thin = decode_image(
        encoded(noise_image(30000, 1), "PNG"), ImageSpec(resizing=Resizing.NINE_NATIVE_CROPS)
    )
    assert thin.shape == (9 * 224, 224, 3)


def test_zero_bytes_are_empty() -> None:
    assert refusal(b"").code is ErrorCode.EMPTY


def test_bytes_over_the_limit_are_refused_before_decoding() -> None:
    data = encoded(noise_image(SIDE, SIDE), "PNG")
    assert decode_image(data, SPEC, DecodeLimits(max_bytes=len(data))).shape == (SIDE, SIDE, 3)
    error = refusal(b"not an image"[:8], DecodeLimits(max_bytes=7))
    assert error == RowError(ErrorCode.TOO_LARGE, "8 bytes; the limit is 7")


def test_pixels_over_the_limit_are_refused() -> None:
    data = encoded(noise_image(50, 40), "PNG")
    assert decode_image(data, SPEC, DecodeLimits(max_pixels=2000)).shape == (SIDE, SIDE, 3)
    assert refusal(data, DecodeLimits(max_pixels=1999)) == RowError(
        ErrorCode.TOO_LARGE, "50 x 40 pixels; the limit is 1999"
    )


def claiming(kind: str, side: int) -> bytes:
    """A small file of which the header claims `side` x `side` pixels."""
    data = bytearray(encoded(noise_image(SIDE, SIDE), kind))
    if kind == "PNG":
        data[16:24] = struct.pack(">II", side, side)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "JPEG":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    elif kind == "GIF":
        data[6:10] = struct.pack("<HH", side, side)
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", side, side)
    elif kind == "TIFF":
        for tag in (256, 257):
            entry = data.index(struct.pack("<HHI", tag, 4, 1))
            data[entry + 8 : entry + 12] = struct.pack("<I", side)
    elif kind == "WEBP":
        data[26:30] = struct.pack("<HH", side, side)
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "side"),
    [
        ("PNG", 50_000),
        ("JPEG", 65_500),
        ("JPEG", 12_000),
        ("GIF", 65_535),
        ("BMP", 50_000),
        ("TIFF", 50_000),
        ("WEBP", 16_383),
    ],
)
def test_a_header_of_too_many_pixels_is_refused_without_memory_for_them(
    kind: str, side: int
) -> None:
    data = claiming(kind, side)
    tracemalloc.start()
    try:
        error = refusal(data)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code is ErrorCode.TOO_LARGE
    assert peak_bytes < 5_000_000


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_the_pixel_limit_is_checked_before_decoding(kind: str) -> None:
    # Decoding would fail, because the file lacks the data that its header promises.
    data = claiming(kind, 2000)
    if kind == "JPEG":
        # With an end marker, Pillow fills the missing rest with grey.
        data = data[:-2]
    assert refusal(data, DecodeLimits(max_pixels=2000 * 2000)).code is ErrorCode.UNDECODABLE
    assert refusal(data, DecodeLimits(max_pixels=2000 * 2000 - 1)).code is ErrorCode.TOO_LARGE


FILES = {
    "jpeg": encoded(smooth_image(48, 40), "JPEG", exif=exif_of(6)),
    "progressive jpeg": encoded(smooth_image(48, 40), "JPEG", progressive=True),
    "cmyk jpeg": encoded(smooth_image(48, 40).convert("CMYK"), "JPEG"),
    "mpo": encoded(
        smooth_image(48, 40),
        "MPO",
        save_all=True,
        append_images=[smooth_image(48, 40, 1)],
        exif=exif_of(3),
    ),
    "png": encoded(smooth_image(48, 40), "PNG", exif=exif_of(8)),
    "palette png": encoded(smooth_image(48, 40).quantize(50), "PNG", transparency=3),
    "16-bit png": encoded(Image.fromarray(grey_16()), "PNG"),
    "rgba png": encoded(smooth_image(48, 40).convert("RGBA"), "PNG"),
    "webp": encoded(smooth_image(48, 40), "WEBP", exif=exif_of(6)),
    "lossless webp": encoded(smooth_image(48, 40).convert("RGBA"), "WEBP", lossless=True),
    "gif": encoded(smooth_image(48, 40), "GIF"),
    "tiff": encoded(smooth_image(48, 40), "TIFF", exif=exif_of(5)),
    "lzw tiff": encoded(smooth_image(48, 40), "TIFF", compression="tiff_lzw"),
    "jpeg tiff": encoded(smooth_image(48, 40), "TIFF", compression="jpeg"),
    "bmp": encoded(smooth_image(48, 40), "BMP"),
    "avif": encoded(smooth_image(48, 40), "AVIF", exif=exif_of(6)),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_undecodable(kind: str, share: float) -> None:
    data = FILES[kind]
    if kind == "mpo":
        # Only the first image is read, so the second may be missing.
        data = data[: len(data) // 2]
    assert refusal(data[: int(len(data) * share)]).code is ErrorCode.UNDECODABLE


@pytest.mark.parametrize(
    "text",
    [b"this is a text file", b"<html><body>404 Not Found</body></html>", b"\0", b"\xff\xd8\xff"],
)
def test_data_that_is_not_an_image_is_undecodable_with_the_same_line_each_time(text: bytes) -> None:
    first, second = refusal(text), refusal(bytes(bytearray(text)))
    assert first == second
    assert first.code is ErrorCode.UNDECODABLE
    assert "JPEG, PNG, WEBP, GIF, TIFF, BMP, AVIF" in first.detail
    assert "\n" not in first.detail


@pytest.mark.parametrize(
    "kind", ["PPM", "EPS", "ICO", "TGA", "PCX", "DDS", "PDF", "JPEG2000", "SGI"]
)
def test_formats_outside_the_list_are_refused(kind: str) -> None:
    data = encoded(smooth_image(SIDE, SIDE), kind)
    assert refusal(data).code is ErrorCode.UNDECODABLE


def pixels_or_refusal(data: bytes) -> None:
    try:
        pixels = decode_image(data, SPEC)
    except RowFailure as failure:
        assert failure.error.code in (ErrorCode.EMPTY, ErrorCode.TOO_LARGE, ErrorCode.UNDECODABLE)
        assert "\n" not in failure.error.detail
    else:
        assert (pixels.dtype, pixels.shape) == (np.uint8, (SIDE, SIDE, 3))


SIGNATURES = [
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"BM",
]


@settings(max_examples=300)
@given(st.sampled_from([b"", *SIGNATURES, b"\0\0\0\x1cftypavif"]), st.binary(max_size=400))
def test_random_bytes_give_pixels_or_a_row_failure(signature: bytes, rest: bytes) -> None:
    pixels_or_refusal(signature + rest)


# Small and very large numbers are the ones that break the parsing of headers.
BYTES = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, 5, 8, 12, 16, 127, 128, 254, 255]), st.integers(0, 255)
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True), st.sampled_from(["set", "insert", "remove"]), BYTES
    ),
    max_size=12,
)


@settings(max_examples=600)
@given(st.sampled_from(sorted(FILES)), EDITS, st.floats(0.01, 1), st.booleans())
def test_damaged_files_of_every_format_give_pixels_or_a_row_failure(
    kind: str, edits: list[tuple[float, str, int]], kept: float, at_the_start: bool
) -> None:
    data = bytearray(FILES[kind])
    for place, edit, value in edits:
        index = int(place * min(len(data), 300 if at_the_start else len(data)))
        if edit == "set" and data:
            data[index] = value
        elif edit == "insert":
            data.insert(index, value)
        else:
            del data[index : index + 1 + value % 8]
    pixels_or_refusal(bytes(data[: int(len(data) * kept) if kept < 0.5 else len(data)]))


@pytest.mark.parametrize("item", [b"mdat", b"ispe", b"av1C", b"pitm", b"iloc", b"colr"])
def test_a_damaged_avif_is_undecodable_or_decoded(item: bytes) -> None:
    # Only libavif's errors arrive as RuntimeError.
    data = bytearray(FILES["avif"])
    start = data.index(item) + 4
    data[start : start + 12] = b"\xff" * 12
    pixels_or_refusal(bytes(data))


def test_an_avif_with_a_damaged_tag_beside_an_orientation_is_undecodable_or_decoded() -> None:
    # Pillow's AVIF parser rewrites the EXIF block, and raises AttributeError if it cannot.
    exif = exif_of(6)
    exif[0x010E] = "abc"
    data = encoded(smooth_image(48, 40), "AVIF", exif=exif)
    text, number = struct.pack(">HHI", 0x010E, 2, 4), struct.pack(">HHI", 0x010E, 11, 1)
    assert text in data
    pixels_or_refusal(data.replace(text, number))


def test_an_avif_with_damaged_image_data_is_undecodable() -> None:
    data = bytearray(FILES["avif"])
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    assert refusal(bytes(data)).code is ErrorCode.UNDECODABLE


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_a_pil_image_of_any_mode_gives_its_colours(mode: str) -> None:
    colour = Image.new("RGB", (SIDE, SIDE), (200, 30, 60))
    # Pillow's only way to PA.
    image = colour.convert("P").convert("PA") if mode == "PA" else colour.convert(mode)
    assert np.array_equal(image_pixels(image, SPEC), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", FILES)
def test_an_open_file_gives_the_pixels_of_its_bytes(kind: str) -> None:
    image = Image.open(io.BytesIO(FILES[kind]))
    assert np.array_equal(image_pixels(image, SPEC), decode_image(FILES[kind], SPEC, draft=False))


def image_refusal(image: Image.Image, limits: DecodeLimits = DecodeLimits()) -> ErrorCode:
    with pytest.raises(RowFailure) as caught:
        image_pixels(image, SPEC, limits)
    return caught.value.error.code


def test_a_pil_image_is_refused_as_its_file_would_be() -> None:
    assert image_refusal(Image.new("RGB", (0, 5))) is ErrorCode.EMPTY
    assert (
        image_refusal(Image.new("RGB", (50, 40)), DecodeLimits(max_pixels=1999))
        is ErrorCode.TOO_LARGE
    )
    assert image_refusal(Image.new("F", (50, 40))) is ErrorCode.UNDECODABLE
    assert image_refusal(Image.open(io.BytesIO(FILES["png"][:-300]))) is ErrorCode.UNDECODABLE
    closed = Image.open(io.BytesIO(FILES["png"]))
    closed.close()
    assert image_refusal(closed) is ErrorCode.UNDECODABLE


RESIZINGS = [ImageSpec(SIDE, resizing) for resizing in Resizing]


@pytest.mark.parametrize("spec", RESIZINGS, ids=lambda spec: spec.resizing)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_change_that_does_nothing_gives_the_pixels_of_the_file(
    spec: ImageSpec, kind: str, orientation: int
) -> None:
    data = encoded(noise_image(315, 222), kind, exif=exif_of(orientation))
    expected = decode_image(data, spec)
    for pixels in changed_pixels(data, spec, [None, lambda image: image]):
        assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("spec", RESIZINGS, ids=lambda spec: spec.resizing)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_changed_image_gives_the_pixels_of_the_changed_file(
    spec: ImageSpec, orientation: int
) -> None:
    upright = noise_image(315, 222)
    stored = encoded(turned(upright, orientation), "PNG", exif=exif_of(orientation))
    jpeg = encoded(upright, "JPEG", quality=70)
    lossless, lossy = changed_pixels(
        stored, spec, [lambda image: image.copy(), lambda image: Image.open(io.BytesIO(jpeg))]
    )
    assert np.array_equal(lossless, decode_image(encoded(upright, "PNG"), spec))
    assert np.array_equal(lossy, decode_image(jpeg, spec))


def test_a_change_is_given_the_whole_image_upright_in_rgb_without_metadata() -> None:
    seen: list[Image.Image] = []
    upright = noise_image(315, 222)
    data = encoded(turned(upright, 6), "PNG", exif=exif_of(6), transparency=(1, 2, 3))

    def change(image: Image.Image) -> Image.Image:
        seen.append(image)
        return image

    changed_pixels(data, SPEC, [change])
    [image] = seen
    assert (image.mode, image.size, image.info) == ("RGB", (315, 222), {})
    assert np.array_equal(np.asarray(image), np.asarray(upright))


def test_a_change_of_a_damaged_image_is_a_row_failure_and_a_fault_of_the_change_is_not() -> None:
    def change(image: Image.Image) -> Image.Image:
        raise ValueError("a fault of the change")

    with pytest.raises(RowFailure):
        changed_pixels(FILES["png"][:-300], SPEC, [change])
    with pytest.raises(ValueError, match="a fault of the change"):
        changed_pixels(FILES["png"], SPEC, [change])


@pytest.fixture(scope="module")
def photographs() -> dict[str, Image.Image]:
    from sklearn.datasets import load_sample_images

    found = {name: Image.open(Path(skimage.data_dir) / name).convert("RGB") for name in PHOTOGRAPHS}
    return found | {
        f"sample {number}": Image.fromarray(image)
        for number, image in enumerate(load_sample_images().images)
    }


def with_shorter_side(image: Image.Image, shorter: int) -> Image.Image:
    scale = shorter / min(image.size)
    return image.resize(
        (round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS
    )


def pixels_by(processor: Any) -> Callable[[bytes], npt.NDArray[np.float64]]:
    """Return a function from an image file to a processor's pixels, scaled to 0..255.

    The file is decoded in full.
    """

    def process(data: bytes) -> npt.NDArray[np.float64]:
        values = processor(images=Image.open(io.BytesIO(data)))["pixel_values"][0]
        channels_last = np.moveaxis(np.asarray(values, np.float64), 0, -1)
        return 255 * (channels_last * processor.image_std + processor.image_mean)

    return process


@pytest.fixture(scope="module")
def clip_pixels() -> Callable[[bytes], npt.NDArray[np.float64]]:
    """Return a function from an image file to the CLIP processor's pixels."""
    from transformers import CLIPImageProcessorPil

    return pixels_by(CLIPImageProcessorPil())


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("shorter", [100, 224, 300, 500])
def test_real_photographs_give_the_pixels_of_transformers_clip_processor(
    kind: str,
    shorter: int,
    photographs: dict[str, Image.Image],
    clip_pixels: Callable[[bytes], npt.NDArray[np.float64]],
) -> None:
    for name, photograph in photographs.items():
        image = with_shorter_side(photograph, shorter)
        options = {"compress_level": 1} if kind == "PNG" else {}
        data = encoded(image, kind, **options)
        difference = np.abs(decode_image(data, ImageSpec(), draft=False) - clip_pixels(data))
        assert difference.mean() <= 0.01, name
        data = encoded(image.transpose(Image.Transpose.ROTATE_90), kind, **options)
        # Pillow may resize a turned image in the other order, see resize_then_crop.
        assert (
            mean_difference(decode_image(data, ImageSpec(), draft=False), clip_pixels(data)) <= 0.5
        ), name


def test_an_original_jpeg_gives_the_pixels_of_transformers_clip_processor(
    clip_pixels: Callable[[bytes], npt.NDArray[np.float64]],
) -> None:
    for name in ("retina.jpg", "hubble_deep_field.jpg", "rocket.jpg"):
        data = (Path(skimage.data_dir) / name).read_bytes()
        assert (
            mean_difference(decode_image(data, ImageSpec(), draft=False), clip_pixels(data)) <= 0.01
        ), name


@pytest.mark.parametrize(
    ("resizing", "resample"),
    [
        (Resizing.SQUASH, Image.Resampling.BILINEAR),
        (Resizing.SQUASH_BICUBIC, Image.Resampling.BICUBIC),
    ],
)
@pytest.mark.parametrize("shorter", [100, 224, 500])
def test_squashed_photographs_have_the_pixels_of_transformers_siglip_processor(
    resizing: Resizing,
    resample: Image.Resampling,
    shorter: int,
    photographs: dict[str, Image.Image],
) -> None:
    from transformers import SiglipImageProcessorPil

    processed = pixels_by(SiglipImageProcessorPil(resample=resample))
    for name, photograph in photographs.items():
        data = encoded(with_shorter_side(photograph, shorter), "PNG", compress_level=1)
        difference = np.abs(decode_image(data, ImageSpec(224, resizing)) - processed(data))
        assert difference.max() <= 1, name
        assert difference.mean() <= 0.01, name


@pytest.mark.parametrize("resizing", [Resizing.SHORTER_SIDE, Resizing.SQUASH])
@pytest.mark.parametrize("shorter", [1024, 1411, 2048])
def test_the_draft_path_differs_little_from_full_decoding(
    shorter: int, resizing: Resizing, photographs: dict[str, Image.Image]
) -> None:
    found, spec = {}, ImageSpec(resizing=resizing)
    for name, photograph in photographs.items():
        data = encoded(with_shorter_side(photograph, shorter), "JPEG", quality=90)
        found[name] = np.abs(
            decode_image(data, spec).astype(int) - decode_image(data, spec, draft=False)
        )
    means = {name: round(float(difference.mean()), 3) for name, difference in found.items()}
    largest = max(int(difference.max()) for difference in found.values())
    # `pytest -s` shows the figures in decode_image's docstring.
    print(f"draft at {shorter} px: largest {largest} of 255, means {means}")
    # Above 0: the draft path was taken.
    assert all(0 < mean <= 0.6 for mean in means.values()), means
    assert largest <= 16


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_a_whole_image_has_the_pixels_of_the_file(mode: str) -> None:
    image = noise_image(20, 12).convert(mode)
    whole = whole_image(encoded(image, "PNG", exif=exif_of(6)))
    assert (whole.mode, whole.size) == (mode, (20, 12))
    assert whole.tobytes() == image.tobytes()


def test_a_whole_jpeg_is_not_scaled_and_not_turned() -> None:
    data = encoded(smooth_image(1600, 1200), "JPEG", exif=exif_of(8))
    assert whole_image(data).size == (1600, 1200)


def test_a_whole_image_is_within_the_limits() -> None:
    data = encoded(smooth_image(40, 30), "PNG")
    for wrong, limits, code in (
        (data, DecodeLimits(max_pixels=1199), ErrorCode.TOO_LARGE),
        (data, DecodeLimits(max_bytes=len(data) - 1), ErrorCode.TOO_LARGE),
        (data[:60], DecodeLimits(), ErrorCode.UNDECODABLE),
        (b"", DecodeLimits(), ErrorCode.EMPTY),
    ):
        with pytest.raises(RowFailure) as caught:
            whole_image(wrong, limits)
        assert caught.value.error.code is code
