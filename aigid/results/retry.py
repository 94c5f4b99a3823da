"""The rows of committed shards that failed and are scanned again; all others stay as they are."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aigid.bounded_map import bounded_map
from aigid.errors import ResultsError
from aigid.records import ErrorCode, RowError
from aigid.results.content_hash import content_sha256
from aigid.results.counting import count_values
from aigid.results.folder import SHARDS_FILE, SUMMARY_FILE, ResultsFolder
from aigid.results.schema import ShardAnswers
from aigid.shards import Shard
from aigid.storage import exists

# With an object store, each thread waits for a few requests.
_READING_THREADS = 16


@dataclass(frozen=True)
class FailedRows:
    """The rows of result files that failed with one of `codes`, and all errors of these files.

    `errors` counts the rows of each such file by error code; its keys are the indexes of shards.
    """

    codes: tuple[ErrorCode, ...]
    errors: dict[int, Counter[str]]

    @classmethod
    def of(
        cls, results: ResultsFolder, shards: Iterable[Shard], codes: tuple[ErrorCode, ...]
    ) -> "FailedRows":
        """Look for failed rows in the result files of these shards.

        Raises ResultsError where a file is missing or damaged.
        """

        def read(shard: Shard) -> tuple[int, Counter[str]]:
            return shard.index, Counter(
                count_values(results.read(shard, ["error"]).column("error"))
            )

        found = dict(bounded_map(read, shards, _READING_THREADS)) if codes else {}
        return cls(codes, {index: one for index, one in found.items() if one.keys() & set(codes)})

    @property
    def rows(self) -> int:
        """How many rows failed with one of the codes."""
        return sum(one[code] for one in self.errors.values() for code in self.codes)

    def count_scored(self, results: ResultsFolder, shards: Iterable[Shard]) -> int:
        """Return how many of the rows are scored now, in the new versions of the result files."""
        again = (shard for shard in shards if shard.index in self.errors)
        left = FailedRows.of(results, again, tuple(ErrorCode))
        before, now = (
            sum(one.total() for one in errors.values()) for errors in (self.errors, left.errors)
        )
        return before - now


def begin_retry(results: ResultsFolder) -> None:
    """Remove `summary.json` and `shards.arrow`: result files are about to get new versions.

    Raises ResultsError where they cannot be removed.
    """
    # In this order the folder is at any moment as a scan that was killed may leave it.
    results.remove(SUMMARY_FILE)
    results.remove(SHARDS_FILE)


@dataclass(frozen=True)
class ShardRetry:
    """The retry of shards that are in `results`: of their rows that failed with one of `codes`."""

    results: ResultsFolder
    codes: Collection[ErrorCode]

    def fill(self, answers: ShardAnswers) -> None:
        """Take the answers of a shard's result file, but for those that are to be found again.

        Does nothing where it has none. Raises ResultsError where it is damaged.
        """
        shard = answers.shard
        if not exists(self.results.detections.child(self.results.shard_name(shard.index))):
            return
        table = self.results.read(shard)
        errors = _errors_of(table)
        retried = [position for position, error in errors.items() if error.code in self.codes]
        answers.take_earlier(table, errors)
        for position in retried:
            del answers.errors[position]
            answers.evidence.pop(position, None)
            answers.hashes.pop(position, None)
        answers.retried = np.array(retried, np.int64)
        answers.others_sha256 = _others_sha256(answers, table)


def refuse_changed_rows(answers: ShardAnswers, table: pa.Table) -> None:
    """Raise ResultsError where a retry would change a row of `table` that it does not retry."""
    if answers.retried is not None and answers.others_sha256 != _others_sha256(answers, table):
        raise ResultsError(
            f"shard {answers.shard.index}: rows that are not retried would change: not committed; "
            "the manifest or the result file was changed: run `aigid verify`"
        )


def _others_sha256(answers: ShardAnswers, table: pa.Table) -> str:
    """Return the hash of the rows that are not retried."""
    is_other = np.ones(len(table), bool)
    is_other[answers.retried] = False
    return content_sha256(table.filter(pa.array(is_other)))


def _errors_of(table: pa.Table) -> dict[int, RowError]:
    """Return the errors of a result file's rows, by their positions."""
    positions = np.flatnonzero(np.asarray(pc.is_valid(table.column("error"))))
    failed = table.select(["error", "error_detail"]).take(pa.array(positions))
    return {
        position: RowError(ErrorCode(row["error"]), row["error_detail"])
        for position, row in zip(positions.tolist(), failed.to_pylist(), strict=True)
    }
