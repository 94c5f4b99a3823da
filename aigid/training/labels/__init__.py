"""The labels of manifests: which columns hold them, what their values mean, a code for each row."""

from aigid.training.labels.choice import (
    LEFT_OUT,
    OTHER_GENERATOR,
    UNKNOWN_GENERATOR,
    LabelChoice,
)
from aigid.training.labels.columns import features_metadata, has_label_columns
from aigid.training.labels.reading import read_labels
from aigid.training.labels.row_labels import LabelCounts, RowLabels
from aigid.training.labels.values import Codes

__all__ = [
    "LEFT_OUT",
    "OTHER_GENERATOR",
    "UNKNOWN_GENERATOR",
    "Codes",
    "LabelChoice",
    "LabelCounts",
    "RowLabels",
    "features_metadata",
    "has_label_columns",
    "read_labels",
]
