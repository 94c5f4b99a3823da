"""Make watermarks.npz: what the package `invisible-watermark` 0.2.0 adds to an image.

    pip install --no-deps invisible-watermark==0.2.0 opencv-python-headless PyWavelets
    python tests/references/watermarks.py

Only its method is imported: the package itself imports torch. The image is made here, and the file
holds the differences alone.
"""

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

FILE = Path(__file__).parent / "watermarks.npz"
SIZE = 256
MARKS = {
    "StableDiffusionV1": (np.uint8, "".join(f"{byte:08b}" for byte in b"StableDiffusionV1")),
    "SDV2": (np.uint8, "".join(f"{byte:08b}" for byte in b"SDV2")),
    "SDXL": (np.float32, "101100111110110010010000011110111011000110011110"),
    "FLUX": (np.float32, "1010101111111010000111100111001111010100101110"),
    "InvokeAI": (np.uint8, "".join(f"{byte:08b}" for byte in b"InvokeAI")),
}
"""The kind of numbers that a generator gives to the package, and the bits of its mark."""


def base_image() -> npt.NDArray[np.uint8]:
    """Return an image of tiles, uint8 RGB [SIZE, SIZE, 3]."""
    y, x = np.mgrid[:SIZE, :SIZE] // 8
    red, green, blue = 40 + 3 * x, 60 + 2 * y, 120 + x - y
    return np.stack([red, green, blue], axis=2).astype(np.uint8)


def watermarked(name: str) -> npt.NDArray[np.uint8]:
    """Return the image with a mark, of the reference."""
    with np.load(FILE) as differences:
        return np.asarray(base_image() + differences[name], np.uint8)


def _mark(kind: type, bits: str) -> npt.NDArray[np.int16]:
    (folder,) = importlib.util.find_spec("imwatermark").submodule_search_locations
    spec = importlib.util.spec_from_file_location("method", Path(folder) / "maxDct.py")
    method = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(method)
    embed = method.EmbedMaxDct([int(bit) for bit in bits], wmLen=len(bits))
    bgr = np.ascontiguousarray(base_image()[:, :, ::-1].astype(kind))
    marked = np.asarray(embed.encode(bgr)[:, :, ::-1]).round().clip(0, 255)
    return (marked - base_image()).astype(np.int8)


if __name__ == "__main__":
    np.savez_compressed(FILE, **{name: _mark(*mark) for name, mark in MARKS.items()})
