"""Small manifests of noise images, in the data set's schema."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

REPOSITORY = Path(__file__).parents[2] / "model_repository"
SIDE = 32
HF_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CAPTIONS = (
    "a red car",
    "two dogs on a beach under a cloudy sky",
    "",
    "a very long caption of many words " * 6,
)


def encoded_image(seed: int, side: int = 40, kind: str = "PNG") -> bytes:
    """Return a small encoded image of noise, another for each seed."""
    pixels = np.random.default_rng(seed).integers(
        0, 256, (side, side + seed % 7, 3), dtype=np.uint8
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def manifest_table(rows: int, seed: int = 0) -> pa.Table:
    """A manifest in the data set's schema, with an id."""
    images = [{"bytes": encoded_image(seed + row), "path": f"{row}.png"} for row in range(rows)]
    captions = [CAPTIONS[(seed + row) % len(CAPTIONS)] for row in range(rows)]
    labels = [row % 6 for row in range(rows)]
    return pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "Caption": captions,
            "Image": pa.array(images, HF_IMAGE),
            "Label_A": pa.array([int(label > 0) for label in labels], pa.int32()),
            "Label_B": pa.array(labels, pa.int32()),
        }
    )
