"""The perceptual hash: 64 bits that similar images share."""

import io
import sys

import imagehash
import numpy as np
import pytest
from PIL import Image
from support.manifests import encoded_image

from aigid.answers import PerceptualHash
from aigid.errors import MissingExtraError
from aigid.pixels import Pixels


def pixels(data: bytes, side: int = 64) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB").resize((side, side)))


def smooth(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_it_is_the_library_s_hash_as_an_unsigned_integer() -> None:
    for seed in range(5):
        found = pixels(encoded_image(seed))
        expected = str(imagehash.phash(Image.fromarray(found)))
        assert f"{PerceptualHash().of(found):016x}" == expected


def test_near_duplicates_share_most_bits_and_other_images_do_not() -> None:
    one, same, other = (
        PerceptualHash().of(pixels(data))
        for data in (jpeg(smooth(1), 95), jpeg(smooth(1), 60), jpeg(smooth(2), 95))
    )
    assert (one ^ same).bit_count() <= 6 < (one ^ other).bit_count()


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MissingExtraError, match=r"`hash` needs imagehash: pip install .*\[hash\]"):
        PerceptualHash()
