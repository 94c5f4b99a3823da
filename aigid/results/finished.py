"""The records of a finished scan, for what reads its results."""

import json
from dataclasses import dataclass

from aigid.errors import ResultsError, UsageError
from aigid.progress_bar import counted
from aigid.results.folder import ResultsFolder
from aigid.results.json_records import record_of
from aigid.results.record import ScanRecord
from aigid.results.relabel_record import refuse_relabel_under_way
from aigid.results.summary import ScanSummary
from aigid.results.verify import refuse_no_results
from aigid.sources import ManifestFiles

HOW_TO_REPAIR = "run `aigid verify --repair` and the same scan first"
"""What to do where a result file is not as the scan wrote it, for messages."""


@dataclass(frozen=True)
class FinishedScan:
    """The records of a finished scan."""

    scan: ScanRecord
    files: ManifestFiles
    summary: ScanSummary


def read_finished(results: ResultsFolder) -> FinishedScan:
    """Return the records of a finished scan.

    Raises UsageError where there is no scan or it is not finished, ResumeMismatchError where
    another version wrote it or a relabel is under way, and ResultsError where a record or a result
    file is not as the scan left it, as far as records, sizes and footers show it.
    """
    refuse_no_results(results)
    results.refuse_other_formats()
    refuse_relabel_under_way(results)
    folder = results.location.text
    summary, listed = results.read_summary(), results.shards_of_this_scan()
    if summary is None:
        raise UsageError(
            f"`{results.parameter}` {folder}: its scan is not finished: run the same scan first"
        )
    files = results.recorded_files()
    if listed is None or files is None or len(listed) != len(results.committed()):
        raise ResultsError(f"{folder}: its records or result files are not whole: {HOW_TO_REPAIR}")
    changed = results.changed_shards(listed)
    if changed:
        name = results.detections.child(results.shard_name(min(changed))).text
        raise ResultsError(
            f"{folder}: {counted(len(changed), 'result file')} changed since the scan finished, "
            f"the first: {name}: {HOW_TO_REPAIR}"
        )
    return FinishedScan(record_of(ScanRecord, json.loads(listed.scan)), files, summary)
