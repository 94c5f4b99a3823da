"""The results folder of one scan: atomic commits of shards, records, and who writes there."""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.errors import ResultsError, ResumeMismatchError, UsageError
from aigid.results.json_records import format_record, record_of
from aigid.results.lock import holds_token, lock_folder
from aigid.results.record import SCAN_FORMAT, ScanRecord, file_differences, record_differences
from aigid.results.summary import ScanSummary
from aigid.shards import Shard
from aigid.sources import ManifestFiles
from aigid.storage import (
    Location,
    exists,
    explain_failure,
    list_names,
    locate,
    make_folder,
    read_bytes,
    remove_leftovers,
    write_atomic,
)

SCAN_FILE = "scan.json"
FILES_FILE = "files.arrow"
SUMMARY_FILE = "summary.json"
DETECTIONS_FOLDER = "detections"
_SHARD_NAME = re.compile(r"part-(\d+)\.parquet")
# Until format 2, result files were beside scan.json.
_OLD_SHARD_NAME = re.compile(r"detections-\d+\.parquet")

# Kept columns may be large. A reader needs memory for a few times a row group, and cannot read more
# than 2 GiB of a nested column in one.
_ROW_GROUP_BYTES = 32 << 20


@dataclass(frozen=True)
class ResultsFolder:
    """The folder of one scan's results, and the names and forms of the files in it."""

    location: Location

    @property
    def detections(self) -> Location:
        """The folder of result files, which other programs open as a whole."""
        return self.location.child(DETECTIONS_FOLDER)

    def shard_name(self, index: int) -> str:
        """Return the name of a shard's result file in `detections`."""
        return f"part-{index:06d}.parquet"

    @contextmanager
    def open(self) -> Iterator[str]:
        """Make the folder and hold it alone while a scan writes to it.

        Yields the token by which `is_held_with` knows the holder. Object stores have no locks: two
        scans that write to one at a time do the same work twice, and commit the same files. Raises
        UsageError where another scan holds the folder, or it cannot be written to.
        """
        token = secrets.token_hex(8)
        with ExitStack() as lock:
            try:
                make_folder(self.detections)
                lock.enter_context(lock_folder(self.location, token))
                self._remove_leftovers()
            except BlockingIOError as error:
                raise UsageError(
                    f"`out` {self.location.text}: another scan is writing to this folder now"
                ) from error
            except OSError as error:
                raise UsageError(
                    f"`out` {self.location.text}: cannot be written to: {self._reason(error)}"
                ) from error
            try:
                yield token
            finally:
                self._remove_leftovers()

    def is_held_with(self, token: str) -> bool:
        """Return whether a process that holds its folder with `token` means this folder.

        The process may be on another host, where the same path may be another folder.
        """
        return holds_token(self.location, token)

    def refuse_other_formats(self) -> None:
        """Raise ResumeMismatchError where another version of aigid has left other results."""
        if not exists(self.location.child(SCAN_FILE)):
            return
        if any(map(_OLD_SHARD_NAME.fullmatch, list_names(self.location))):
            raise self._other_format("detections-*.parquet beside scan.json")
        try:
            found = _read_json(self.location.child(SCAN_FILE)).get("format")
        except (OSError, ValueError):
            # `claim` says what is wrong with it.
            return
        if found != SCAN_FORMAT:
            raise self._other_format(f"format {found}")

    def claim(self, scan: ScanRecord, files: ManifestFiles) -> None:
        """Write `scan.json` and `files.arrow`, or check that the ones there are of this scan.

        Raises ResumeMismatchError where the folder holds another scan, with the differences, or
        Parquet files of something else.
        """
        file = self.location.child(SCAN_FILE)
        if not exists(file):
            names = [*list_names(self.location), *list_names(self.detections)]
            if any(name.endswith(".parquet") for name in names):
                raise ResumeMismatchError(
                    f"{self.location.text}: holds Parquet files but no {SCAN_FILE}: "
                    "give another folder"
                )
            self._write(FILES_FILE, files.to_bytes())
            self._write(SCAN_FILE, format_record(scan))
            return
        try:
            before = record_of(ScanRecord, _read_json(file))
        except (OSError, ValueError) as error:
            raise ResumeMismatchError(
                f"{file.text}: not readable as a scan's record: {error}; give another folder"
            ) from error
        recorded = self.recorded_files()
        differences = [
            *([] if recorded else [f"{FILES_FILE}: missing or damaged"]),
            *(file_differences(recorded, files) if recorded else []),
            *record_differences(before, scan),
        ]
        if differences:
            raise ResumeMismatchError(
                f"{self.location.text}: holds a scan of another input, model or settings; "
                f"differing: {'; '.join(differences)}. Give another folder, or the same input and "
                "settings to resume"
            )

    def recorded_files(self) -> ManifestFiles | None:
        """Return the manifest's files as the folder's scan recorded them, or None without any."""
        file = self.location.child(FILES_FILE)
        try:
            return ManifestFiles.from_bytes(read_bytes(file)) if exists(file) else None
        except (OSError, pa.ArrowException):
            # `claim` refuses a damaged file; until then, all footers are read.
            return None

    def committed(self) -> set[int]:
        """Return the indexes of the committed shards; their files are whole."""
        found = map(_SHARD_NAME.fullmatch, list_names(self.detections))
        return {int(name[1]) for name in found if name and name[0] == self.shard_name(int(name[1]))}

    def commit(self, index: int, table: pa.Table) -> None:
        """Write a shard's result file, whole or not at all; the same table gives the same bytes.

        Raises ResultsError where it cannot be written: no space, no permission, no folder.
        """
        rows = max(1, _ROW_GROUP_BYTES * len(table) // max(1, table.nbytes))
        buffer = pa.BufferOutputStream()
        pq.write_table(
            table,
            buffer,
            compression="zstd",
            row_group_size=min(rows, 1 << 20),
            write_page_checksum=True,
        )
        self._write(f"{DETECTIONS_FOLDER}/{self.shard_name(index)}", buffer.getvalue())

    def read(self, shard: Shard, names: list[str]) -> pa.Table:
        """Return columns of a shard's result file.

        Raises ResultsError where the file is missing or damaged, or has not the shard's rows.
        """
        file = self.detections.child(self.shard_name(shard.index))
        try:
            table = pq.read_table(
                file.path,
                filesystem=file.filesystem,
                columns=names,
                page_checksum_verification=True,
            )
        except (OSError, pa.ArrowException) as error:
            reason = explain_failure(error, file)
            raise ResultsError(
                f"{file.text}: damaged or missing: {reason}; remove it and run the scan again"
            ) from error
        if shard.has_known_rows and table.num_rows != shard.rows:
            raise ResultsError(
                f"{file.text}: its number of rows is {table.num_rows}, its shard's {shard.rows}; "
                "remove it and run the scan again"
            )
        return table

    def count_rows(self, shard: Shard) -> int:
        """Return the number of rows in a shard's result file. Raises as `read` does."""
        return int(self.read(shard, []).num_rows)

    def read_summary(self) -> ScanSummary | None:
        """Return the summary of a finished scan, or None.

        Raises ResultsError where it is damaged, and ResumeMismatchError where another version of
        aigid wrote it.
        """
        file = self.location.child(SUMMARY_FILE)
        try:
            values = _read_json(file) if exists(file) else None
            if values and values.get("format", SCAN_FORMAT) != SCAN_FORMAT:
                raise self._other_format(f"format {values['format']}")
            return None if values is None else ScanSummary.from_json(values)
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"{file.text}: damaged: {error}; remove it and run the scan again"
            ) from error

    def write_summary(self, summary: ScanSummary) -> None:
        """Write `summary.json`, which marks the scan as finished."""
        self._write(SUMMARY_FILE, format_record(summary))

    def _write(self, name: str, data: bytes | pa.Buffer) -> None:
        try:
            write_atomic(self.location.child(name), data)
        except OSError as error:
            raise ResultsError(
                f"{self.location.text}: cannot write {name}: {self._reason(error)}; committed "
                "shards stay: solve the problem, then run the same scan again"
            ) from error

    def _reason(self, error: OSError) -> str:
        if self.location.is_local and error.strerror:
            return error.strerror
        return explain_failure(error, self.location)

    def _remove_leftovers(self) -> None:
        remove_leftovers(self.location)
        remove_leftovers(self.detections)

    def _other_format(self, found: str) -> ResumeMismatchError:
        return ResumeMismatchError(
            f"{self.location.text}: holds results of another version of aigid ({found}), and this "
            f"version continues format {SCAN_FORMAT} only: give another folder as `out`"
        )


def open_results(out: str) -> ResultsFolder:
    """Return the results folder at a path or URI. Raises UsageError where none can be."""
    location = locate(out)
    if location.is_read_only:
        raise UsageError(
            f"`out` {location.text}: only read from: give a folder or an object store as `out`"
        )
    return ResultsFolder(location)


def _read_json(file: Location) -> dict[str, Any]:
    values = json.loads(read_bytes(file))
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values
