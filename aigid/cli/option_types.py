"""The types of option values: what --help calls them, and what they refuse."""

import math
import re
from pathlib import Path
from typing import Any

import click

from aigid.records import ErrorCode, Mode

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


class _Integer(click.IntRange):
    name = "integer"


class _Number(click.FloatRange):
    """A finite number: FloatRange lets NaN through, and infinity where a side is open."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; fails for what is none, is not finite, or is out of range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


FRACTION = _Number(0, 1)
POSITIVE_INT = _Integer(min=1)
NON_NEGATIVE_INT = _Integer(min=0)
POSITIVE_NUMBER = _Number(min=0, min_open=True)
NON_NEGATIVE_NUMBER = _Number(min=0)
PORT = _Integer(0, 65535)
MODE = click.Choice([mode.value for mode in Mode])

_MEMORY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([KMGT])(i?)B)?", re.IGNORECASE | re.ASCII)
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}


class _Memory(_Number):
    """An amount of memory in GiB: a number, or one with a unit of its own."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return GiB; fails for what is no amount of memory."""
        match = _MEMORY.fullmatch(str(value).strip())
        if match is None:
            self.fail(
                f"{str(value)!r} is not an amount of memory: give GiB as a number, or a number "
                "with a unit, as in 4GiB, 4GB or 512MiB.",
                param,
                ctx,
            )
        number, unit, binary = match.groups()
        factor = (1024 if binary else 1000) ** _POWERS[unit.upper()] / 1024**3 if unit else 1
        return super().convert(float(number) * factor, param, ctx)


MEMORY = _Memory(min=0, min_open=True)


class _ErrorCodes(click.ParamType[tuple[str, ...]]):
    """Error codes of rows with commas between them, or ALL_ERRORS."""

    name = "codes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the codes; fails for a name that is none."""
        names = [name.strip() for name in str(value).split(",")]
        if names == [ALL_ERRORS]:
            return tuple(ErrorCode)
        for name in names:
            if name not in set(ErrorCode):
                self.fail(
                    f"{name!r} is not an error code: give {', '.join(ErrorCode)}, with commas "
                    "between them; or give the option without a value, after the manifests.",
                    param,
                    ctx,
                )
        return tuple(names)


ALL_ERRORS = "all"
ERROR_CODES = _ErrorCodes()
