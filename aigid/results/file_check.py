"""The check of one result file: its bytes, its metadata, its columns and its rows."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from aigid.decisions import VERDICTS, decide_ai, decide_verdict
from aigid.results.content_hash import content_sha256
from aigid.results.file_metadata import decision_metadata
from aigid.results.finding import FindingKind
from aigid.results.record import ScanRecord, optional_columns_of
from aigid.results.schema import column_names
from aigid.results.shard_list import ListedShard, size_and_tail
from aigid.shards import Shard
from aigid.sources import Segment
from aigid.storage import Location, explain_failure

_MARKER = b"PAR1"


class FileProblem(Exception):  # noqa: N818 - carries what is wrong to the finding; never shown
    """Raised where a result file is not what it must be; `row` is the first wrong row."""

    def __init__(self, kind: FindingKind, detail: str, row: int | None = None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.row = kind, detail, row


@dataclass(frozen=True)
class ResultFile:
    """A result file, and what it is to be: as far as records that are whole tell it."""

    file: Location
    index: int
    scan: ScanRecord | None = None
    shard: Shard | None = None
    listed: ListedShard | None = None

    def check(self) -> pa.Table:
        """Return the columns of the file whose values the summary counts. Raises as `read` does."""
        return self.read().select(optional_columns_of(self.scan).counted)

    def read(self) -> pa.Table:
        """Return the rows of the file, with its metadata.

        Raises FileProblem for the first thing that is wrong with it.
        """
        same_bytes = self._has_listed_bytes()
        metadata = held_metadata(self.file)
        self._check_metadata(metadata)
        table = self._read()
        misplaced = self._first_wrong_row(table)
        if content_sha256(table) != metadata.get("content_sha256"):
            where = f": {misplaced[1]}" if misplaced else ""
            raise FileProblem(
                FindingKind.EDITED,
                f"its rows have another hash than its metadata says{where}",
                misplaced[0] if misplaced else None,
            )
        if misplaced:
            raise FileProblem(FindingKind.ROWS, misplaced[1], misplaced[0])
        self._check_decisions(table)
        self._check_listed(metadata["content_sha256"], same_bytes)
        return table

    def _has_listed_bytes(self) -> bool:
        try:
            found = size_and_tail(self.file)
        except OSError as error:
            reason = explain_failure(error, self.file)
            raise FileProblem(FindingKind.DAMAGED, f"cannot be read: {reason}") from error
        return self.listed is None or found == (self.listed.size_bytes, self.listed.tail_sha256)

    def _check_metadata(self, metadata: dict[str, str]) -> None:
        if "shard" not in metadata:
            raise FileProblem(FindingKind.FOREIGN, "its metadata does not name a shard of aigid")
        if self.scan is not None:
            for name, expected in scorer_metadata(self.scan).items():
                if metadata.get(name) != expected:
                    raise FileProblem(
                        FindingKind.ANOTHER_MODEL,
                        f"{name} {metadata.get(name)}: the scan's is {expected}",
                    )
        if metadata["shard"] != str(self.index):
            raise FileProblem(FindingKind.SWAPPED, f"it has the rows of shard {metadata['shard']}")

    def _read(self) -> pa.Table:
        """Return the whole file; each page's checksum is verified."""
        row = 0
        tables = []
        try:
            with pq.ParquetFile(
                self.file.path, filesystem=self.file.filesystem, page_checksum_verification=True
            ) as parquet:
                self._check_columns(parquet.schema_arrow)
                for group in range(parquet.num_row_groups):
                    tables.append(parquet.read_row_group(group))
                    row += len(tables[-1])
                return pa.concat_tables(tables) if tables else parquet.schema_arrow.empty_table()
        except (OSError, pa.ArrowException) as error:
            reason = explain_failure(error, self.file)
            raise FileProblem(FindingKind.DAMAGED, reason, row) from error

    def _check_columns(self, schema: pa.Schema) -> None:
        if self.scan is None:
            return
        expected = column_names(self.scan.settings.columns.keep, optional_columns_of(self.scan))
        if schema.names != expected:
            raise FileProblem(
                FindingKind.ANOTHER_SCAN,
                f"its columns are {', '.join(schema.names)}: the scan's are {', '.join(expected)}",
            )

    def _first_wrong_row(self, table: pa.Table) -> tuple[int, str] | None:
        """Return the position of the first row that is not its shard's, and what it has."""
        if self.shard is None:
            return None
        names = table.column("manifest").cast(pa.string()).combine_chunks()
        rows = table.column("row").to_numpy()
        position = 0
        for segment, count in shard_runs(self.shard, names):
            path, start = segment.file.path, segment.file.first_row + segment.start
            same = np.asarray(
                pc.fill_null(pc.equal(names[position : position + count], path), False)
            )
            found = rows[position : position + count]
            same = same & (found == np.arange(start, start + len(found)))
            if len(found) < count or not same.all():
                wrong = int(np.argmin(same)) if not same.all() else len(found)
                return _misplaced(names, rows, position + wrong, f"row {start + wrong} of {path}")
            position += count
        if position < len(rows):
            return _misplaced(names, rows, position, "the end")
        return None

    def _check_decisions(self, table: pa.Table) -> None:
        """Check that each row has either an answer or an error, and the decision that follows."""
        p_ai = table.column("p_ai").to_numpy()
        failed = np.asarray(pc.is_valid(table.column("error")))
        wrong = np.isnan(p_ai) != failed
        if self.scan is not None:
            settings = self.scan.settings
            is_ai = np.asarray(pc.fill_null(table.column("is_ai"), False))
            wrong |= ~failed & (is_ai != decide_ai(p_ai, settings.threshold))
            verdict = pc.index_in(table.column("verdict").cast(pa.string()), pa.array(VERDICTS))
            decided = np.where(failed, -1, decide_verdict(p_ai, settings.verdicts))
            wrong |= np.asarray(pc.fill_null(verdict, -1)) != decided
        if wrong.any():
            raise FileProblem(
                FindingKind.EDITED,
                "its columns p_ai, is_ai, verdict and error contradict each other",
                int(np.argmax(wrong)),
            )

    def _check_listed(self, content: str, same_bytes: bool) -> None:
        if self.listed is None:
            return
        if content != self.listed.content_sha256.hex():
            raise FileProblem(FindingKind.EDITED, "shards.arrow lists other rows of this shard")
        if not same_bytes:
            raise FileProblem(
                FindingKind.DAMAGED, "its bytes are not as shards.arrow lists them; its rows are"
            )


