"""TIFFs that libtiff prints errors about."""

import subprocess
import sys

import pytest
from support.image_files import encoded, smooth_image

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
