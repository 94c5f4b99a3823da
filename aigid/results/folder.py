"""The results folder of one scan: atomic commits of shards, records, and who writes there."""

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aigid.bounded_map import bounded_map
from aigid.errors import ResultsError, ResumeMismatchError, UsageError
from aigid.results.json_records import format_record, record_of
from aigid.results.lock import holds_token, lock_folder
from aigid.results.record import SCAN_FORMAT, ScanRecord, file_differences, record_differences
from aigid.results.shard_list import ListedShard, ShardList, size_and_tail
from aigid.results.summary import ScanSummary
from aigid.shards import Shard
from aigid.sources import ManifestFiles
from aigid.storage import (
    Location,
    exists,
    explain_failure,
    list_names,
    list_others,
    list_sizes,
    locate,
    make_folder,
    read_bytes,
    remove_file,
    remove_leftovers,
    write_atomic,
)

SCAN_FILE = "scan.json"
FILES_FILE = "files.arrow"
SHARDS_FILE = "shards.arrow"
SUMMARY_FILE = "summary.json"
DETECTIONS_FOLDER = "detections"
_SHARD_NAME = re.compile(r"part-(\d+)\.parquet")
# Until format 2, result files were beside scan.json.
_OLD_SHARD_NAME = re.compile(r"detections-\d+\.parquet")

# Kept columns may be large. A reader needs memory for a few times a row group, and cannot read more
# than 2 GiB of a nested column in one.
_ROW_GROUP_BYTES = 32 << 20
# With an object store, each thread waits for a few requests.
_CHECKING_THREADS = 16


