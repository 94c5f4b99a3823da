"""From the values of a label column to codes."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from aigid.sources import texts
from aigid.training.labels.choice import LEFT_OUT, UNKNOWN_GENERATOR
from aigid.training.labels.findings import Findings
from aigid.training.labels.names import GeneratorNames, is_name
from aigid.training.labels.words import Meaning, meaning_of

Codes = npt.NDArray[np.int16]
IntegerCode = Callable[[int], int | None]

REAL_CODE = 0
_OF_MEANING = {
    Meaning.REAL: REAL_CODE,
    Meaning.AI: UNKNOWN_GENERATOR,
    Meaning.UNKNOWN: LEFT_OUT,
}
_TRUTHS = {"true": "1", "yes": "1", "false": "0", "no": "0"}
_INTEGER = re.compile(r"-?[0-9]{1,9}")


class ColumnReader:
    """Gives codes to the values of one file's label column.

    A code is 0 for real, UNKNOWN_GENERATOR for AI-generated, that of a name for a generator, and
    LEFT_OUT where the value says nothing.
    """

    def __init__(
        self,
        place: str,
        names: GeneratorNames,
        findings: Findings,
        integer_code: IntegerCode,
        class_names: tuple[str, ...] | None,
    ) -> None:
        """Read the column at `place`, a file and a name.

        `class_names` say what its integers are; without them `integer_code` does, which returns
        None for integers that mean nothing.
        """
        self._place, self._names, self._findings = place, names, findings
        self._integer_code, self._class_names = integer_code, class_names
        self._codes: dict[object, int] = {}
        # A class "real" that no row has tells nevertheless that the others are generators.
        findings.has_real |= any(meaning_of(name) is Meaning.REAL for name in class_names or ())

    def codes(self, column: pa.Array) -> Codes:
        """Return the code of each row, int16 [N]."""
        encoded = _encoded(column)
        size = len(encoded.dictionary)
        indices = encoded.indices.cast(pa.int32()).fill_null(size).to_numpy()
        # A dictionary may have values that no row has.
        used = np.flatnonzero(np.bincount(indices, minlength=size)[:size])
        codes = np.full(size + 1, LEFT_OUT, np.int16)
        values = _python_values(encoded.dictionary.take(pa.array(used)))
        codes[used] = [self._code(value) for value in values]
        rows: Codes = codes[indices]
        return rows

    def _code(self, value: object) -> int:
        if value not in self._codes:
            code = self._new_code(value)
            if code is None:
                self._findings.unfit.setdefault(value, self._place)
            self._findings.has_real |= code == REAL_CODE
            self._codes[value] = LEFT_OUT if code is None else code
        return self._codes[value]

    def _new_code(self, value: Any) -> int | None:
        if isinstance(value, str):
            return self._text_code(value.strip())
        if value is None or math.isnan(value):
            return LEFT_OUT
        if math.isinf(value) or value != math.floor(value):
            return None
        number = int(value)
        if self._class_names is None or number == -1:
            return self._number_code(number)
        if not 0 <= number < len(self._class_names):
            return None
        return self._text_code(self._class_names[number].strip())

    def _number_code(self, number: int) -> int | None:
        return LEFT_OUT if number == -1 else self._integer_code(number)

    def _text_code(self, text: str) -> int | None:
        if self._names.is_label(text):
            return self._names.code(text)
        digits = _TRUTHS.get(text.casefold(), text)
        if _INTEGER.fullmatch(digits):
            return self._number_code(int(digits))
        meaning = meaning_of(text)
        if meaning is not None:
            return _OF_MEANING[meaning]
        if not is_name(text) or self._findings.are_too_many:
            return None
        self._findings.names.setdefault(text, self._place)
        return self._names.code(text)


def value_at(column: pa.Array, row: int) -> Any:
    """Return one value of a column, whatever its bytes are."""
    encoded = _encoded(column.slice(row, 1))
    index = encoded.indices[0].as_py()
    return None if index is None else _python_values(encoded.dictionary.slice(index, 1))[0]


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    if pa.types.is_dictionary(column.type):
        return column
    if pa.types.is_string_view(column.type):
        # PyArrow cannot take rows of these.
        column = column.cast(pa.large_string())
    return column.dictionary_encode()


def _python_values(array: pa.Array) -> list[Any]:
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return list(texts(array))
    return list(array.to_pylist())
