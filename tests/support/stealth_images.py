"""Images with text in the lowest bits of their pixels, as NovelAI and others hide it."""

import gzip

import numpy as np
from PIL import Image

from support.image_files import noise_image


def with_stealth_text(
    text: bytes,
    *,
    place: str = "alpha",
    compressed: bool = True,
    size: tuple[int, int] = (96, 64),
    bits_of_length: int | None = None,
) -> Image.Image:
    """Return an image with the text in alpha or in its colours, column by column."""
    channels = {"alpha": "png", "rgb": "rgb"}[place]
    body = gzip.compress(text) if compressed else text
    signature = f"stealth_{channels}{'comp' if compressed else 'info'}".encode()
    length = len(body) * 8 if bits_of_length is None else bits_of_length
    bits = np.unpackbits(np.frombuffer(signature + length.to_bytes(4, "big") + body, np.uint8))
    pixels = np.asarray(noise_image(*size).convert("RGBA")).copy()
    # [width, height, channels]: the bits run down the columns.
    columns = pixels.swapaxes(0, 1)
    chosen = columns[:, :, 3:] if place == "alpha" else columns[:, :, :3]
    flat = chosen.reshape(-1)
    assert len(bits) <= len(flat)
    flat[: len(bits)] = flat[: len(bits)] & 0xFE | bits
    chosen[:] = flat.reshape(chosen.shape)
    return Image.fromarray(pixels if place == "alpha" else np.ascontiguousarray(pixels[:, :, :3]))
