"""Which rows of a scan's results a filter keeps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from aigid.errors import UsageError
from aigid.evidence import Says
from aigid.records import ErrorCode, Verdict, source_names
from aigid.results import ScanRecord

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FilterConfig:
    """Which rows of a manifest go to `out`. Raises UsageError for values that there are not.

    `folder` holds the results of its scan. A row meets the conditions if it was scored and meets
    each of `verdict`, `evidence`, `source`, `min_p_ai` and `max_p_ai` that is given; of several
    values, one is enough. A row that was not scored meets them if its error code is in `error`.
    The rows that meet them are written or, with `drop`, all others.
    """

    folder: str
    out: str
    verdict: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    error: tuple[str, ...] = ()
    min_p_ai: float | None = None
    max_p_ai: float | None = None
    drop: bool = False

    def __post_init__(self) -> None:
        if not (self.has_score_conditions or self.error):
            raise UsageError(
                "give a condition: `verdict`, `evidence`, `source`, `min_p_ai`, `max_p_ai` or "
                "`error`"
            )
        for name, known in (("verdict", Verdict), ("evidence", Says), ("error", ErrorCode)):
            _check_values(name, getattr(self, name), [str(one) for one in known])
        for name in ("min_p_ai", "max_p_ai"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UsageError(f"`{name}` must be from 0 to 1: got {value!r}")

    @property
    def has_score_conditions(self) -> bool:
        """Whether there are conditions that only a row without an error can meet."""
        bounds = (self.min_p_ai, self.max_p_ai)
        return bool(self.verdict or self.evidence or self.source) or bounds != (None, None)

    @property
    def columns(self) -> list[str]:
        """The columns of the results that the conditions look at."""
        wanted = [name for name in ("verdict", "evidence", "source") if getattr(self, name)]
        return [*wanted, "p_ai", "error"]

    def check(self, scan: ScanRecord) -> None:
        """Raise UsageError where a scan has no such evidence or no such sources."""
        if self.evidence and not scan.settings.evidence:
            raise UsageError(
                f"`evidence`: the scan in {self.folder} read no evidence: scan again with "
                "`aigid scan --evidence` into another folder"
            )
        _check_values("source", self.source, source_names(scan.model.labels))

    def mask(self, rows: pa.Table) -> Mask:
        """Return which rows are written, of some with `columns`."""
        failed = np.asarray(pc.is_valid(rows.column("error")))
        met = ~failed & self.has_score_conditions
        for name in ("verdict", "evidence", "source"):
            wanted = getattr(self, name)
            if wanted:
                met &= _is_in(rows.column(name), wanted)
        p_ai = rows.column("p_ai").to_numpy()
        with np.errstate(invalid="ignore"):
            if self.min_p_ai is not None:
                met &= p_ai >= np.float32(self.min_p_ai)
            if self.max_p_ai is not None:
                met &= p_ai <= np.float32(self.max_p_ai)
        if self.error:
            met |= failed & _is_in(rows.column("error"), self.error)
        return ~met if self.drop else met


def _is_in(column: pa.ChunkedArray, values: Sequence[str]) -> Mask:
    found = pc.is_in(column.cast(pa.string()), pa.array(values, pa.string()))
    return np.asarray(pc.fill_null(found, False))


def _check_values(name: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            raise UsageError(f"`{name}` must be among {', '.join(known)}: got {value!r}")
