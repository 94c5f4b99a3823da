"""HEIC and HEIF images, with their extra and without it."""

import io
import subprocess
import sys

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from support.image_files import encoded, exif_of, smooth_image

from aigid.contract import ImageSpec, Resizing
from aigid.pixels import DecodeLimits, decode_image, open_image
from aigid.records import ErrorCode, RowFailure

SIDE = 32
SPEC = ImageSpec(size=SIDE)


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


@pytest.mark.parametrize("size", [(64, 48), (50, 70)])
def test_a_heic_gives_nearly_its_pixels(size: tuple[int, int]) -> None:
    image = smooth_image(*size)
    expected = decode_image(encoded(image, "PNG"), SPEC)
    assert mean_difference(decode_image(encoded(image, "HEIF", quality=95), SPEC), expected) < 3


def test_the_transparent_pixels_of_a_heic_become_white() -> None:
    image = Image.new("RGBA", (64, 64), (200, 30, 60, 0))
    assert decode_image(encoded(image, "HEIF", quality=100), SPEC).min() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_an_orientation_is_applied_once(orientation: int, kind: str) -> None:
    # The container says how to turn the image, and the EXIF block says it once more.
    image = smooth_image(64, 48)
    turned = encoded(image, kind, exif=exif_of(orientation).tobytes(), quality=95)
    upright = decode_image(encoded(image, "PNG", exif=exif_of(orientation)), SPEC)
    assert mean_difference(decode_image(turned, SPEC), upright) < 4


def test_the_first_image_of_a_heic_counts_and_never_its_thumbnail() -> None:
    first, second = smooth_image(160, 120, 1), smooth_image(160, 120, 2)
    several = pillow_heif.from_pillow(first)
    several.add_from_pillow(second)
    stream = io.BytesIO()
    several.save(stream, quality=90, thumbnails=[80], primary_index=0)
    found = decode_image(stream.getvalue(), SPEC)
    expected = decode_image(encoded(first, "PNG"), SPEC)
    assert mean_difference(found, expected) < 3
    whole = ImageSpec(size=SIDE, resizing=Resizing.NATIVE_CROP)
    assert decode_image(stream.getvalue(), whole).shape == (SIDE, SIDE, 3)


def test_a_heic_is_refused_by_its_header() -> None:
    data = encoded(smooth_image(64, 48), "HEIF")
    for limits in (DecodeLimits(max_pixels=3000), DecodeLimits(max_memory_bytes=10_000)):
        with pytest.raises(RowFailure) as caught:
            decode_image(data, SPEC, limits)
        assert caught.value.error.code is ErrorCode.TOO_LARGE
    assert open_image(data).size == (64, 48)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_truncated_heic_is_undecodable(share: float) -> None:
    data = encoded(smooth_image(64, 48), "HEIF")
    with pytest.raises(RowFailure) as caught:
        decode_image(data[: int(len(data) * share)], SPEC)
    assert caught.value.error.code is ErrorCode.UNDECODABLE


WITHOUT_EXTRA = """
import sys
sys.modules["pillow_heif"] = None
from aigid.contract import ImageSpec
from aigid.pixels import decode_image
from aigid.records import RowFailure
data = sys.stdin.buffer.read()
for part in (data, data + b"more"):
    try:
        decode_image(part, ImageSpec())
    except RowFailure as failure:
        print(failure)
"""


def test_without_the_extra_each_heic_has_the_same_error_that_names_it() -> None:
    data = encoded(smooth_image(64, 48), "HEIF")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA], input=data, capture_output=True, check=True
    )
    first, second = done.stdout.decode().splitlines()
    assert first == second
    assert first.startswith("undecodable: a HEIC image, which needs pillow_heif: pip install")
    assert "[heif]" in first
