"""The rows of a simulation, each a function of seed, split, sizes and its own number.

Each scene has six rows, as in the MS COCOAI data set: one photograph (`camera`) and one image by
each of five decoder families (`generators`). All rows share the development, the noise levels, the
sizes and the JPEG qualities, so that only the trace of the camera or the decoder tells them apart.
"""

import io
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from aigid.records import DEFAULT_LABELS
from aigid.simulation.camera import develop, photograph, sharpen
from aigid.simulation.config import SimulationConfig, Split
from aigid.simulation.generators import generate
from aigid.simulation.light import Light
from aigid.simulation.rendering import render_scene
from aigid.simulation.scene import Scene, draw_scene

JPEG_QUALITIES = (75, 98)
CHROMA_SUBSAMPLING = "4:2:0"
ASPECT_RATIOS = (1.0, 5 / 4, 4 / 3)
SHORTER_SIDES = (224, 1024)
"""The range of shorter sides that `varied_sizes` draws from."""

_SIDE_MULTIPLE = 8
"""Decoders need sides divisible by 8."""

_CAPTION_TENTHS = {Split.TRAIN: range(6), Split.VALIDATION: range(6, 8), Split.TEST: range(8, 10)}
"""The tenths of all captions, by checksum, that each split uses."""


@dataclass(frozen=True)
class SimulatedRow:
    """One row of the manifest."""

    caption: str
    image: bytes
    path: str
    label_a: int
    label_b: int


def make_row(config: SimulationConfig, row: int) -> SimulatedRow:
    """Return row number `row`, as counted before the rows are shuffled."""
    number, label = divmod(row, len(DEFAULT_LABELS))
    scene, suffixes = draw_split_scene(config, number)
    rng = _random_state(config, number, label + 1)
    height, width = _draw_size(config, rng)
    image = _make_image(scene, label, rng, (height, width))
    quality = int(rng.integers(JPEG_QUALITIES[0], JPEG_QUALITIES[1] + 1))
    return SimulatedRow(
        caption=scene.caption,
        image=_encode(image, quality),
        path=f"{config.split}_{number:07d}_{suffixes[label]}.jpg",
        label_a=int(label > 0),
        label_b=label,
    )


def draw_split_scene(config: SimulationConfig, number: int) -> tuple[Scene, list[int]]:
    """Return scene `number` of the split, and the shuffled suffixes of its six paths."""
    rng = _random_state(config, number, 0)
    scene = draw_scene(rng)
    while zlib.crc32(scene.caption.encode()) % 10 not in _CAPTION_TENTHS[config.split]:
        scene = draw_scene(rng)
    return scene, [int(suffix) for suffix in rng.permutation(len(DEFAULT_LABELS))]


def _random_state(config: SimulationConfig, number: int, part: int) -> np.random.Generator:
    key = (config.split.number, number, part)
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


def _draw_size(config: SimulationConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Return height and width, drawn from one distribution for all classes."""
    shorter = (
        int(rng.integers(SHORTER_SIDES[0], SHORTER_SIDES[1] + 1))
        if config.varied_sizes
        else config.shorter_side
    )
    ratio = ASPECT_RATIOS[rng.integers(len(ASPECT_RATIOS))]
    longer = max(shorter, round(shorter * ratio / _SIDE_MULTIPLE) * _SIDE_MULTIPLE)
    return (shorter, longer) if rng.random() < 0.5 else (longer, shorter)


def _make_image(scene: Scene, label: int, rng: np.random.Generator, size: tuple[int, int]) -> Light:
    """Return the display values of the scene by the camera or the decoder of class `label`.

    The image is made with sides divisible by 8, then cut to `size`.
    """
    height, width = (-(-side // _SIDE_MULTIPLE) * _SIDE_MULTIPLE for side in size)
    light = render_scene(scene, rng, height, width)
    image = (
        generate(develop(light, rng), DEFAULT_LABELS[label], rng)
        if label
        else develop(photograph(light, rng), rng)
    )
    return sharpen(image, rng)[: size[0], : size[1]]


def _encode(image: Light, quality: int) -> bytes:
    pixels = np.clip(image * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=CHROMA_SUBSAMPLING)
    return buffer.getvalue()
