"""The record of a relabel that is under way in a folder: what it changes, and into what."""

import json
from dataclasses import dataclass

from aigid.errors import ResultsError, ResumeMismatchError
from aigid.results.folder import ResultsFolder
from aigid.results.json_records import record_of
from aigid.results.record import ScanRecord
from aigid.results.summary import ScanSummary
from aigid.storage import exists, read_bytes

RELABEL_FILE = "relabel.json"


@dataclass(frozen=True)
class RelabelRecord:
    """The scan's record before and after a relabel in place, and its summary before.

    While it is in the folder, each result file holds the decisions of one of the two records, and
    its metadata tells of which.
    """

    before: ScanRecord
    after: ScanRecord
    summary: ScanSummary


def read_relabel(results: ResultsFolder) -> RelabelRecord | None:
    """Return the record of the relabel that is under way in a folder, if there is one.

    Raises ResultsError where it is damaged.
    """
    file = results.location.child(RELABEL_FILE)
    if not exists(file):
        return None
    try:
        return record_of(RelabelRecord, json.loads(read_bytes(file)))
    except (OSError, ValueError) as error:
        raise ResultsError(
            f"{file.text}: damaged: {error}; restore it from a copy, or scan again into another "
            "folder"
        ) from error


def describe_relabel(record: RelabelRecord) -> str:
    """Return what a relabel makes of a folder, and how to go on with it."""
    settings = record.after.settings
    return (
        f"a relabel to threshold {settings.threshold:g} and mode {settings.mode} is under way: run "
        "the same `aigid relabel` again"
    )


def refuse_relabel_under_way(results: ResultsFolder) -> None:
    """Raise ResumeMismatchError where a relabel in place is under way, and its rows are mixed."""
    record = read_relabel(results)
    if record is not None:
        raise ResumeMismatchError(f"{results.location.text}: {describe_relabel(record)}")