@dataclass(frozen=True)
class ResultsFolder:
    """The folder of one scan's results, and the names and forms of the files in it."""

    location: Location
    parameter: str = "out"
    """What errors call the folder."""

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
                    f"{self._shown}: another scan is writing to this folder now"
                ) from error
            except OSError as error:
                raise UsageError(
                    f"{self._shown}: cannot be written to: {self._reason(error)}"
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
                    f"give another folder{self._advice()}"
                )
            self.write(FILES_FILE, files.to_bytes())
            self.write(SCAN_FILE, format_record(scan))
            return
        try:
            before = record_of(ScanRecord, _read_json(file))
        except (OSError, ValueError) as error:
            raise ResumeMismatchError(
                f"{file.text}: not readable as a scan's record: {error}; give another folder"
                f"{self._advice()}"
            ) from error
        recorded = self.recorded_files() or self._files_made_again(files)
        differences = [
            *([] if recorded else [f"{FILES_FILE}: missing or damaged{self._advice()}"]),
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

    def _advice(self) -> str:
        """Return what helps against a damaged record, where its hash or its copy is left."""
        return ", or run `aigid verify --repair` first" if self.listed_shards() else ""

    def _files_made_again(self, files: ManifestFiles) -> ManifestFiles | None:
        """Write a missing `files.arrow` again, where `shards.arrow` says that it was the same."""
        data, listed = files.to_bytes(), self.shards_of_this_scan()
        if listed is None or exists(self.location.child(FILES_FILE)):
            return None
        if hashlib.sha256(data).hexdigest() != listed.files_sha256:
            return None
        self.write(FILES_FILE, data)
        return files

    def index_of(self, name: str) -> int | None:
        """Return the index of the shard whose result file has this name, or None."""
        found = _SHARD_NAME.fullmatch(name)
        return int(found[1]) if found and name == self.shard_name(int(found[1])) else None

    def committed(self) -> set[int]:
        """Return the indexes of the committed shards; their files are whole."""
        found = map(self.index_of, list_names(self.detections))
        return {index for index in found if index is not None}

    def listed_shards(self) -> ShardList | None:
        """Return the result files as the finished scan left them; None if missing or damaged."""
        file = self.location.child(SHARDS_FILE)
        try:
            return ShardList.from_bytes(read_bytes(file)) if exists(file) else None
        except (OSError, pa.ArrowException):
            # The scan writes it again, and `verify_results` tells of it.
            return None

    def shards_of_this_scan(self) -> ShardList | None:
        """Return `listed_shards`, but None where they are those of another scan."""
        listed, scan = self.listed_shards(), self.location.child(SCAN_FILE)
        return listed if listed and exists(scan) and read_bytes(scan) == listed.scan else None

    def other_files(self, shards: int) -> list[str]:
        """Return the names in `detections` of files and folders of none of so many shards.

        Hidden ones are left out: no program takes them for results.
        """
        found = [*list_names(self.detections), *list_others(self.detections)]
        names = [name for name in found if not name.startswith(".")]
        indexes = map(self.index_of, names)
        return [
            name
            for name, index in zip(names, indexes, strict=True)
            if index is None or index >= shards
        ]

    def new_list(self) -> ShardList:
        """Return an empty list of shards, for the scan that this folder holds."""
        scan = read_bytes(self.location.child(SCAN_FILE))
        files = hashlib.sha256(read_bytes(self.location.child(FILES_FILE))).hexdigest()
        return ShardList(scan, files)

    def write_shards(self, shards: ShardList) -> None:
        """Write `shards.arrow`, which a scan does just before it writes `summary.json`."""
        self.write(SHARDS_FILE, shards.to_bytes())

    def changed_shards(self, listed: ShardList) -> set[int]:
        """Return the indexes of the result files whose size or footer is not as listed.

        Files that are missing are not among them. This reads at most 64 KiB of each file: a change
        in the middle of a larger file is found by `verify_results` alone.
        """
        sizes = list_sizes(self.detections)

        def changed(shard: ListedShard) -> int | None:
            name, expected = self.shard_name(shard.index), (shard.size_bytes, shard.tail_sha256)
            if name not in sizes:
                return None
            same = sizes[name] == shard.size_bytes
            same = same and size_and_tail(self.detections.child(name)) == expected
            return None if same else shard.index

        found = bounded_map(changed, listed, _CHECKING_THREADS)
        return {index for index in found if index is not None}

    def discard(self, indexes: Iterable[int]) -> None:
        """Remove result files, and then `summary.json`: the scan is no longer finished.

        Raises ResultsError where they cannot be removed.
        """
        for index in sorted(indexes):
            self.remove(f"{DETECTIONS_FOLDER}/{self.shard_name(index)}")
        self.remove(SUMMARY_FILE)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there. Raises ResultsError where it cannot."""
        file = self.location.child(name)
        try:
            remove_file(file)
        except OSError as error:
            raise ResultsError(f"{file.text}: cannot be removed: {self._reason(error)}") from error

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
        self.write(f"{DETECTIONS_FOLDER}/{self.shard_name(index)}", buffer.getvalue())

    def read(self, shard: Shard, names: list[str] | None = None) -> pa.Table:
        """Return a shard's result file, or these columns of it.

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

    def as_listed(self, index: int, table: pa.Table) -> ListedShard:
        """Return a result file as `shards.arrow` lists it; `table` is what `read` returned of it.

        Raises ResultsError where it cannot be read, or has the content of another shard.
        """
        file = self.detections.child(self.shard_name(index))
        metadata = table.schema.metadata or {}
        held = metadata.get(b"aigid.shard", b"none").decode("ascii", "replace")
        try:
            if held != str(index):
                raise ValueError(f"it holds shard {held}")
            content = bytes.fromhex(metadata.get(b"aigid.content_sha256", b"").decode("ascii"))
            return ListedShard(index, table.num_rows, *size_and_tail(file), content)
        except (OSError, ValueError) as error:
            reason = explain_failure(error, file)
            raise ResultsError(
                f"{file.text}: damaged: {reason}; remove it and run the scan again"
            ) from error

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
        self.write(SUMMARY_FILE, format_record(summary))

    def write(self, name: str, data: bytes | pa.Buffer) -> None:
        """Write a file of the folder, whole or not at all. Raises ResultsError where it cannot."""
        try:
            write_atomic(self.location.child(name), data)
        except OSError as error:
            raise ResultsError(
                f"{self.location.text}: cannot write {name}: {self._reason(error)}; committed "
                "shards stay: solve the problem, then run the same command again"
            ) from error

    @property
    def _shown(self) -> str:
        return f"`{self.parameter}` {self.location.text}"

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
            f"version continues format {SCAN_FORMAT} only: give another folder as "
            f"`{self.parameter}`"
        )


def open_results(out: str, *, parameter: str = "out") -> ResultsFolder:
    """Return the results folder at a path or URI. Raises UsageError where none can be.

    Errors call it `parameter`.
    """
    location = locate(out)
    if location.is_read_only:
        raise UsageError(
            f"`{parameter}` {location.text}: only read from: give a folder or an object store"
        )
    return ResultsFolder(location, parameter)


def _read_json(file: Location) -> dict[str, Any]:
    values = json.loads(read_bytes(file))
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values
