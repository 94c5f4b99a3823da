"""The totals of a scan, counted from its result files."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from aigid.bounded_map import bounded_map
from aigid.evidence import Says
from aigid.records import REAL, Verdict
from aigid.results.folder import ResultsFolder
from aigid.results.schema import OptionalColumns
from aigid.results.shard_list import ListedShard
from aigid.results.summary import ErrorExample, ScanCounts
from aigid.shards import Shard

# With an object store, each thread waits for a few requests.
_COUNTING_THREADS = 16
_EXAMPLE_COLUMNS = ["manifest", "row", "image", "error_detail"]


class ResultCounter:
    """Counts the rows of result files, which are added in the manifest's order."""

    def __init__(self, results: ResultsFolder, optional: OptionalColumns) -> None:
        self._results = results
        self._sources: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._examples: dict[str, ErrorExample] = {}
        self._evidence = Counter(dict.fromkeys(map(str, Says), 0)) if optional.evidence else None
        self._files = self._rows = 0

    def add(self, shard: Shard, table: pa.Table) -> None:
        """Count the values in columns of a shard's result file, which `counted` names."""
        self._files, self._rows = self._files + 1, self._rows + table.num_rows
        self._sources.update(count_values(table.column("source")))
        self._verdicts.update(count_values(table.column("verdict")))
        found = count_values(table.column("error"))
        self._errors.update(found)
        if self._evidence is not None:
            self._evidence.update(count_values(table.column("evidence")))
        for code in found.keys() - self._examples.keys():
            position = pc.index(table.column("error").cast(pa.string()), code).as_py()
            self._examples[code] = _example(self._results, shard, position)

    def totals(self, names: Sequence[str]) -> ScanCounts:
        """Return the totals; `names` are the sources that the model can name."""
        failed = self._errors.total()
        return ScanCounts(
            shards=self._files,
            rows=self._rows,
            scored=self._rows - failed,
            ai=sum(self._sources[name] for name in names if name != REAL),
            verdicts={name.value: self._verdicts[name] for name in Verdict},
            sources={name: self._sources[name] for name in names},
            errors=dict(sorted(self._errors.items())),
            error_rate=failed / self._rows if self._rows else 0.0,
            error_examples=dict(sorted(self._examples.items())),
            evidence=None if self._evidence is None else dict(self._evidence),
        )


def count_results(
    results: ResultsFolder,
    shards: Iterable[Shard],
    names: Sequence[str],
    optional: OptionalColumns = OptionalColumns(),
    on_shard: Callable[[ListedShard], None] = lambda shard: None,
) -> ScanCounts:
    """Return the totals over the result files of these shards, which are in the manifest's order.

    `names` are the sources that the model can name; a source without rows has 0. `on_shard` is
    called with each file, as `shards.arrow` lists it.

    Raises ResultsError where a file is missing or damaged, or has not the rows of its shard.
    """

    def read(shard: Shard) -> tuple[Shard, pa.Table, ListedShard]:
        table = results.read(shard, optional.counted)
        return shard, table, results.as_listed(shard.index, table)

    counter = ResultCounter(results, optional)
    for shard, table, listed in bounded_map(read, shards, _COUNTING_THREADS):
        counter.add(shard, table)
        on_shard(listed)
    return counter.totals(names)


def _example(results: ResultsFolder, shard: Shard, position: int) -> ErrorExample:
    row = results.read(shard, _EXAMPLE_COLUMNS).slice(position, 1).to_pylist()[0]
    return ErrorExample(row["manifest"], row["row"], row["image"], row["error_detail"])


def count_values(column: pa.ChunkedArray) -> dict[str, int]:
    """Return how many rows have each value of a column; nulls are left out."""
    counts = column.drop_null().value_counts()
    return {item["values"]: item["counts"] for item in counts.to_pylist()}
