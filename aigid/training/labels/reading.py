"""Read the labels of all rows of manifests."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from aigid.errors import ManifestError
from aigid.manifest import Manifest
from aigid.records import DEFAULT_LABELS, OTHER, REAL
from aigid.training.labels.choice import (
    LEFT_OUT,
    OTHER_GENERATOR,
    UNKNOWN_GENERATOR,
    LabelChoice,
)
from aigid.training.labels.file_reading import Reading, read_file
from aigid.training.labels.findings import check_generator_column, check_label_column
from aigid.training.labels.names import GeneratorNames
from aigid.training.labels.row_labels import LabelCounts, RowLabels
from aigid.training.labels.values import Codes

# The lowest code. Arrays that are indexed by codes start with it.
_LOWEST = LEFT_OUT
_PART_ROWS = 1 << 18


def read_labels(
    manifests: Sequence[Manifest],
    choice: LabelChoice = LabelChoice(),
    labels: tuple[str, ...] | None = None,
) -> RowLabels:
    """Return the labels of all rows of some manifests.

    With `labels` (a model's), rows are read with these. Without them, `choice` names the labels, or
    they are found: the paper's for integers of its data set's `Label_B`; else "real" and the
    generators that rows have; "real" and "other" where no row names a generator.

    Raises ManifestError where a file has no label column, no rule fits a column's values, or a row
    contradicts itself.
    """
    given = labels or choice.labels
    reading = Reading(choice, labels, GeneratorNames(given))
    paths = [file.uri for manifest in manifests for file in manifest.files]
    files = {file.uri: file for manifest in manifests for file in manifest.files}
    codes = {path: read_file(file, reading) for path, file in files.items()}
    check_label_column(reading.label_column, reading.names)
    check_generator_column(
        reading.generator_column,
        sum(len(codes[path]) for path in paths),
        is_chosen=choice.generator_column is not None,
    )
    if reading.contradiction:
        raise ManifestError(reading.contradiction)
    size = len(reading.names) + 1 - _LOWEST
    counts = np.sum([_count(codes[path], size) for path in paths], axis=0)
    final = given or _found_labels(reading, counts)
    mapping = _mapping(reading.names, final)
    for of_file in codes.values():
        for part in _parts(of_file):
            part[:] = mapping[part - _LOWEST]
    return RowLabels(
        final,
        _label_counts(counts, mapping, final, reading.names),
        tuple(reading.columns),
        codes,
    )


def _parts(codes: Codes) -> Iterator[Codes]:
    """Yield views of some of the codes each: NumPy needs 8 bytes a row for what it counts."""
    for start in range(0, len(codes), _PART_ROWS):
        yield codes[start : start + _PART_ROWS]


def _count(codes: Codes, size: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(size, np.int64)
    for part in _parts(codes):
        counts += np.bincount(part - _LOWEST, minlength=size)
    return counts


def _found_labels(reading: Reading, counts: npt.NDArray[np.int64]) -> tuple[str, ...]:
    """Return the labels that rows have, from the number of rows of each code."""
    codes = range(1, len(reading.names) + 1)
    found = sorted(reading.names.name(code) for code in codes if counts[code - _LOWEST])
    if not found:
        return REAL, OTHER
    if set(found) <= set(DEFAULT_LABELS):
        return DEFAULT_LABELS if reading.are_papers else _in_default_order(found)
    return REAL, *found


def _in_default_order(found: Sequence[str]) -> tuple[str, ...]:
    return REAL, *(name for name in DEFAULT_LABELS if name in found)


def _mapping(names: GeneratorNames, labels: tuple[str, ...]) -> Codes:
    """Return the final code for each code of a reading, int16 [codes]."""
    positions = {label: position for position, label in enumerate(labels)}
    # Where all generators are one class, an unknown one is of that class too.
    unknown = 1 if labels == (REAL, OTHER) else UNKNOWN_GENERATOR
    other = positions.get(OTHER, OTHER_GENERATOR)
    of_names = [positions.get(names.name(code), other) for code in range(1, len(names) + 1)]
    return np.array([LEFT_OUT, OTHER_GENERATOR, unknown, 0, *of_names], np.int16)


def _label_counts(
    counts: npt.NDArray[np.int64],
    mapping: Codes,
    labels: tuple[str, ...],
    names: GeneratorNames,
) -> LabelCounts:
    by_label = [int(counts[mapping == label].sum()) for label in range(len(labels))]
    others = {
        names.name(code): int(counts[code - _LOWEST])
        for code in range(1, len(names) + 1)
        if mapping[code - _LOWEST] == OTHER_GENERATOR and counts[code - _LOWEST]
    }
    return LabelCounts(
        tuple(by_label),
        unknown=int(counts[mapping == UNKNOWN_GENERATOR].sum()),
        others=dict(sorted(others.items())),
        left_out=int(counts[mapping == LEFT_OUT].sum()),
    )
