"""The hashes of an image: of its encoded bytes, and of what it looks like."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from aigid.extras import missing_extra
from aigid.pixels import Pixels


@dataclass(frozen=True)
class ImageHash:
    """The SHA-256 of an image's encoded bytes, and its perceptual hash if it could be decoded."""

    sha256: bytes
    perceptual: int | None = None


@dataclass(frozen=True)
class PerceptualHash:
    """The DCT hash of the library ImageHash: 64 bits, of which similar images share most.

    Raises MissingExtraError without the extra `hash`.
    """

    def __post_init__(self) -> None:
        try:
            import imagehash  # noqa: F401 - only whether it is there
        except ModuleNotFoundError as error:
            raise missing_extra("`hash`", error, "hash") from error

    def of(self, pixels: Pixels) -> int:
        """Return the hash of decoded pixels, uint8 [height, width, 3], as an unsigned integer."""
        import imagehash

        bits = imagehash.phash(Image.fromarray(pixels)).hash
        return int.from_bytes(np.packbits(bits).tobytes(), "big")
