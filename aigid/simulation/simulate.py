"""A labelled manifest of simulated pictures, in the schema of the MS COCOAI data set, for demos and tests.

Each scene has six rows, as in that data set: one through a camera (`camera`), and one through each of five families
of generator decoders (`decoders`). All rows share the development, the noise levels, the sizes and the JPEG
qualities, so that nothing but the trace tells them apart. Every row has a random state of its own, made of seed,
split, scene and class: the bytes that are written don't depend on the number of workers.
"""

import io
import multiprocessing
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from aigid.errors import UsageError
from aigid.records import SOURCES
from aigid.simulation.camera import develop, photograph, sharpen
from aigid.simulation.generators import generate
from aigid.simulation.scenes import Light, Scene, draw_scene, render_scene

SCHEMA = pa.schema(
    [
        ("Caption", pa.string()),
        ("Image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("Label_A", pa.int32()),
        ("Label_B", pa.int32()),
    ]
)
"""The columns of MS COCOAI: `Label_A` is 0 (real) or 1, `Label_B` the index in `SOURCES`."""

JPEG_QUALITIES = (75, 98)
CHROMA_SUBSAMPLING = "4:2:0"
ASPECT_RATIOS = (1.0, 5 / 4, 4 / 3)
SHORTER_SIDES = (224, 1024)
"""The shorter sides drawn with `varied_sizes`."""

_SIDE_MULTIPLE = 8
_SIDE_LIMITS = (32, 4096)


class Split(StrEnum):
    """The parts of the data set; no two share a scene or a caption, whatever their seeds."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


_CAPTION_SHARES = {Split.TRAIN: range(6), Split.VALIDATION: range(6, 8), Split.TEST: range(8, 10)}
"""Which tenths of all captions (by checksum) each split may use."""


@dataclass(frozen=True)
class SimulationConfig:
    """What to simulate. Sides are in pixels; `workers` is how many processes share the work."""

    rows: int
    split: Split
    seed: int = 0
    shorter_side: int = 224
    varied_sizes: bool = False
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    rows_per_file: int = 2000
    rows_per_group: int = 100

    def __post_init__(self) -> None:
        for name in ("rows", "workers", "rows_per_file", "rows_per_group"):
            if getattr(self, name) < 1:
                raise UsageError(f"simulate: {name} must be 1 or more, got {getattr(self, name)}")
        if self.seed < 0:
            raise UsageError(f"simulate: seed must be 0 or more, got {self.seed}")
        low, high = _SIDE_LIMITS
        if not low <= self.shorter_side <= high:
            raise UsageError(
                f"simulate: shorter_side must be {low} to {high} pixels, got {self.shorter_side}"
            )
        if self.split not in list(Split):
            raise UsageError(
                f"simulate: split must be one of {', '.join(Split)}, got {self.split!r}"
            )
        object.__setattr__(self, "split", Split(self.split))


@dataclass(frozen=True)
class SimulatedRow:
    """One row of the manifest."""

    caption: str
    image: bytes
    path: str
    label_a: int
    label_b: int


def simulate(
    config: SimulationConfig, out_dir: Path, *, progress: Callable[[int], None] | None = None
) -> list[Path]:
    """Write the split's Parquet files into `out_dir` and give their paths; each file appears whole or not at all.

    `progress` is called with the number of rows done so far. Raises UsageError for files of another simulation there.
    """
    order = _row_order(config)
    bounds = list(range(0, config.rows, config.rows_per_file))
    paths = [
        out_dir / f"{config.split}-{index:05d}-of-{len(bounds):05d}.parquet"
        for index in range(len(bounds))
    ]
    _prepare_folder(config, out_dir, paths)
    files = [order[start : start + config.rows_per_file] for start in bounds]
    groups = [
        file[start : start + config.rows_per_group]
        for file in files
        for start in range(0, len(file), config.rows_per_group)
    ]
    made = _make_groups(config, groups)
    done = 0
    for path, file in zip(paths, files, strict=True):
        for rows in _write_file(path, islice(made, -(-len(file) // config.rows_per_group))):
            done += rows
            if progress is not None:
                progress(done)
    return paths


def _row_order(config: SimulationConfig) -> list[int]:
    """The rows' numbers, six to a scene, shuffled over the whole split."""
    state = np.random.SeedSequence(config.seed, spawn_key=(list(Split).index(config.split),))
    return [int(row) for row in np.random.default_rng(state).permutation(config.rows)]


def _prepare_folder(config: SimulationConfig, out_dir: Path, paths: list[Path]) -> None:
    """Make the folder, and refuse one where other files of the split would mix with the new ones."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"simulate: cannot make the folder {out_dir}: {error}") from error
    strangers = sorted(set(out_dir.glob(f"{config.split}-*.parquet")) - set(paths))
    if strangers:
        raise UsageError(
            f"simulate: {out_dir} holds {strangers[0].name} of another simulation: remove it or choose another folder"
        )


def _make_groups(config: SimulationConfig, groups: list[list[int]]) -> Iterator[pa.Table]:
    """The row groups in order; with several workers, at most two tasks for each are in flight."""
    if config.workers == 1:
        yield from (make_group(config, group) for group in groups)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(config.workers, len(groups)), mp_context=context) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        try:
            for group in groups:
                waiting.append(pool.submit(make_group, config, group))
                if len(waiting) >= 2 * config.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write_file(path: Path, tables: Iterator[pa.Table]) -> Iterator[int]:
    """Write the row groups, give the rows of each as it is written, and put the file in place at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        # The pictures are compressed already.
        with pq.ParquetWriter(
            temporary, SCHEMA, compression="none", use_dictionary=False
        ) as writer:
            for table in tables:
                writer.write_table(table, row_group_size=table.num_rows)
                yield table.num_rows
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def make_group(config: SimulationConfig, rows: list[int]) -> pa.Table:
    """The table of the rows of these numbers; what one worker does at a time."""
    made = [make_row(config, row) for row in rows]
    columns = {
        "Caption": [row.caption for row in made],
        "Image": [{"bytes": row.image, "path": row.path} for row in made],
        "Label_A": [row.label_a for row in made],
        "Label_B": [row.label_b for row in made],
    }
    return pa.table(columns, schema=SCHEMA)


def make_row(config: SimulationConfig, row: int) -> SimulatedRow:
    """Row number `row` before the shuffle: a function of seed, split, sizes and `row` alone."""
    number, label = divmod(row, len(SOURCES))
    scene, slots = split_scene(config, number)
    rng = _random_state(config, number, label + 1)
    height, width = _draw_size(config, rng)
    picture = _make_picture(scene, label, rng, (height, width))
    quality = int(rng.integers(JPEG_QUALITIES[0], JPEG_QUALITIES[1] + 1))
    return SimulatedRow(
        caption=scene.caption,
        image=_encode(picture, quality),
        path=f"{config.split}_{number:07d}_{slots[label]}.jpg",
        label_a=int(label > 0),
        label_b=label,
    )


def split_scene(config: SimulationConfig, number: int) -> tuple[Scene, list[int]]:
    """The split's scene of this number, and the shuffled suffixes of its six pictures' paths."""
    rng = _random_state(config, number, 0)
    scene = draw_scene(rng)
    while zlib.crc32(scene.caption.encode()) % 10 not in _CAPTION_SHARES[config.split]:
        scene = draw_scene(rng)
    return scene, [int(slot) for slot in rng.permutation(len(SOURCES))]


def _random_state(config: SimulationConfig, number: int, part: int) -> np.random.Generator:
    key = (list(Split).index(config.split), number, part)
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


def _draw_size(config: SimulationConfig, rng: np.random.Generator) -> tuple[int, int]:
    """Height and width, from one distribution for all classes."""
    shorter = (
        int(rng.integers(SHORTER_SIDES[0], SHORTER_SIDES[1] + 1))
        if config.varied_sizes
        else config.shorter_side
    )
    ratio = ASPECT_RATIOS[rng.integers(len(ASPECT_RATIOS))]
    longer = max(shorter, round(shorter * ratio / _SIDE_MULTIPLE) * _SIDE_MULTIPLE)
    return (shorter, longer) if rng.random() < 0.5 else (longer, shorter)


def _make_picture(
    scene: Scene, label: int, rng: np.random.Generator, size: tuple[int, int]
) -> Light:
    """The display values of the scene by the camera or the generator of `label`; made a little larger, then cut."""
    height, width = (-(-side // _SIDE_MULTIPLE) * _SIDE_MULTIPLE for side in size)
    light = render_scene(scene, rng, height, width)
    picture = (
        generate(develop(light, rng), SOURCES[label], rng)
        if label
        else develop(photograph(light, rng), rng)
    )
    return sharpen(picture, rng)[: size[0], : size[1]]


def _encode(picture: Light, quality: int) -> bytes:
    pixels = np.clip(picture * np.float32(255) + np.float32(0.5), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=CHROMA_SUBSAMPLING)
    return buffer.getvalue()
