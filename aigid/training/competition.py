"""Labelled manifests for the folders of the CT2 competition (De-Factify 4)."""

import csv
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.parquet as pq
from openpyxl import load_workbook

from aigid.errors import ManifestError
from aigid.records import DEFAULT_LABELS

# The image folders of Train, in the order of Label_B.
_FOLDERS = (
    "coco_image",
    "sd21_image",
    "sdxl_image",
    "sd3_image",
    "dalle_image",
    "midjourney_image",
)
_CAPTIONS = ("Train", "captions.xlsx")
_VALIDATION = ("Validation", "val_shuffle.csv")
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("prompt", pa.string()),
        ("Label_A", pa.int32()),
        ("Label_B", pa.int32()),
    ]
)

_Row = tuple[str, str, int, int]


@dataclass(frozen=True)
class WrittenManifest:
    """A manifest that was written; `missing` counts the listed images that do not exist."""

    path: Path
    rows: int
    missing: int


def write_competition_manifests(folder: Path) -> list[WrittenManifest]:
    """Write `train.parquet` and `validation.parquet` into the competition's folder.

    Image paths in them are relative to the folder. Train holds `captions.xlsx` (Index, Caption) and
    one folder of `image_<Index>.jpg` per class. Validation holds `val_shuffle.csv` (Index, Caption,
    Label_A, Label_B) and its images. Listed images that do not exist are left out and counted.
    Raises ManifestError where a list is missing or malformed, or none of its images exists.
    """
    return [
        _write(folder, "train", _train_rows(folder)),
        _write(folder, "validation", _validation_rows(folder)),
    ]


def _write(folder: Path, name: str, rows: Iterator[_Row]) -> WrittenManifest:
    found, missing = [], 0
    for row in rows:
        if (folder / row[0]).is_file():
            found.append(row)
        else:
            missing += 1
    if not found:
        raise ManifestError(
            f"{folder}: none of the {name} images exists: give the folder that holds Train and "
            "Validation"
        )
    path = folder / f"{name}.parquet"
    columns = [
        pa.array(column, kind)
        for column, kind in zip(zip(*found, strict=True), _SCHEMA.types, strict=True)
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), path)
    return WrittenManifest(path, len(found), missing)


def _train_rows(folder: Path) -> Iterator[_Row]:
    for index, caption in _captions(folder.joinpath(*_CAPTIONS)):
        for label, name in enumerate(_FOLDERS):
            yield f"{_CAPTIONS[0]}/{name}/image_{index}.jpg", caption, int(label > 0), label


def _captions(file: Path) -> Iterator[tuple[int, str]]:
    try:
        with closing(load_workbook(file, read_only=True)) as book:
            rows = book.active.iter_rows(values_only=True)
            head = [str(name) for name in next(rows)]
            index, caption = head.index("Index"), head.index("Caption")
            yield from (
                (int(row[index]), str(row[caption] or "")) for row in rows if row[index] is not None
            )
    except FileNotFoundError as error:
        raise ManifestError(f"{file}: no such file") from error
    except (OSError, BadZipFile, KeyError, ValueError, TypeError, StopIteration) as error:
        raise ManifestError(f"{file}: not a list of Index and Caption: {error}") from error


def _validation_rows(folder: Path) -> Iterator[_Row]:
    file = folder.joinpath(*_VALIDATION)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for number, row in enumerate(csv.DictReader(lines), 2):
                label_a, label_b = int(row["Label_A"]), int(row["Label_B"])
                if label_b not in range(len(DEFAULT_LABELS)) or label_a != int(label_b > 0):
                    raise ManifestError(
                        f"{file}, line {number}: Label_A {label_a} and Label_B {label_b} "
                        "contradict each other"
                    )
                image = f"{_VALIDATION[0]}/image_{int(row['Index'])}.jpg"
                yield image, row["Caption"], label_a, label_b
    except FileNotFoundError as error:
        raise ManifestError(f"{file}: no such file") from error
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ManifestError(
            f"{file}: not a list of Index, Caption, Label_A and Label_B: {error}"
        ) from error
