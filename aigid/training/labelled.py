"""Manifests whose rows have labels: Label_A (0 real, 1 AI-generated) and Label_B (0 real, 1 to 5 the generator)."""

from collections.abc import Sequence

import pyarrow as pa

from aigid.errors import TrainingError, UsageError
from aigid.manifest import ColumnChoice, Manifest, Segment, open_manifest
from aigid.records import SOURCES


def open_labelled(sources: Sequence[str]) -> Manifest:
    """A manifest whose labels ride along; raises ManifestError where it cannot be read, UsageError where it has no labels."""
    # Opened again with what is known then: every file must have the labels, and of one type.
    return open_manifest(sources, ColumnChoice(keep=label_columns(open_manifest(sources))))


def row_group_segments(manifest: Manifest) -> list[Segment]:
    """The row groups of all files that have rows, in order."""
    segments = []
    for file in manifest.files:
        start = 0
        for rows in file.row_groups:
            segments.append(Segment(file, start, start + rows))
            start += rows
    return [segment for segment in segments if segment.rows]


def has_labels(manifest: Manifest) -> bool:
    """Whether a manifest has the columns Label_A and Label_B."""
    return {"label_a", "label_b"} <= {name.lower() for name in manifest.schema.names}


def is_pseudo_labelled(manifest: Manifest) -> bool:
    """Whether a manifest's labels are a model's own, as `aigid pseudo-label` writes them."""
    return "p_generator" in manifest.schema.names


def require_truth(manifest: Manifest) -> None:
    """Raise UsageError where a manifest's labels are a model's own."""
    if is_pseudo_labelled(manifest):
        raise UsageError(
            f"{manifest.files[0].path}: pseudo-labels say what a model thinks: train on them, and measure on rows whose "
            "labels are known"
        )


def label_columns(manifest: Manifest) -> tuple[str, str]:
    """The names of the columns Label_A and Label_B; raises UsageError where they are missing or not of integers."""
    names = manifest.schema.names
    by_lower = {name.lower(): name for name in names}
    try:
        label_a, label_b = by_lower["label_a"], by_lower["label_b"]
    except KeyError as error:
        raise UsageError(
            f"{manifest.files[0].path}: no column {error.args[0]}; a labelled manifest has Label_A (0 real, 1 AI) and "
            f"Label_B (0 real, 1 to 5 the generator); the columns are {', '.join(names)}"
        ) from error
    for name in (label_a, label_b):
        if not pa.types.is_integer(manifest.schema.field(name).type):
            raise UsageError(
                f"{manifest.files[0].path}: column {name} is {manifest.schema.field(name).type}; labels are integers"
            )
    return label_a, label_b


def check_labels(label_a: int | None, label_b: int | None, where: str) -> None:
    """Raise TrainingError where two labels are out of range or contradict each other."""
    if label_a not in (0, 1) or label_b not in range(len(SOURCES)):
        raise TrainingError(
            f"{where}: Label_A is {label_a} and Label_B is {label_b}; they go from 0 to 1 and from 0 to 5"
        )
    if (label_a == 0) != (label_b == 0):
        raise TrainingError(
            f"{where}: Label_A {label_a} and Label_B {label_b} contradict each other: both or none are 0"
        )
