"""Labelled manifests: Label_A is 0 (real) or 1 (AI-generated), Label_B 0 or the generator."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from aigid.errors import TrainingError, UsageError
from aigid.manifest import ColumnChoice, Manifest, Segment, open_manifest, read_columns
from aigid.records import DEFAULT_LABELS


def open_labelled(paths: Sequence[str]) -> Manifest:
    """Open a manifest that keeps its label columns.

    Raises ManifestError where it cannot be read, and UsageError where it has no labels.
    """
    # The second opening checks that every file has the label columns, with one type.
    return open_manifest(paths, ColumnChoice(keep=label_columns(open_manifest(paths))))


def row_group_segments(manifest: Manifest) -> list[Segment]:
    """Return the row groups of all files, in order, without empty ones."""
    segments = []
    for file in manifest.files:
        start = 0
        for rows in file.row_groups:
            segments.append(Segment(file, start, start + rows))
            start += rows
    return [segment for segment in segments if segment.rows]


def has_labels(manifest: Manifest) -> bool:
    """Return whether a manifest has the columns Label_A and Label_B."""
    return {"label_a", "label_b"} <= {name.lower() for name in manifest.schema.names}


def is_pseudo_labelled(manifest: Manifest) -> bool:
    """Return whether a manifest's labels were predicted by a model (`aigid pseudo-label`)."""
    return "p_generator" in manifest.schema.names


def reject_pseudo_labels(manifest: Manifest) -> None:
    """Raise UsageError where a manifest's labels were predicted by a model."""
    if is_pseudo_labelled(manifest):
        raise UsageError(
            f"{manifest.files[0].path}: its labels are pseudo-labels, a model's predictions: use "
            "them for training only, and give a manifest with known labels here"
        )


def label_columns(manifest: Manifest) -> tuple[str, str]:
    """Return the names of the columns Label_A and Label_B, in the manifest's own case.

    Raises UsageError where one is missing or does not hold integers.
    """
    names, file = manifest.schema.names, manifest.files[0].path
    by_lower = {name.lower(): name for name in names}
    try:
        label_a, label_b = by_lower["label_a"], by_lower["label_b"]
    except KeyError as error:
        raise UsageError(
            f"{file}: no column {error.args[0]}; a labelled manifest has Label_A (0 real, 1 AI) "
            f"and Label_B (0 real, 1 to 5 the generator); the columns are {', '.join(names)}"
        ) from error
    for name in (label_a, label_b):
        kind = manifest.schema.field(name).type
        if not pa.types.is_integer(kind):
            raise UsageError(f"{file}: column {name} is {kind}; labels must be integers")
    return label_a, label_b


def count_classes(manifest: Manifest) -> Counter[int]:
    """Return the number of rows of each Label_B; reads the labels of all files and checks them.

    Raises TrainingError where a row's labels are invalid.
    """
    counts: Counter[int] = Counter()
    names = label_columns(manifest)
    for file in manifest.files:
        table = read_columns(file, list(names))
        label_a, label_b = (table.column(name).to_pylist() for name in names)
        for row, labels in enumerate(zip(label_a, label_b, strict=True)):
            check_labels(*labels, f"{file.path}, row {row}")
        counts.update(label_b)
    return counts


def check_labels(label_a: int | None, label_b: int | None, where: str) -> None:
    """Raise TrainingError where a row's labels are out of range or contradict each other."""
    if label_a not in (0, 1) or label_b not in range(len(DEFAULT_LABELS)):
        raise TrainingError(
            f"{where}: Label_A is {label_a} and Label_B is {label_b}; "
            f"Label_A must be 0 or 1, and Label_B from 0 to {len(DEFAULT_LABELS) - 1}"
        )
    if (label_a == 0) != (label_b == 0):
        raise TrainingError(
            f"{where}: Label_A {label_a} and Label_B {label_b} contradict each other: "
            "a real row has 0 in both"
        )
