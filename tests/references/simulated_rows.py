"""Make the golden reference of the simulation: what rows of a seed hold.

    python tests/references/simulated_rows.py

`tests/unit/simulation/test_golden_rows.py` compares the rows that the code makes today with it. A
changed reference means that every model trained on simulated data was trained on other data.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aigid.simulation import SimulationConfig, Split, make_row

ROWS_FILE = Path(__file__).parent / "simulated_rows.json"
# The first seven scenes of this seed are of all seven kinds.
CONFIG = SimulationConfig(rows=42, split=Split.TRAIN, seed=319, shorter_side=48, workers=1)
GRID = 4


@dataclass(frozen=True)
class DescribedRow:
    """A row in figures: `grid` is the mean colour of 4x4 fields, `detail` the fine contrast."""

    caption: str
    path: str
    label_b: int
    size: list[int]
    quantisation: int
    grid: list[list[list[int]]]
    detail: float


def describe_rows() -> list[DescribedRow]:
    """Return the rows that the simulation makes today."""
    return [describe_row(row) for row in range(CONFIG.rows)]


def describe_row(number: int) -> DescribedRow:
    """Return one row in figures."""
    row = make_row(CONFIG, number)
    image: Any = Image.open(io.BytesIO(row.image))
    pixels = np.asarray(image, np.float64)
    grid = np.asarray(image.resize((GRID, GRID), Image.Resampling.BOX))
    detail = np.abs(np.diff(pixels.mean(axis=2), axis=1)).mean()
    tables = image.quantization
    return DescribedRow(
        caption=row.caption,
        path=row.path,
        label_b=row.label_b,
        size=list(image.size),
        quantisation=sum(tables[0]),
        grid=grid.tolist(),
        detail=round(float(detail), 3),
    )


def read_rows() -> list[DescribedRow]:
    """Return the committed reference."""
    return [DescribedRow(**row) for row in json.loads(ROWS_FILE.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(vars(row)) for row in describe_rows())
    ROWS_FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
