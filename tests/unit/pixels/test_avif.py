"""The frames of AVIF files, which their containers may understate."""

import struct

import pytest
from PIL import Image
from support.image_files import encoded, noise_image

from aigid.contract import ImageSpec
from aigid.pixels import decode_image
from aigid.pixels.avif import largest_frame
from aigid.pixels.limits import DecodeLimits
from aigid.records import ErrorCode, RowFailure

SPEC = ImageSpec(size=32)


def avif(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    return encoded(noise_image(width, height).convert(mode), "AVIF", speed=10, **options)


def understated(data: bytes) -> bytes:
    """Return an AVIF whose container says 64 x 64 pixels everywhere."""
    found, place = bytearray(data), data.find(b"ispe")
    while place >= 0:
        found[place + 8 : place + 16] = struct.pack(">II", 64, 64)
        place = data.find(b"ispe", place + 1)
    return bytes(found)


def refusal(data: bytes, limits: DecodeLimits = DecodeLimits()) -> RowFailure:
    with pytest.raises(RowFailure) as caught:
        decode_image(data, SPEC, limits)
    return caught.value


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def file_of(*boxes: bytes) -> bytes:
    brands = box(b"ftyp", b"avif\0\0\0\0avifmif1")
    return brands + box(b"meta", bytes(4) + b"".join(boxes))


def locations(count: int, start: int, length: int) -> bytes:
    items = b"".join(
        struct.pack(">HHHII", item, 0, 1, start + item, length) for item in range(count)
    )
    return box(b"iloc", struct.pack(">IHH", 0, 0x4400, count) + items)


AFTER_ONE_ITEM = len(file_of(locations(1, 0, 0)))


@pytest.mark.parametrize("size", [(1, 1), (37, 80), (1000, 700)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_the_frame_of_an_avif_is_found(size: tuple[int, int], mode: str, subsampling: str) -> None:
    data = avif(*size, mode, subsampling=subsampling)
    assert largest_frame(data) == size
    assert largest_frame(understated(data)) == size


def test_the_frames_of_an_animation_are_found() -> None:
    others = [Image.new("RGB", (70, 50))]
    data = avif(70, 50, save_all=True, append_images=others)
    assert b"moov" in data
    assert largest_frame(data) == (70, 50)


def test_the_pixels_of_a_frame_count_and_not_those_of_its_container() -> None:
    data = understated(avif(100, 90))
    decode_image(data, SPEC, DecodeLimits(max_pixels=9000))
    failure = refusal(data, DecodeLimits(max_pixels=8999))
    assert failure.error.code is ErrorCode.TOO_LARGE
    assert failure.error.detail == "100 x 90 pixels; the limit is 8999"
    failure = refusal(data, DecodeLimits(max_memory_bytes=9000 * 12))
    assert failure.error.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        file_of(locations(60_000, 0, 1) * 3),
        file_of(box(b"free", b"") * 150_000),
        file_of(locations(1, AFTER_ONE_ITEM, 400_000)) + b"\x12\0" * 200_000,
        # Items with neither place nor size.
        file_of(box(b"iloc", bytes(6) + b"\xff\xff" + b"\0\0\0\0\xff\xff" * 65_535)),
    ],
    ids=["items", "boxes", "units", "parts of items"],
)
def test_an_avif_of_very_many_parts_is_too_large(data: bytes) -> None:
    with pytest.raises(RowFailure) as caught:
        largest_frame(data)
    assert caught.value.error.code is ErrorCode.TOO_LARGE


def test_items_that_overlap_are_damage() -> None:
    data = file_of(locations(100, 0, 5000)) + bytes(5000)
    with pytest.raises(ValueError, match="overlap"):
        largest_frame(data)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_a_cut_avif_is_undecodable(share: float) -> None:
    data = avif(100, 90)
    assert refusal(data[: int(len(data) * share)]).error.code is ErrorCode.UNDECODABLE
