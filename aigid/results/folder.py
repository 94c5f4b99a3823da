"""The results folder: schema, atomic commits of shards, what was scanned, and the summary."""

import fcntl
import json
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aigid.bounded_map import bounded_map
from aigid.decisions import decide_ai, decide_source
from aigid.errors import ResultsError, ResumeMismatchError, UsageError
from aigid.manifest import Manifest
from aigid.manifest_files import ManifestFile, ManifestFiles
from aigid.records import SOURCES, ErrorCode, RowError
from aigid.results.json_records import format_record, parse_record
from aigid.results.summary import ErrorExample, ScanCounts, ScanSummary
from aigid.scorers import Scores
from aigid.shards import Shard
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
LOCK_FILE = ".lock"
RESERVED = ("manifest", "row", "p_ai", "is_ai", "source", "p_source", "error", "error_detail")
_TEXT_KEY = pa.dictionary(pa.int32(), pa.string())
# Of a scan's record, what is for people alone: another writing of the same manifest, other versions are no other scan.
_NO_CONDITION = {"manifests", "versions"}
_SHARD_NAME = re.compile(r"detections-(\d+)\.parquet")
_COUNTING_THREADS = 16


def results_schema(keep_schema: pa.Schema) -> pa.Schema:
    """The columns of a result file; raises UsageError where a kept column has the name of a result's."""
    taken = sorted(set(keep_schema.names) & set(RESERVED))
    if taken:
        raise UsageError(
            f"--keep {', '.join(taken)}: the results have a column of that name; rename it in the manifest"
        )
    before = [pa.field("manifest", _TEXT_KEY), pa.field("row", pa.int64())]
    after = [
        pa.field("p_ai", pa.float32()),
        pa.field("is_ai", pa.bool_()),
        pa.field("source", _TEXT_KEY),
        pa.field("p_source", pa.list_(pa.float32(), len(SOURCES))),
        pa.field("error", _TEXT_KEY),
        pa.field("error_detail", pa.string()),
    ]
    kept = [pa.field(field.name, field.type) for field in keep_schema]
    return pa.schema([*before, *kept, *after])


def result_table(
    manifest: Manifest,
    shard: Shard,
    kept: pa.Table,
    scores: Scores,
    errors: Mapping[int, RowError],
    threshold: float,
) -> pa.Table:
    """The result rows of a shard, one for each manifest row, in order; `errors` by position in the shard.

    Raises ResultsError where the rows out are not the rows in, or one has neither a probability nor an error.
    """
    failed, codes = np.zeros(shard.rows, dtype=bool), np.zeros(shard.rows, dtype=np.int32)
    failed[list(errors)] = True
    codes[list(errors)] = [_CODES.index(error.code) for error in errors.values()]
    is_ai = decide_ai(scores.p_ai, threshold)
    source = decide_source(is_ai, scores.p_source)
    files, rows = _row_ids(shard)
    columns = [
        pa.DictionaryArray.from_arrays(files, [segment.file.path for segment in shard.segments]),
        rows,
        *(kept.column(name) for name in manifest.columns.keep),
        pa.array(scores.p_ai, pa.float32(), mask=failed),
        pa.array(is_ai, pa.bool_(), mask=failed),
        pa.DictionaryArray.from_arrays(pa.array(source, pa.int32(), mask=failed), list(SOURCES)),
        pa.FixedSizeListArray.from_arrays(
            pa.array(scores.p_source.reshape(-1)), len(SOURCES), mask=pa.array(failed)
        ),
        pa.DictionaryArray.from_arrays(
            pa.array(codes, pa.int32(), mask=~failed), [code.value for code in _CODES]
        ),
        _details(errors, shard.rows),
    ]
    lengths = {len(column) for column in columns}
    if lengths != {shard.rows}:
        raise ResultsError(
            f"shard {shard.index}: {shard.rows} rows went in and {sorted(lengths)} came out: not committed"
        )
    lost = int(np.isnan(scores.p_ai[~failed]).sum())
    if lost:
        raise ResultsError(
            f"shard {shard.index}: {lost} of {shard.rows} rows have neither a probability nor an error: not committed"
        )
    return pa.Table.from_arrays(columns, schema=results_schema(manifest.keep_schema))


_CODES = list(ErrorCode)


def _details(errors: Mapping[int, RowError], rows: int) -> pa.Array:
    if not errors:
        return pa.nulls(rows, pa.string())
    found = [errors.get(position) for position in range(rows)]
    return pa.array([None if error is None else error.detail for error in found], pa.string())


