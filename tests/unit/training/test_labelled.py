"""Labelled manifests: whether a model predicted their labels."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from aigid.errors import UsageError
from aigid.manifest import open_manifest
from aigid.training.labelled import reject_pseudo_labels


def test_pseudo_labels_of_any_file_are_rejected(write_manifest: Callable[..., Path]) -> None:
    known = str(write_manifest(pa.table({"image": ["a"], "label": [1]}), "known.parquet"))
    table = pa.table({"image": ["b"], "label": [1], "p_generator": [0.9]})
    predicted = str(write_manifest(table, "predicted.parquet"))
    reject_pseudo_labels(open_manifest([known]))
    for paths in ([predicted], [predicted, known], [known, predicted]):
        with pytest.raises(UsageError, match="its labels are pseudo-labels"):
            reject_pseudo_labels(open_manifest(paths))
