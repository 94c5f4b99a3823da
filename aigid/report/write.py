"""The report of a scan, from the results folder to a page."""

from dataclasses import dataclass

from aigid.errors import ResultsError
from aigid.extras import missing_extra
from aigid.progress import ScanProgress
from aigid.report.cards import read_cards
from aigid.report.config import REPORT_FILE, ReportConfig
from aigid.report.content import page_charts, page_context
from aigid.report.images import with_images
from aigid.report.opened import OpenedResults, open_for_report
from aigid.report.statistics import Statistics, collect
from aigid.storage import Location, explain_failure, locate, write_atomic


@dataclass(frozen=True)
class WrittenReport:
    """The page that was written, and its figures in short.

    `right` are the rows that are right of the `labelled` ones; both are None without labels.
    `unfinished` tells that the scan has not finished.
    """

    page: str
    size_bytes: int
    rows: int
    ai: int
    errors: int
    labelled: int | None
    right: int | None
    unfinished: bool


def write_report(config: ReportConfig, progress: ScanProgress) -> WrittenReport:
    """Write the report of a results folder, whole or not at all.

    The same results and images give the same page. Raises MissingExtraError without the extra
    `report`, UsageError for what cannot be done as asked, and ResultsError where results are
    damaged or the page cannot be written.
    """
    try:
        from aigid.report.page import render_page
    except ModuleNotFoundError as error:
        raise missing_extra("a report", error, "report") from error
    opened = open_for_report(config)
    page = locate(config.out) if config.out else opened.folder.location.child(REPORT_FILE)
    progress.start(opened.totals.rows, 0, at_least=opened.totals.at_least)
    statistics = collect(opened, config, progress)
    _check_summary(opened, statistics)
    cards = with_images(
        opened, read_cards(opened, statistics.galleries.rows()), thumbnails=config.images
    )
    context = page_context(opened, statistics, cards, config)
    data = render_page(context, page_charts(opened, statistics))
    _write(page, data)
    return _written(opened, statistics, page, len(data))


def _check_summary(opened: OpenedResults, statistics: Statistics) -> None:
    summary, scores = opened.summary, statistics.scores
    if summary is not None and (summary.rows, summary.scored) != (scores.rows, scores.scored):
        raise ResultsError(
            f"{opened.name}: summary.json has {summary.rows:,} rows, of them {summary.scored:,} "
            f"scored, but the result files {scores.rows:,} and {scores.scored:,}; run "
            "`aigid verify` to see what is wrong"
        )


def _write(page: Location, data: bytes) -> None:
    try:
        write_atomic(page, data)
    except OSError as error:
        reason = error.strerror if page.is_local else explain_failure(error, page)
        raise ResultsError(f"`out` {page.text}: cannot be written: {reason}") from error


def _written(
    opened: OpenedResults, statistics: Statistics, page: Location, size: int
) -> WrittenReport:
    scores, truth = statistics.scores, statistics.truth
    return WrittenReport(
        page=page.text,
        size_bytes=size,
        rows=scores.rows,
        ai=scores.verdict("ai"),
        errors=scores.rows - scores.scored,
        labelled=truth.rows if truth else None,
        right=truth.right if truth else None,
        unfinished=opened.summary is None,
    )