def _row_ids(shard: Shard) -> tuple[pa.Array, pa.Array]:
    files = np.repeat(
        np.arange(len(shard.segments), dtype=np.int32), [segment.rows for segment in shard.segments]
    )
    rows = np.concatenate(
        [np.arange(segment.start, segment.stop, dtype=np.int64) for segment in shard.segments]
    )
    return pa.array(files), pa.array(rows)


@dataclass(frozen=True)
class ResultsFolder:
    """Where the results of one scan are, and how its files are named."""

    location: Location

    def shard_name(self, index: int) -> str:
        """The name of a shard's result file."""
        return f"detections-{index:06d}.parquet"

    def committed(self) -> set[int]:
        """The indexes of the shards whose result file exists, which means that it is whole."""
        found = map(_SHARD_NAME.fullmatch, list_names(self.location))
        return {int(name[1]) for name in found if name and name[0] == self.shard_name(int(name[1]))}

    def commit(self, index: int, table: pa.Table) -> None:
        """Write a shard's results so that the file exists whole or not at all; the same table gives the same bytes.

        Raises ResultsError where they cannot be written: no space, no permission, folder gone.
        """
        buffer = pa.BufferOutputStream()
        pq.write_table(table, buffer, compression="zstd", row_group_size=1 << 20)
        self._write(self.shard_name(index), buffer.getvalue())

    def recorded_files(self) -> ManifestFiles | None:
        """The manifest's files by the record of the scan that is there; None where there is none that can be read."""
        file = self.location.child(FILES_FILE)
        try:
            return ManifestFiles.from_bytes(read_bytes(file)) if exists(file) else None
        except (OSError, pa.ArrowException):
            # `claim` says so: here it only means that all is read anew.
            return None

    def claim(self, scan: Mapping[str, Any], files: ManifestFiles) -> None:
        """Write `scan.json` and `files.arrow`, or check that those there are of the same scan.

        Raises ResumeMismatchError where input, model or settings differ, naming what does.
        """
        file = self.location.child(SCAN_FILE)
        if not exists(file):
            if any(name.endswith(".parquet") for name in list_names(self.location)):
                raise ResumeMismatchError(
                    f"{self.location.text}: holds Parquet files but no {SCAN_FILE}: give another folder"
                )
            self._write(FILES_FILE, files.to_bytes())
            self._write(SCAN_FILE, _json(scan))
            return
        try:
            before = _read_record(file)
        except (OSError, ValueError) as error:
            raise ResumeMismatchError(
                f"{file.text}: not readable as a scan's record: {error}; give another folder"
            ) from error
        differing = [*self._other_files(files), *_differences(before, json.loads(_json(scan)))]
        if differing:
            raise ResumeMismatchError(
                f"{self.location.text}: holds a scan of another input, model or settings; differing: {'; '.join(differing)}. "
                "Give another folder, or the same input and settings to resume"
            )

    def _other_files(self, files: ManifestFiles) -> Iterator[str]:
        """What differs first in the manifest's files from those that were recorded; nothing where they are the same."""
        recorded = self.recorded_files()
        if recorded is None:
            yield f"{FILES_FILE}: missing or damaged"
        elif recorded != files:
            pairs = zip_longest(recorded, files)
            yield next(
                _other_file(number, old, new)
                for number, (old, new) in enumerate(pairs, 1)
                if old != new
            )

    def read_summary(self) -> ScanSummary | None:
        """Return the summary of a finished scan, or None; raises ResultsError where it is damaged."""
        file = self.location.child(SUMMARY_FILE)
        try:
            return parse_record(ScanSummary, read_bytes(file)) if exists(file) else None
        except (OSError, ValueError) as error:
            raise ResultsError(
                f"{file.text}: damaged: {error}; remove it and run the scan again"
            ) from error

    def write_summary(self, summary: ScanSummary) -> None:
        """Write `summary.json`, which marks the scan as finished."""
        self._write(SUMMARY_FILE, format_record(summary))

    def count(self, shards: Iterable[Shard]) -> ScanCounts:
        """Return the totals over all result files.

        Raises ResultsError where a file is missing, damaged, or has another number of rows than its shard.
        """

        def read(shard: Shard) -> tuple[Shard, pa.Table]:
            return shard, self.read(shard, ["source", "error"])

        sources: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        examples: dict[str, ErrorExample] = {}
        files = rows = 0
        for shard, table in bounded_map(read, shards, _COUNTING_THREADS):
            files, rows = files + 1, rows + table.num_rows
            sources.update(_tally(table.column("source")))
            found = _tally(table.column("error"))
            errors.update(found)
            for code in found.keys() - examples.keys():
                position = pc.index(table.column("error"), code).as_py()
                examples[code] = self._example(shard, position)
        failed = sum(errors.values())
        return ScanCounts(
            shards=files,
            rows=rows,
            scored=rows - failed,
            ai=sum(sources[name] for name in SOURCES[1:]),
            sources={name: sources[name] for name in SOURCES},
            errors=dict(sorted(errors.items())),
            error_rate=failed / rows,
            error_examples=dict(sorted(examples.items())),
        )

    def _example(self, shard: Shard, position: int) -> ErrorExample:
        table = self.read(shard, ["manifest", "row", "error_detail"]).slice(position, 1)
        row = table.to_pylist()[0]
        return ErrorExample(row["manifest"], row["row"], None, row["error_detail"])

    @contextmanager
    def open(self) -> Iterator[str]:
        """Make the folder and hold it alone while scanning; raises UsageError where that is not possible.

        Gives what `is_held_with` knows the holder by. (An object store has no locks: two scans that write there at a time
        do the same work twice, and commit the same files.)
        """
        token = secrets.token_hex(8)
        try:
            make_folder(self.location)
            lock = _lock(self.location, token)
        except BlockingIOError as error:
            raise UsageError(
                f"--out {self.location.text}: another scan is writing to this folder now"
            ) from error
        except OSError as error:
            raise UsageError(
                f"--out {self.location.text}: cannot be written to: {error.strerror}"
            ) from error
        try:
            yield token
        finally:
            if lock is not None:
                remove_leftovers(self.location)
                os.truncate(lock, 0)
                os.close(lock)

    def is_held_with(self, token: str) -> bool:
        """Whether another process, maybe on another machine, that holds this folder with `token` means the same folder."""
        lock = self.location.child(LOCK_FILE)
        return not self.location.is_local or (
            exists(lock) and read_bytes(lock).decode("ascii", "replace") == token
        )

    def _write(self, name: str, data: bytes | pa.Buffer) -> None:
        try:
            write_atomic(self.location.child(name), data)
        except OSError as error:
            raise ResultsError(
                f"{self.location.text}: cannot write {name}: {_reason(error, self.location)}; committed shards stay: "
                "make room or mend it, then run the same command again"
            ) from error

    def read(self, shard: Shard, names: list[str]) -> pa.Table:
        """Columns of a shard's result file; raises ResultsError where it is missing, damaged, or has not the shard's rows."""
        file = self.location.child(self.shard_name(shard.index))
        try:
            table = pq.read_table(file.path, filesystem=file.filesystem, columns=names)
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(
                f"{file.text}: damaged or missing: {error}; remove it and run the scan again"
            ) from error
        if table.num_rows != shard.rows:
            raise ResultsError(
                f"{file.text}: has {table.num_rows} rows, its shard {shard.rows}; remove it and run the scan again"
            )
        return table


