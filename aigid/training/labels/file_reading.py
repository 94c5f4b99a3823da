"""Read the label columns of one file, and combine both labels of each row."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aigid.records import DEFAULT_LABELS, OTHER, printable
from aigid.sources import ManifestFile, opened
from aigid.training.labels.choice import LEFT_OUT, UNKNOWN_GENERATOR, LabelChoice
from aigid.training.labels.columns import (
    class_names,
    find_columns,
    is_default_column,
    may_hold_classes,
)
from aigid.training.labels.findings import Findings, refuse_type
from aigid.training.labels.names import GeneratorNames
from aigid.training.labels.values import (
    REAL_CODE,
    Codes,
    ColumnReader,
    IntegerCode,
    value_at,
)
from aigid.training.labels.words import Meaning, meaning_of

# Label columns are narrow, so that this many rows need little memory.
_BATCH_ROWS = 65_536


@dataclass
class Reading:
    """What reading is based on, and what it finds, over all files.

    `labels` are the model's. `are_papers` tells whether integers of the data set's own Label_B
    were found, and `contradiction` is the message about the first row that contradicts itself.
    """

    choice: LabelChoice
    labels: tuple[str, ...] | None
    names: GeneratorNames
    label_column: Findings = field(default_factory=Findings)
    generator_column: Findings = field(default_factory=Findings)
    columns: dict[str, None] = field(default_factory=dict)
    are_papers: bool = False
    contradiction: str = ""


def read_file(file: ManifestFile, reading: Reading) -> Codes:
    """Return the code of each row of a file, as in ColumnReader, int16 [N].

    Raises ManifestError where it has no label column. Fewer rows are returned where so many values
    are no labels that it is not worth to read on.
    """
    parts = [np.empty(0, np.int16)]
    with opened(file) as parquet:
        reader = _FileReader(file.path, parquet.schema_arrow, reading)
        rows = 0
        for batch in parquet.iter_batches(_BATCH_ROWS, columns=reader.names, use_threads=False):
            parts.append(reader.codes(batch, rows))
            rows += len(batch)
            if reading.label_column.are_too_many or reading.generator_column.are_too_many:
                break
    return np.concatenate(parts)


class _FileReader:
    def __init__(self, path: str, schema: pa.Schema, reading: Reading) -> None:
        self._path, self._schema, self._reading = path, schema, reading
        self._columns = find_columns(schema, path, reading.choice)
        label, generator = self._columns
        self.names = list(dict.fromkeys(name for name in self._columns if name is not None))
        self._label = None if label is None else self._column(label, is_generator=False)
        self._generator = None if generator is None else self._column(generator, is_generator=True)
        reading.columns.setdefault(self._described(), None)

    def codes(self, batch: pa.RecordBatch, first_row: int) -> Codes:
        """Return the code of each row; the batch starts at row `first_row` of the file."""
        found = [
            reader.codes(batch.column(name))
            for reader, name in zip((self._label, self._generator), self._columns, strict=True)
            if reader is not None and name is not None
        ]
        if len(found) == 1:
            return found[0]
        codes, wrong = _combined(*found)
        if wrong is not None and not self._reading.contradiction:
            self._reading.contradiction = self._contradiction(batch, wrong, first_row)
        return codes

    def _column(self, name: str, *, is_generator: bool) -> ColumnReader:
        reading, place = self._reading, f"{self._path}: column {name}"
        kind = self._schema.field(name).type
        if not _holds_labels(kind, is_generator=is_generator):
            refuse_type(place, kind, is_generator=is_generator)
        integer_code = self._of_generator(name) if is_generator else self._of_label(name)
        findings = reading.generator_column if is_generator else reading.label_column
        names = class_names(self._schema, name)
        return ColumnReader(place, reading.names, findings, integer_code, names)

    def _of_label(self, name: str) -> IntegerCode:
        """Return what integers of the label column mean."""
        labels = self._reading.choice.labels
        if labels and self._columns.generator is None and may_hold_classes(name):
            return self._index_into(labels)
        says_real = meaning_of(name) is Meaning.REAL
        codes = {int(says_real): REAL_CODE, int(not says_real): UNKNOWN_GENERATOR}
        return codes.get

    def _of_generator(self, name: str) -> IntegerCode:
        """Return what integers of the generator column mean."""
        chosen, labels = self._reading.choice.labels, self._reading.labels
        if chosen is not None and not (is_default_column(name) and _are_papers(chosen)):
            return self._index_into(chosen)
        if not is_default_column(name):
            return lambda number: None
        if chosen is None and labels is not None and not _mean_the_same(labels):
            return {0: REAL_CODE}.get
        return self._paper_code

    def _paper_code(self, number: int) -> int | None:
        self._reading.are_papers |= number > 0
        return self._index_into(DEFAULT_LABELS)(number)

    def _index_into(self, labels: tuple[str, ...]) -> IntegerCode:
        def code(number: int) -> int | None:
            if number == 0:
                return REAL_CODE
            return self._reading.names.code(labels[number]) if 0 < number < len(labels) else None

        return code

    def _contradiction(self, batch: pa.RecordBatch, row: int, first_row: int) -> str:
        said = (
            f"{name} is {self._shown(name, value_at(batch.column(name), row))}"
            for name in self._columns
            if name is not None
        )
        return (
            f"{self._path}, row {first_row + row}: {' and '.join(said)}: one says real, the other "
            "AI-generated: correct the row, or name the right columns with `label_column` and "
            "`generator_column`"
        )

    def _shown(self, name: str, value: object) -> str:
        """Return a value for a message, with the name that the file gives to an integer."""
        names = class_names(self._schema, name)
        if names is None or not isinstance(value, int):
            return printable(str(value))
        return f"{value} ({printable(names[value])})"

    def _described(self) -> str:
        """Return the names of the columns, with what the integers of a label column mean."""
        label, generator = self._columns
        if label is None or not _is_number(self._schema.field(label).type):
            return " and ".join(self.names)
        if class_names(self._schema, label) is not None:
            return " and ".join(self.names)
        code = self._of_label(label)(1)
        meaning = "real" if code == REAL_CODE else "AI-generated"
        described = label if code is None or code > 0 else f"{label} (1 is {meaning})"
        return described if generator is None else f"{described} and {generator}"


def _combined(label: Codes, generator: Codes) -> tuple[Codes, int | None]:
    """Return the codes of rows by both columns, and the first row that contradicts itself.

    The generator column names the generator; names in the label column say AI-generated only.
    """
    is_real = (label == REAL_CODE) | (generator == REAL_CODE)
    is_ai = _are_ai(label) | _are_ai(generator)
    codes = np.full(len(label), LEFT_OUT, np.int16)
    codes[is_ai] = UNKNOWN_GENERATOR
    codes[generator > 0] = generator[generator > 0]
    codes[is_real] = REAL_CODE
    wrong = np.flatnonzero(is_real & is_ai)
    return codes, int(wrong[0]) if len(wrong) else None


def _are_ai(codes: Codes) -> npt.NDArray[np.bool_]:
    return np.asarray((codes > 0) | (codes == UNKNOWN_GENERATOR))


def _are_papers(labels: tuple[str, ...]) -> bool:
    """Return whether all labels are the paper's: those of its data set's Label_B, or some."""
    return set(labels) <= {*DEFAULT_LABELS, OTHER}


def _mean_the_same(labels: tuple[str, ...]) -> bool:
    """Return whether the integers of the data set's Label_B can be read for a model's labels.

    With other labels, they may be indexes into these.
    """
    return _are_papers(labels) or set(DEFAULT_LABELS) <= set(labels)


def _holds_labels(kind: pa.DataType, *, is_generator: bool) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_boolean(kind):
        return not is_generator
    return _is_number(kind) or _is_text(kind) or bool(kind == pa.null())


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )
