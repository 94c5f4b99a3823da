"""What a results folder is the scan of, for those who read it and do not go on with the scan."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import ResultsError, UsageError
from aigid.results.folder import DETECTIONS_FOLDER, SCAN_FILE, ResultsFolder
from aigid.results.json_records import record_of
from aigid.results.record import ScanRecord
from aigid.storage import exists, explain_failure, read_bytes


def read_scan(results: ResultsFolder) -> ScanRecord:
    """Return the record of the folder's scan.

    Raises UsageError where the folder holds no results, ResumeMismatchError where another version
    of aigid wrote them, and ResultsError where the record is damaged.
    """
    file = results.location.child(SCAN_FILE)
    if not exists(file):
        raise UsageError(
            f"`{results.parameter}` {results.location.text}: no results of a scan there"
        )
    results.refuse_other_formats()
    try:
        return record_of(ScanRecord, json.loads(read_bytes(file)))
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{file.text}: damaged: {error}; run `aigid verify --repair` first"
        ) from error


def result_schema(results: ResultsFolder, index: int) -> pa.Schema:
    """Return the columns of a shard's result file. Raises ResultsError where it is damaged."""
    file = results.location.child(f"{DETECTIONS_FOLDER}/{results.shard_name(index)}")
    try:
        with pq.ParquetFile(file.path, filesystem=file.filesystem) as parquet:
            return parquet.schema_arrow
    except (OSError, pa.ArrowException) as error:
        reason = explain_failure(error, file)
        raise ResultsError(
            f"{file.text}: damaged or missing: {reason}; run `aigid verify` to see what is wrong"
        ) from error
