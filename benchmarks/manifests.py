"""Manifests for benchmarks: simulated images with captions of usual lengths, from a fixed seed."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aigid.simulation import SimulationConfig, Split, make_row

SCHEMA = pa.schema({"image": pa.binary(), "caption": pa.string()})
PHOTOGRAPH_SIDE, TINY_SIDE = 1024, 32
CAPTION_WORDS = (8, 20)

# Decoding an image again costs as much as the first time, so a few dozen are enough for all rows.
IMAGES = 48
ROW_GROUP_ROWS = 1000

WORDS = (
    "a the two three of in on with under near beside a small large young old red blue green yellow "
    "white black wooden man woman dog cat child horse bird train bus boat plane bench table chair "
    "street river field beach mountain kitchen window bottle plate pizza cake sandwich laptop "
    "clock umbrella skateboard surfboard kite sitting standing riding holding walking parked "
    "flying looking eating sleeping bright sunny cloudy crowded empty quiet grassy snowy"
)


def write_manifest(path: Path, rows: int, side: int = PHOTOGRAPH_SIDE) -> Path:
    """Write a manifest of JPEGs of `side` x `side` pixels and captions of 8 to 20 words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, SCHEMA) as writer:
        pairs = _pairs(_jpegs(side), rows)
        for start in range(0, rows, ROW_GROUP_ROWS):
            images, captions = zip(
                *(next(pairs) for _ in range(min(ROW_GROUP_ROWS, rows - start))), strict=True
            )
            writer.write_table(pa.table([images, captions], schema=SCHEMA))
    return path


def _pairs(jpegs: list[bytes], rows: int) -> Iterator[tuple[bytes, str]]:
    generator = np.random.default_rng(0)
    vocabulary, (shortest, longest) = WORDS.split(), CAPTION_WORDS
    for row in range(rows):
        words = generator.choice(vocabulary, generator.integers(shortest, longest + 1))
        yield jpegs[row % len(jpegs)], " ".join(words)


def _jpegs(side: int) -> list[bytes]:
    config = SimulationConfig(IMAGES, Split.TEST, shorter_side=max(side, 224))
    return [_square(make_row(config, row).image, side) for row in range(IMAGES)]


def _square(data: bytes, side: int) -> bytes:
    image = Image.open(io.BytesIO(data))
    left, top = (image.width - side) // 2, (image.height - side) // 2
    stream = io.BytesIO()
    image.crop((left, top, left + side, top + side)).save(stream, "JPEG", quality=90)
    return stream.getvalue()
