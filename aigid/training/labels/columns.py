"""Which columns hold the labels, and the names that a file gives to their integers."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from aigid.errors import ManifestError
from aigid.training.labels.choice import LabelChoice
from aigid.training.labels.words import meaning_of

LABEL_NAMES = (
    "label_a",
    "is_ai_generated",
    "is_ai",
    "ai_generated",
    "is_generated",
    "is_synthetic",
    "is_fake",
    "is_real",
    "ai",
    "generated",
    "synthetic",
    "fake",
    "real",
    "binary_label",
    "label",
    "labels",
    "class_label",
    "class",
    "target",
)
"""The usual names of the column that says real or AI-generated, in the order of preference."""

GENERATOR_NAMES = (
    "label_b",
    "generator",
    "generator_name",
    "generator_model",
    "generative_model",
    "gen_model",
    "ai_model",
    "model_name",
    "model",
    "source_model",
    "source",
)
"""The usual names of the column that names the generator, in the order of preference."""

_DEFAULT_COLUMN = "label_b"
_BINARY_COLUMNS = ("label_a", "binary_label")
# Hugging Face `datasets` writes the types of its columns here.
_FEATURES_KEY = b"huggingface"


class LabelColumns(NamedTuple):
    """The names of a file's label columns: real or AI-generated, and the generator."""

    label: str | None
    generator: str | None


def find_columns(schema: pa.Schema, file: str, choice: LabelChoice) -> LabelColumns:
    """Return the label columns of a file: the chosen ones, or the first with usual names.

    Raises ManifestError where the file lacks a chosen column, or has no column with a usual name.
    """
    columns = LabelColumns(
        _find(schema, file, choice.label_column, LABEL_NAMES),
        _find(schema, file, choice.generator_column, GENERATOR_NAMES),
    )
    if columns == (None, None):
        kinds = {
            "`label_column`": LABEL_NAMES if choice.label_column is None else (),
            "`generator_column`": GENERATOR_NAMES if choice.generator_column is None else (),
        }
        looked_for = "; ".join(", ".join(names) for names in kinds.values() if names)
        raise ManifestError(
            f"{file}: no column has a usual name for labels ({looked_for}, in any case): name one "
            f"with {' or '.join(name for name, names in kinds.items() if names)}; the columns are "
            f"{', '.join(schema.names)}"
        )
    return columns


def has_label_columns(schema: pa.Schema, choice: LabelChoice = LabelChoice()) -> bool:
    """Return whether label columns are chosen, or a file has one with a usual name.

    A chosen column that the file lacks is an error, which reading raises.
    """
    if choice.label_column or choice.generator_column:
        return True
    try:
        find_columns(schema, "", choice)
    except ManifestError:
        return False
    return True


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the names that the file itself gives to the integers of a column, or None.

    Hugging Face `datasets` writes those of a ClassLabel into the schema's metadata.
    """
    try:
        features: Any = json.loads((schema.metadata or {})[_FEATURES_KEY])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return tuple(map(str, names)) if isinstance(names, list) else None


def features_metadata(features: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Return the schema metadata from which `class_names` and `datasets` read column types."""
    return {_FEATURES_KEY: json.dumps({"info": {"features": dict(features)}}).encode()}


def is_default_column(column: str) -> bool:
    """Return whether integers of this generator column are the paper's: its own `Label_B`."""
    return column.lower() == _DEFAULT_COLUMN


def may_hold_classes(column: str) -> bool:
    """Return whether integers of this label column may be classes: its name does not say more."""
    return meaning_of(column) is None and column.lower() not in _BINARY_COLUMNS


def _find(schema: pa.Schema, file: str, chosen: str | None, usual: tuple[str, ...]) -> str | None:
    if chosen == "":
        return None
    by_lower = {name.lower(): name for name in reversed(schema.names)}
    found = next((by_lower[name] for name in usual if name in by_lower), None)
    name = found if chosen is None else chosen
    if name is not None and schema.names.count(name) != 1:
        problem = "no column" if name not in schema.names else "more than one column"
        raise ManifestError(
            f"{file}: {problem} named {name}; the columns are {', '.join(schema.names)}"
        )
    return name