def held_metadata(file: Location) -> dict[str, str]:
    """Return aigid's values in a Parquet file's metadata, by their names without "aigid.".

    Raises FileProblem where it is no whole Parquet file.
    """
    try:
        with file.filesystem.open_input_file(file.path) as source:
            begin, size = bytes(source.read(4)), source.size()
            source.seek(max(0, size - 4))
            end = bytes(source.read(4))
            if _MARKER not in (begin, end) and begin:
                raise FileProblem(FindingKind.DAMAGED, "not a Parquet file")
            if end != _MARKER or size < 12:
                raise FileProblem(
                    FindingKind.TRUNCATED, f"its end is missing: it has {size:,} bytes"
                )
            source.seek(0)
            metadata = pq.read_metadata(source).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise FileProblem(FindingKind.DAMAGED, explain_failure(error, file)) from error
    return {
        key.decode("utf-8", "replace").removeprefix("aigid."): value.decode("utf-8", "replace")
        for key, value in metadata.items()
        if key.startswith(b"aigid.")
    }


def scorer_metadata(scan: ScanRecord) -> dict[str, str]:
    """Return what a result file's metadata says of its model and decisions, without "aigid."."""
    return {
        "model": scan.model.name,
        "fingerprint": scan.model.fingerprint,
        "precision": scan.model.precision,
        "labels": json.dumps(scan.model.labels),
        **decision_metadata(scan.settings.threshold, scan.settings.verdicts),
    }


def shard_runs(shard: Shard, names: pa.Array | None) -> Iterator[tuple[Segment, int]]:
    """Yield the segments of a shard, and the number of rows of each.

    A tar whose rows no plan knows has as many as the results say: `names` are the values of the
    column `manifest`, and may be None where all rows are known.
    """
    position = 0
    for segment in shard.segments:
        count = segment.rows
        if segment.stop is None:
            assert names is not None, "the plan does not know the rows"
            path = segment.file.path
            other = np.asarray(pc.fill_null(pc.not_equal(names[position:], path), True))
            count = int(np.argmax(other)) if other.any() else len(other)
        yield segment, count
        position += count


def _misplaced(
    names: pa.Array, rows: npt.NDArray[np.int64], position: int, expected: str
) -> tuple[int, str]:
    found = "the end"
    if position < len(rows):
        found = f"row {rows[position]} of {names[position].as_py()}"
    return position, f"it has {found} where {expected} belongs"
