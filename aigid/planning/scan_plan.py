"""What the plan of a scan tells, as frozen records."""

import dataclasses
from dataclasses import dataclass
from typing import Any

DEFAULT_SAMPLE_ROWS = 256
"""Rows that a plan fetches, decodes and scores."""


@dataclass(frozen=True)
class FilesFound:
    """The files of one kind: how many, their rows and their bytes.

    With `at_least`, some are tars whose rows are not counted. `bytes` is None for images of a
    folder, which are listed by name alone.
    """

    kind: str
    files: int
    rows: int
    at_least: bool
    bytes: int | None


@dataclass(frozen=True)
class PlannedColumns:
    """The columns that are taken for images and prompts, copied, and not read, by name.

    `others` has the pairs of columns of images and prompts of files where these differ.
    """

    image: str
    prompt: str | None
    keep: tuple[str, ...]
    others: tuple[tuple[str | None, ...], ...]
    not_read: tuple[str, ...]


@dataclass(frozen=True)
class SampleError:
    """An error of sampled rows: its code, how many rows have it, and the first of them."""

    code: str
    rows: int
    manifest: str
    row: int
    image: str | None
    detail: str


@dataclass(frozen=True)
class SampleFigures:
    """What the sample shows.

    `images` counts the rows by where their images are. `image_bytes` is the mean size of images
    that the manifest holds, None without any. The milliseconds are those of one thread for a row:
    `decode_ms` of its CPU time before scoring, `score_ms` of scoring, and `wait_ms` of waiting for
    images, disks and other threads. They are None where no image was scored. With `on_servers`,
    Triton servers score, and `score_ms` is the CPU time of sending a row to them.
    """

    rows: int
    scored: int
    seconds: float
    images: dict[str, int]
    image_bytes: float | None
    errors: tuple[SampleError, ...]
    decode_ms: float | None
    on_servers: bool
    score_ms: float | None
    wait_ms: float | None


@dataclass(frozen=True)
class Estimate:
    """What the whole scan would take on this host, from the sample.

    `rows` is a guess by bytes where tars are not counted. `memory_mib` is calculated for images
    like the sample's, `most_memory_mib` for any images. `cost` is in the currency of the price.
    """

    rows: int
    rows_per_s: float
    seconds: float
    memory_mib: float
    most_memory_mib: float
    results_bytes: int
    cost: float | None


@dataclass(frozen=True)
class ScanPlan:
    """The plan of a scan. `refusal` is the error with which the scan would stop at a sampled row.

    Without a sample that could be read, `sample` is None; without a scored image, so is `estimate`.
    """

    files: tuple[FilesFound, ...]
    rows: int
    at_least: bool
    shards: int
    columns: PlannedColumns
    notes: tuple[str, ...]
    model: str
    precision: str
    notice: str
    threads: int
    sample: SampleFigures | None
    refusal: str | None
    estimate: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as values that JSON can hold."""
        return dataclasses.asdict(self)
