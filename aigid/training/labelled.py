"""Labelled manifests: their row groups, and whether a model predicted their labels."""

from aigid.errors import UsageError
from aigid.manifest import Manifest
from aigid.sources import Segment


def row_group_segments(manifest: Manifest) -> list[Segment]:
    """Return the row groups of all files, in order, without empty ones."""
    segments = []
    for file in manifest.files:
        start = 0
        for rows in file.row_groups:
            segments.append(Segment(file, start, start + rows))
            start += rows
    return [segment for segment in segments if segment.rows]


def is_pseudo_labelled(manifest: Manifest) -> bool:
    """Return whether a manifest's labels were predicted by a model (`aigid pseudo-label`)."""
    return any("p_generator" in schema.names for schema in manifest.files.schemas)


def reject_pseudo_labels(manifest: Manifest) -> None:
    """Raise UsageError where a manifest's labels were predicted by a model."""
    if is_pseudo_labelled(manifest):
        raise UsageError(
            f"{manifest.files[0].path}: its labels are pseudo-labels, a model's predictions: use "
            "them for training only, and give a manifest with known labels here"
        )
