"""TIFFs that libtiff reports errors of."""

import subprocess
import sys

import numpy as np
import pytest
from support.image_files import encoded, smooth_image

from aigid.contract import ImageSpec
from aigid.pixels import decode_image
from aigid.records import ErrorCode, RowFailure

DECODE = """
import sys, warnings
warnings.simplefilter("ignore")
from aigid.contract import ImageSpec
from aigid.pixels import decode_image
from aigid.records import RowFailure
try:
    decode_image(sys.stdin.buffer.read(), ImageSpec())
except RowFailure as failure:
    print(failure)
"""


@pytest.mark.parametrize("compression", ["tiff_adobe_deflate", "zstd", "lzma", "jpeg", "group4"])
def test_a_damaged_tiff_prints_nothing(compression: str) -> None:
    image = smooth_image(64, 64).convert("1" if compression == "group4" else "RGB")
    data = bytearray(encoded(image, "TIFF", compression=compression))
    data[60:160] = bytes(range(100))
    done = subprocess.run(
        [sys.executable, "-c", DECODE], input=bytes(data), capture_output=True, check=True
    )
    assert done.stderr == b""


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group4"])
@pytest.mark.parametrize("seed", range(10))
def test_a_fax_whose_damage_libtiff_reports_is_undecodable(compression: str, seed: int) -> None:
    image = smooth_image(90, 80, seed).convert("1")
    data = bytearray(encoded(image, "TIFF", compression=compression))
    whole = decode_image(bytes(data), ImageSpec(size=32))
    place = len(data) // 3
    data[place : place + 16] = np.random.default_rng(seed).bytes(16)
    with pytest.raises(RowFailure) as caught:
        decode_image(bytes(data), ImageSpec(size=32))
    assert caught.value.error.code is ErrorCode.UNDECODABLE
    assert "libtiff" in caught.value.error.detail
    # The next one in this thread is not taken for damaged.
    again = encoded(image, "TIFF", compression=compression)
    assert np.array_equal(decode_image(again, ImageSpec(size=32)), whole)
