"""The summary of a finished scan: what `summary.json` holds, typed."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from aigid.results.json_records import record_of
from aigid.results.run_figures import RunFigures


@dataclass(frozen=True)
class ModelIdentity:
    """The model that scanned: its name, its fingerprint and the notice that its makers attached."""

    name: str
    fingerprint: str
    notice: str


@dataclass(frozen=True)
class ErrorExample:
    """The first row with an error code: where it is, its image reference and what happened.

    `image` is None for inline bytes and for null images.
    """

    manifest: str
    row: int
    image: str | None
    detail: str


@dataclass(frozen=True)
class ScanCounts:
    """The totals over all result files, as ScanSummary has them."""

    shards: int
    rows: int
    scored: int
    ai: int
    verdicts: dict[str, int]
    sources: dict[str, int]
    errors: dict[str, int]
    error_rate: float
    error_examples: dict[str, ErrorExample]
    evidence: dict[str, int] | None = None


@dataclass(frozen=True)
class ScanSummary:
    """The totals of a finished scan.

    `verdicts` counts the scored rows by verdict in the mode `mode`, `sources` by source, and
    `errors` the others by error code; `error_examples` has the first row of each of these codes.
    `error_rate` is the share of rows with an error. `evidence` counts the rows by what their image
    files say, None in a scan without evidence.
    """

    format: int
    model: ModelIdentity
    threshold: float
    mode: str
    shards: int
    rows: int
    scored: int
    ai: int
    verdicts: dict[str, int]
    sources: dict[str, int]
    errors: dict[str, int]
    error_rate: float
    error_examples: dict[str, ErrorExample]
    evidence: dict[str, int] | None
    run: RunFigures

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the summary whose JSON is `values`.

        Raises ValueError for an unknown key, a missing key or a value of another type.
        """
        return record_of(cls, values)

    def to_json(self) -> dict[str, Any]:
        """Return the summary as `summary.json` has it."""
        return dataclasses.asdict(self)
