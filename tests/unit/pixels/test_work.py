"""Small files that ask for much work or memory, in formats that Pillow reads piece by piece."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from support.image_files import encoded, noise_image, smooth_image

from aigid.contract import ImageSpec, Resizing
from aigid.pixels import DecodeLimits, Pixels, decode_image
from aigid.records import ErrorCode, RowFailure

SPEC = ImageSpec(size=32)
SIDE = 32


def refusal(data: bytes, limits: DecodeLimits = DecodeLimits()) -> tuple[ErrorCode, str]:
    with pytest.raises(RowFailure) as caught:
        decode_image(data, SPEC, limits)
    return caught.value.error.code, caught.value.error.detail


def gif_with(blocks: bytes) -> bytes:
    data = encoded(noise_image(SIDE, SIDE).quantize(64), "GIF")
    start = data.index(b",", 13 + 3 * 64)
    return data[:start] + blocks + data[start:]


@pytest.mark.parametrize(
    "blocks",
    [
        lambda count: b"!\xfe" + b"\1x" * count + b"\0",
        lambda count: b"!\xfe\1x\0" * count,
        lambda count: b"\0" * count,
    ],
    ids=["one comment", "comments", "junk"],
)
def test_a_gif_of_very_many_blocks_is_too_large(blocks: Callable[[int], bytes]) -> None:
    plain = decode_image(gif_with(b""), SPEC)
    assert np.array_equal(decode_image(gif_with(blocks(1000)), SPEC), plain)
    code, detail = refusal(gif_with(blocks(600_000)))
    assert (code, "blocks" in detail) == (ErrorCode.TOO_LARGE, True)


def run_length_bmp(width: int, height: int, runs: bytes) -> bytes:
    start = 54 + 1024
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    palette = bytes(value for index in range(256) for value in (index, index, index, 0))
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


def test_a_large_run_length_coded_bmp_is_too_large() -> None:
    row = bytes((SIDE, 7)) + b"\0\0"
    assert np.all(decode_image(run_length_bmp(SIDE, SIDE, row * SIDE + b"\0\1"), SPEC) == 7)
    code, detail = refusal(run_length_bmp(9000, 9000, b"\xff\7\0\0" * 10))
    assert (code, "run-length" in detail) == (ErrorCode.TOO_LARGE, True)
    # As large, but not coded so: the data is missing.
    plain = bytearray(run_length_bmp(9000, 9000, b""))
    plain[30] = 0
    assert refusal(bytes(plain))[0] is ErrorCode.UNDECODABLE


def tiff(tags: dict[int, tuple[int, int, int]], rest: bytes, *, big: bool = False) -> bytes:
    """Return a grey TIFF with more tags: type, count and number by tag."""
    all_tags = {258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1), **tags}
    head = b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) if big else b"II*\0" + struct.pack("<I", 8)
    entry, count = ("<HHQQ", "<Q") if big else ("<HHII", "<H")
    entries = b"".join(struct.pack(entry, tag, *values) for tag, values in sorted(all_tags.items()))
    return head + struct.pack(count, len(all_tags)) + entries + bytes(8 if big else 4) + rest


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("offsets", [273, 324])
def test_a_tiff_of_very_many_strips_or_tiles_is_too_large(offsets: int, big: bool) -> None:
    count = 300_000
    tags = {256: (4, 1, 1), 257: (4, 1, count), offsets: (4, count, 400), 279: (4, count, 400)}
    code, detail = refusal(tiff(tags, bytes(4 * count + 400), big=big))
    assert (code, detail) == (
        ErrorCode.TOO_LARGE,
        "300000 strips or tiles; the limit is 250000",
    )


@pytest.mark.parametrize("big", [False, True])
def test_a_tile_that_is_far_larger_than_the_image_is_too_large(big: bool) -> None:
    size = {256: (4, 1, 8), 257: (4, 1, 8), 322: (4, 1, 30_000), 323: (4, 1, 30_000)}
    code, detail = refusal(tiff({**size, 324: (4, 1, 400), 325: (4, 1, 64)}, bytes(800), big=big))
    assert (code, "memory" in detail) == (ErrorCode.TOO_LARGE, True)


def test_a_tiff_of_many_strips_is_scored() -> None:
    image = noise_image(SIDE, 2000)
    strips = encoded(image, "TIFF", compression="tiff_lzw", strip_size=1)
    assert np.array_equal(decode_image(strips, SPEC), decode_image(encoded(image, "PNG"), SPEC))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "HEIF"])
def test_what_the_decoder_of_a_format_holds_counts_as_memory(kind: str) -> None:
    image = smooth_image(200, 100)
    data, limits = encoded(image, kind), DecodeLimits(max_memory_bytes=10 * 200 * 100)
    assert decode_image(encoded(image, "PNG"), SPEC, limits).shape == (SIDE, SIDE, 3)
    assert decode_image(data, SPEC).shape == (SIDE, SIDE, 3)
    code, detail = refusal(data, limits)
    assert (code, "memory" in detail) == (ErrorCode.TOO_LARGE, True)


def image_in(mode: str, samples: Pixels) -> Image.Image:
    """An image of samples [height, width, 4] in a mode."""
    if mode == "I;16":
        return Image.fromarray(np.ascontiguousarray(samples).view(np.uint16)[..., 0])
    if mode in ("P", "PA"):
        indexed = Image.fromarray(np.ascontiguousarray(samples[..., 0])).convert("P")
        indexed.putpalette(samples[0, :256, :3].tobytes())
        return indexed.convert(mode)
    return Image.fromarray(samples).convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "I;16", "P"])
def test_conversion_in_strips_changes_no_pixel(mode: str) -> None:
    # More than one strip, and rows that do not fill the last one; and the first rows alone.
    samples = np.random.default_rng(0).integers(0, 256, (401, 3000, 4), dtype=np.uint8)
    options = {"transparency": 7} if mode in ("P", "PA") else {}
    kind = "TIFF" if mode == "PA" else "PNG"
    whole, part = (
        encoded(image_in(mode, rows), kind, **options) for rows in (samples, samples[:SIDE])
    )
    grid = ImageSpec(size=SIDE, resizing=Resizing.FOUR_NATIVE_CROPS)
    assert np.array_equal(decode_image(whole, grid)[:SIDE], decode_image(part, grid)[:SIDE])
