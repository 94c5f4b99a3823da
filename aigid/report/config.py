"""The settings of a report, as one frozen value."""

from dataclasses import dataclass

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class ReportConfig:
    """What to report on, and how.

    `results` is the results folder of a scan, and `out` the page to write, by default `report.html`
    in that folder. `by` is a kept column whose values are compared, by default the manifest's files
    or runs of rows. `label_column` is a kept column that says real or AI-generated. Without
    `images` the page has no thumbnails.
    """

    results: str
    out: str | None = None
    by: str | None = None
    label_column: str | None = None
    images: bool = True