def open_results(out: str) -> ResultsFolder:
    """The results folder at a path or URI."""
    return ResultsFolder(locate(out))


def _reason(error: OSError, location: Location) -> str:
    return (
        error.strerror if location.is_local and error.strerror else explain_failure(error, location)
    )


def _other_file(number: int, old: ManifestFile | None, new: ManifestFile | None) -> str:
    if old is None or new is None:
        return (
            f"input: file {number}: {old.path if old else 'none'} -> {new.path if new else 'none'}"
        )
    if old.path != new.path:
        return f"input: file {number}: {_short(old.path)} -> {_short(new.path)}"
    return f"input: {new.path}: its size, row groups or footer are others"


def _lock(folder: Location, token: str) -> int | None:
    """Lock a local folder and clear it of what killed writes left; the lock is held until the handle is closed."""
    if not folder.is_local:
        return None
    handle = os.open(Path(folder.path) / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(handle, 0)
        os.write(handle, token.encode("ascii"))
        remove_leftovers(folder)
    except OSError:
        os.close(handle)
        raise
    return handle


def _read_record(file: Location) -> dict[str, Any]:
    record = json.loads(read_bytes(file))
    if not isinstance(record, dict):
        raise ValueError("it is not a JSON object")
    return record


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, as `section.key: before -> now`; what is for people alone is no condition."""
    found = []
    for section in sorted((before.keys() | now.keys()) - _NO_CONDITION):
        old, new = before.get(section), now.get(section)
        if isinstance(old, dict) and isinstance(new, dict):
            keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            found += [
                f"{section}.{key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in keys
            ]
        elif old != new:
            found.append(f"{section}: {_short(old)} -> {_short(new)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _tally(column: pa.ChunkedArray) -> dict[str, int]:
    counts = column.drop_null().value_counts()
    return {item["values"]: item["counts"] for item in counts.to_pylist()}
